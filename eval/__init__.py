"""Thin entry points for evaluation; never installed as a package."""
