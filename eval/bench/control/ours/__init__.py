"""Our side of each comparison."""
