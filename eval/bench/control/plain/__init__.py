"""Yardsticks in plain PyTorch, where no peer is at hand: what one writes down first."""
