"""The lower level's update against a second implementation, its closed forms, and the tables."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from irl_align.control.bicql.step import LOSSES, asked, compiled_update, update
from irl_align.control.sac.compiling import why_not
from irl_align.tabular.bicql import BiCQLSettings, Levels
from irl_align.tabular.mdp import make_mdp


class Plainly:
    """The same update with torch's own optimiser, member by member and state by state."""

    def __init__(self, learner):
        self.learner = learner
        self.critic = copy.deepcopy(learner.parts.critic)
        self.target = copy.deepcopy(learner.parts.target)
        self.optimiser = torch.optim.Adam(self.critic.parameters(), lr=learner.config.learning_rate)

    def q(self, critic, states, actions, member):
        return critic(states, actions)[member]

    def tried_values(self, critic, state, tried, row, member):
        """[M] in one state."""
        if self.learner.spaces.discrete_actions is not None:
            return torch.stack(
                [critic(state[None], unit[None])[member, 0] for unit in torch.eye(3)]
            )
        actions = tried.actions[row]
        return critic(state.expand(len(actions), -1), actions)[member]

    def soft(self, values, tried, row):
        return torch.log((values + tried.log_weights[row]).exp().sum())

    def step(self, rows, rewards, generator, alpha):
        learner, settings = self.learner, self.learner.settings
        batch, half = learner.layout.unpack(rows), len(rows) // 2
        where = asked(settings, half)
        here = learner.proposals.tried(batch.observations[where], batch.actions[where], generator)
        there = learner.proposals.tried(batch.next_observations, None, generator)
        raised = learner.proposals.blurred(batch.actions, generator)
        members = learner.config.members
        targets = []
        with torch.no_grad():
            for row in range(len(rows)):
                each = [
                    self.tried_values(self.target, batch.next_observations[row], there, row, k)
                    for k in range(members)
                ]
                least = torch.stack(each).min(dim=0).values
                value = self.soft(least, there, row)
                going = settings.gamma * (1 - batch.terminated[row])
                targets.append(rewards[row] + going * value)
        weight = settings.expert_weight
        m = [weight / half] * half + [(1 - weight) / half] * half
        over = m if settings.over_mixture else [0.0] * half + [1 / half] * half
        first = where.start
        total = 0.0
        for k in range(members):
            for row in range(len(rows)):
                q = self.q(self.critic, batch.observations, batch.actions, k)[row]
                lifted = self.q(self.critic, batch.observations, raised, k)[row]
                total = total + (q - targets[row]) ** 2 / len(rows) - alpha * m[row] * lifted
                if over[row]:
                    values = self.tried_values(
                        self.critic, batch.observations[row], here, row - first, k
                    )
                    total = total + alpha * over[row] * self.soft(values, here, row - first)
        self.optimiser.zero_grad()
        total.backward()
        clip = settings.gradient_clip
        torch.nn.utils.clip_grad_norm_(self.critic.parameters(), clip or math.inf)
        self.optimiser.step()
        with torch.no_grad():
            pairs = zip(self.target.parameters(), self.critic.parameters(), strict=True)
            for slow, fast in pairs:
                slow.copy_((1 - settings.tau) * slow + settings.tau * fast)
        return total.item()


CASES = [
    (0.7, "mixture", None),
    (1.0, "mixture", 0.5),
    (0.0, "mixture", None),
    (0.7, "data", 10.0),
]


@pytest.mark.parametrize("kind", ["box", "indices"])
@pytest.mark.parametrize(("weight", "states", "clip"), CASES)
def test_against_a_second_implementation(
    learner, drawn, spaces, indexed, kind, weight, states, clip
):
    where = spaces if kind == "box" else indexed
    one = learner(
        where,
        critic={"tau": 0.1, "gradient_clip": clip, "learning_rate": 1e-3, "activation": "tanh"},
        conservative={"alpha": 1.3, "expert_weight": weight, "states": states},
    )
    other = Plainly(one)
    for seed in range(3):
        rows, rewards = drawn(where, 4, seed)
        losses = one.update(rows, rewards, torch.Generator().manual_seed(seed))
        total = other.step(rows, rewards, torch.Generator().manual_seed(seed), 1.3)
        assert losses[0].item() == pytest.approx(total, rel=1e-4)
    for mine, plain in ((one.parts.critic, other.critic), (one.parts.target, other.target)):
        for a, b in zip(mine.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("states", ["mixture", "data"])
def test_in_a_table_it_is_the_table_s_gradient(learner, indexed, states, weight):
    """Four states as unit vectors, a critic without hidden layers: Q[s, a] is a weight. The rows
    are all that D and D_E hold, so every expectation is exact."""
    rng = np.random.default_rng(0)
    half = 60
    s, a, t = (
        rng.integers(0, 4, 2 * half),
        rng.integers(0, 3, 2 * half),
        rng.integers(0, 4, 2 * half),
    )
    counts = np.zeros((2, 4, 3))
    np.add.at(counts, (np.repeat([0, 1], half), s, a), 1)
    shown = np.zeros((4, 3, 4))
    np.add.at(shown, (s, a, t), 1)
    assert (shown.sum(2) > 0).all()
    mdp = make_mdp(shown / shown.sum(2, keepdims=True), 0.9)
    settings = BiCQLSettings(alpha=1.7, expert_weight=weight, states=states)
    levels = Levels(mdp, counts[1], counts[0], settings)
    one = learner(
        indexed,
        critic={"hidden": [], "members": 1, "gamma": 0.9, "gradient_clip": None, "tau": 1e-9},
        conservative={"alpha": 1.7, "expert_weight": weight, "states": states},
    )
    layer = one.parts.critic.net.layers[0]
    q = rng.normal(size=(4, 3))
    slow = rng.normal(size=(4, 3))
    with torch.no_grad():
        for critic, table in ((one.parts.critic, q), (one.parts.target, slow)):
            critic.net.layers[0].weight.copy_(torch.from_numpy(table)[None])
            critic.net.layers[0].bias.zero_()
    rewards = rng.normal(size=(4, 3))
    units = np.eye(4)
    rows = torch.tensor(
        np.concatenate([units[s], np.eye(3)[a], units[t], np.zeros((2 * half, 1))], 1),
        dtype=torch.float32,
    )
    losses = one.update(rows, torch.tensor(rewards[s, a]).float(), torch.Generator())
    target = levels.target(rewards, slow)
    # Adam's running mean of gradients is a tenth of the first one.
    found = one.parts.critic_moments.first[
        [id(p) for p in one.parts.critic.parameters()].index(id(layer.weight))
    ]
    np.testing.assert_allclose(10 * found[0], levels.lower_gradient(q, target), atol=2e-5)
    gap = LOSSES.index("gap")
    assert losses[gap].item() == pytest.approx(levels.conservative(q), abs=1e-5)


def test_without_the_conservative_term_nothing_moves(learner, drawn, spaces):
    """Rewards that are the soft advantages of Q: alpha = 0 stays, alpha = 1 does not."""
    for alpha in (0.0, 1.0):
        one = learner(
            spaces, critic={"members": 1, "tau": 1.0}, conservative={"alpha": alpha},
        )  # fmt: skip
        before = copy.deepcopy(one.parts.critic.state_dict())
        worst = 0.0
        for seed in range(20):
            rows, _ = drawn(spaces, 8, seed)
            # The same draws in s' as the update will make after those in s.
            generator = torch.Generator().manual_seed(seed)
            batch = one.layout.unpack(rows)
            one.proposals.tried(batch.observations, batch.actions, generator)
            rewards = one.advantages(rows, generator)
            losses = one.update(rows, rewards, torch.Generator().manual_seed(seed))
            worst = max(worst, losses[LOSSES.index("bellman_error")].item())
        assert worst < 1e-10
        moved = max(
            (before[name] - value).abs().max().item()
            for name, value in one.parts.critic.state_dict().items()
        )
        # Adam makes a step of rounding, too, but not twice in the same direction.
        assert (moved > 3e-3) == (alpha > 0)


def test_the_advantage_is_that_of_the_critics_mean(learner, drawn, spaces, indexed):
    """r = A is to leave the mean of both critics where it is: E[Q_1 - y] = -E[Q_2 - y]."""
    for where in (spaces, indexed):
        one = learner(where, critic={"tau": 1.0})
        with torch.no_grad():
            for slow in one.parts.target.parameters():
                slow.add_(0.3 * torch.randn_like(slow))
        rows, _ = drawn(where, 4)
        batch = one.layout.unpack(rows)
        found = one.advantages(rows, torch.Generator().manual_seed(3))
        tried = one.proposals.tried(batch.next_observations, None, torch.Generator().manual_seed(3))
        least = one.parts.critic.spread(batch.next_observations, tried.actions).amin(dim=0)
        value = (least + tried.log_weights).exp().sum(dim=-1).log()
        q = one.parts.critic(batch.observations, batch.actions)
        assert (q[0] - q[1]).abs().max() > 1e-2
        wanted = q.mean(dim=0) - 0.99 * (1 - batch.terminated) * value
        torch.testing.assert_close(found, wanted.detach(), atol=1e-5, rtol=1e-5)


def test_a_level_that_fell_comes_to_rest(learner, drawn, indexed):
    """Q and r = A fit each other at any level; see `QLearner.advantages`."""
    one = learner(
        indexed,
        critic={"hidden": [], "members": 1, "tau": 0.02, "learning_rate": 0.02},
        conservative={"alpha": 0.0},
    )
    rows, _ = drawn(indexed, 16)
    rows[:, -1] = 0.0  # nothing ends
    generator = torch.Generator().manual_seed(0)

    def level():
        batch = one.layout.unpack(rows)
        return one.parts.critic(batch.observations, batch.actions).mean().item()

    start = level()
    with torch.no_grad():
        for name, parameter in one.parts.critic.named_parameters():
            if "bias" in name:
                parameter.sub_(3.0)
    levels = []
    for _ in range(20):
        rewards = one.advantages(rows, generator)
        for _ in range(50):
            one.update(rows, rewards, generator)
        levels.append(level())
    # The slow critics call it back half-way; it falls no further.
    assert start - 3.0 < min(levels) and max(levels) < start
    assert abs(levels[-1] - levels[-5]) < 0.1


def test_alpha_follows_its_target_gap(learner, drawn, spaces):
    def tuned(target, **more):
        one = learner(
            spaces,
            conservative={"alpha": 2.0, "target_gap": target, "alpha_learning_rate": 0.01, **more},
        )
        rows, rewards = drawn(spaces, 8)
        gaps = []
        for seed in range(10):
            losses = one.update(rows, rewards, torch.Generator().manual_seed(seed))
            gaps.append(losses[LOSSES.index("gap")].item())
        return one.parts.log_alpha.exp().item(), np.mean(gaps)

    (low, gap), (high, _) = tuned(100.0), tuned(-100.0)
    assert low < 1.9 < 2.1 < high and -100 < gap < 100
    # Adam's first steps have the size of its rate, whatever the slope.
    assert math.log(high / 2) == pytest.approx(0.1, rel=0.05)
    assert tuned(-100.0, alpha_max=2.05)[0] == pytest.approx(2.05, rel=1e-5)
    assert tuned(None)[0] == pytest.approx(2.0)


def test_the_gradient_is_clipped_to_its_norm(learner, drawn, spaces):
    norms = []
    for clip in (None, 0.01):
        one = learner(spaces, critic={"gradient_clip": clip})
        rows, rewards = drawn(spaces, 8)
        one.update(rows, 100 * rewards, torch.Generator().manual_seed(0))
        first = [10 * m for m in one.parts.critic_moments.first]
        norms.append(math.sqrt(sum(m.square().sum().item() for m in first)))
    assert norms[0] > 1 and norms[1] == pytest.approx(0.01, rel=1e-3)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_compiled_and_eager_give_the_same_numbers(learner, drawn, spaces):
    eager, compiled = (
        learner(spaces, conservative={"target_gap": 0.5}, critic={"tau": 0.1}) for _ in range(2)
    )
    for seed in range(5):
        rows, rewards = drawn(spaces, 8, seed)
        compiled.compiled = True
        losses = [
            one.update(rows, rewards, torch.Generator().manual_seed(seed))
            for one in (eager, compiled)
        ]
        torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-4)
    for mine, other in (
        (eager.parts.critic, compiled.parts.critic),
        (eager.parts.target, compiled.parts.target),
    ):
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    torch.testing.assert_close(eager.parts.log_alpha, compiled.parts.log_alpha)


def test_machine_code_is_shared_where_it_fits(learner, drawn, spaces, monkeypatch):
    asked_for = []

    def code(*kind):
        asked_for.append(kind)
        return update

    monkeypatch.setattr("irl_align.control.bicql.step._compiled", code)
    for half, options in ((4, {}), (4, {}), (5, {}), (4, {"gamma": 0.5}), (4, {"hidden": [9]})):
        one = learner(spaces, critic=options)
        one.compiled = True
        one.update(*drawn(spaces, half), torch.Generator().manual_seed(0))
    assert asked_for[0] == asked_for[1] and len(set(asked_for)) == 4
    assert compiled_update is not update
