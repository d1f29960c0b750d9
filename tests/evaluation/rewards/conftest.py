import os

# Nothing here may reach for a hub or a proxy.
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
