"""What every domain shares: the round loop, the outer objectives, runs on disk, configuration.

Core knows no domain. It imports the standard library, numpy, torch and omegaconf only, and
torch only where tensors are used.
"""
