"""The other side of each comparison. Imports nothing of the project but the stopwatch."""
