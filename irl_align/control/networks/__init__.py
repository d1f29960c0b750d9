"""Actors, critics and reward nets."""
