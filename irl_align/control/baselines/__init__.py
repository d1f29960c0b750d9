"""Learners from demonstrations to compare ML-IRL with, each shaped as `ml_irl` is."""
