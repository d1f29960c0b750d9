"""The methods that ML-IRL is compared with, each shaped as `ml_irl` is, on the same SAC."""
