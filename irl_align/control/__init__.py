"""Continuous control: environments, demonstrations, rollouts, replay and networks.

Nothing here but `environments.ants` imports gymnasium, mujoco, minari or h5py at import time.
"""
