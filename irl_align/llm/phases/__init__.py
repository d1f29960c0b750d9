"""The phases of a run: what each reads and writes, and how it gets processes of its own."""
