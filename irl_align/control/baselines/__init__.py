"""The methods that ML-IRL is compared with, on the same SAC, environments and budget of steps."""
