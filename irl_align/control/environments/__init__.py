"""Environments by short names (`making.make`), and the pair of ants for reward transfer."""
