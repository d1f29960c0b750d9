"""What a policy of exp Q is worth, and what Q says of the data that it was learned from."""

from __future__ import annotations

import torch
from torch import Tensor

from irl_align.control.bicql.learner import QLearner
from irl_align.control.evaluating import ReturnEvaluator
from irl_align.control.spaces import Spaces
from irl_align.control.transitions import Transitions
from irl_align.core.protocols import Metrics, PhaseContext

# Rows of D_E and of D that an evaluation looks at.
_LOOKED_AT = 1_000


class Judged:
    """The evaluation: `ReturnEvaluator`, and in the same rounds what Q says of the data.

    `eval/demo_log_prob` is E_{D_E}[log pi(a|s)] in densities of the box scaled to [-1, 1] (of
    indices: of probabilities), the likelihood that all of this maximises; `eval/{q_demo,q_data,
    q_uniform}` are means of Q over D_E, D and uniform actions in D's states: values of actions that
    nobody took should not lie above those of the data.
    """

    def __init__(
        self, returns: ReturnEvaluator, demonstrations: Transitions, data: Transitions
    ) -> None:
        self.returns = returns
        self.demonstrations, self.data = demonstrations.head(_LOOKED_AT), data.head(_LOOKED_AT)

    def evaluate(self, policy: QLearner, reward: object, ctx: PhaseContext, /) -> Metrics:
        found = dict(self.returns.evaluate(policy, reward, ctx))
        found["steps/updates"] = policy.updates
        if not self.returns.due(ctx.round, policy.steps):
            return found
        # The same numbers in every evaluation: what changes is Q.
        generator = torch.Generator().manual_seed(0)
        shown, drawn = self.demonstrations.batch, self.data.batch
        tried = policy.proposals.tried(shown.observations, shown.actions, generator)
        q_demo = policy.values(shown.observations, shown.actions)
        log_prob = q_demo - policy.soft_values(shown.observations, tried)
        uniform = _uniform_actions(policy.spaces, len(drawn.actions), generator)
        found["eval/demo_log_prob"] = log_prob.mean().item()
        found["eval/q_demo"] = q_demo.mean().item()
        found["eval/q_data"] = policy.values(drawn.observations, drawn.actions).mean().item()
        found["eval/q_uniform"] = policy.values(drawn.observations, uniform).mean().item()
        return found


def _uniform_actions(spaces: Spaces, count: int, generator: torch.Generator) -> Tensor:
    """[count, A], or unit vectors [count, n] of indices."""
    if spaces.discrete_actions is not None:
        index = torch.randint(spaces.discrete_actions, (count,), generator=generator)
        return torch.nn.functional.one_hot(index, spaces.discrete_actions).float()
    low, high = torch.from_numpy(spaces.action_low), torch.from_numpy(spaces.action_high)
    return low + (high - low) * torch.rand(count, spaces.action_dim, generator=generator)
