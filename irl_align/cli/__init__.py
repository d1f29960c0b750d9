"""The program `irl-align`: one module per command, heavy imports inside the commands."""
