"""Absorbing states: an early end as a state of its own (DAC, Kostrikov et al. 2019, sec. 4).

When an episode may end early, "nothing comes after" silently means "reward 0 for ever": a learned
reward that is positive everywhere then pays for survival, a negative one for suicide, whatever the
demonstrations did. Here every observation gets one more number, 0 while the episode lasts. The
step that terminates leads to the absorbing state (all 0, flag 1), which leads to itself under the
zero action, and nothing is ever marked as terminated: the reward of being over is learned too.

The terminal observation itself is given up for the absorbing state, since no action is taken there.
"""

from __future__ import annotations

import numpy as np

from irl_align.control.trajectories import Floats, Trajectories, Trajectory


def with_flag(observations: Floats) -> Floats:
    """[..., O] -> [..., O + 1] with the flag 0."""
    zeros = np.zeros((*observations.shape[:-1], 1), dtype=np.float32)
    return np.concatenate([observations, zeros], axis=-1, dtype=np.float32)


def absorbing_state(observation_dim: int) -> Floats:
    """[O] with the flag, which `observation_dim` counts, set to 1 and everything else to 0."""
    state = np.zeros(observation_dim, dtype=np.float32)
    state[-1] = 1.0
    return state


def with_flags(trajectories: Trajectories) -> Trajectories:
    """Demonstrations for learners that work with the flag, O + 1; nothing is appended yet."""
    return Trajectories(
        Trajectory(with_flag(t.observations), t.actions, t.terminated, t.truncated)
        for t in trajectories
    )


def padded_with_absorbing_states(trajectories: Trajectories, horizon: int) -> Trajectories:
    """Terminated trajectories go on in the absorbing state until they have `horizon` steps.

    Observations carry the flag already. Others, cut by a time limit, stay as they are: what would
    have come after is unknown, not nothing. Raises ValueError when a trajectory exceeds `horizon`,
    or terminated and arrived with a flag set (it was padded before).
    """
    return Trajectories(_padded(trajectory, horizon) for trajectory in trajectories)


def _padded(trajectory: Trajectory, horizon: int) -> Trajectory:
    length = len(trajectory)
    if length > horizon:
        raise ValueError(f"a trajectory of {length} steps exceeds the horizon {horizon}")
    if not trajectory.terminated:
        return trajectory
    if trajectory.observations[:, -1].any():
        raise ValueError("the last number of an observation must be the flag 0 before padding")
    absorbing = absorbing_state(trajectory.observations.shape[1])
    rest = horizon - length
    observations = np.concatenate([trajectory.observations[:-1], np.tile(absorbing, (rest + 1, 1))])
    idle = np.zeros((rest, trajectory.actions.shape[1]), dtype=np.float32)
    actions = np.concatenate([trajectory.actions, idle])
    return Trajectory(observations, actions, terminated=False, truncated=True)
