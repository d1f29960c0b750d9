"""Completions from a policy: vLLM, Hugging Face generate or an endpoint behind one interface."""
