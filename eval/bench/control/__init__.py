"""Control against its peers: Stable-Baselines3, SBX and imitation, all on one core.

The peers live in an environment of their own (`make peers`), because their dependencies do not go
with ours. So every measurement is a process: a module of `ours` or of `peers` that prints one line
of JSON, and `turns` lets the two take turns.
"""
