"""Reward models: learn, save, load, score."""
