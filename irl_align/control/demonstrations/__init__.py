"""Reading, checking and saving demonstrations of control. See README.md."""
