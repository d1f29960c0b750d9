"""Speed claims against their peers: `python -m eval.bench`."""
