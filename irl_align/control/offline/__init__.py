"""Learning from data that is there: data sets, and policies improved inside a world model."""
