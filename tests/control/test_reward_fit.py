from __future__ import annotations

import copy

import pytest
import torch

from irl_align.control.buffers import Batch
from irl_align.control.config import RewardConfig
from irl_align.control.reward_fit import LearnedReward, Weighted, fit_reward
from irl_align.core.errors import UserError

HORIZON = 6


def weighted(trajectories, gamma=1.0) -> Weighted:
    return Weighted.of(trajectories, HORIZON, gamma)


def learned(**changes) -> LearnedReward:
    options = {"hidden": [8], "weight_decay": 0.0, "learning_rate": 1e-2, **changes}
    return LearnedReward(4, 2, RewardConfig(**options), seed=0)


def flat(net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_returns_are_sums_over_a_trajectory_s_own_pairs(trajectories, gamma):
    part = weighted(trajectories, gamma)

    def reward(s, a):
        return s[..., 0] * a[..., 1]

    found = part.returns(reward(part.observations, part.actions))
    expected = [
        sum(
            gamma**t * float(tau.observations[t, 0] * tau.actions[t, 1]) / HORIZON
            for t in range(len(tau))
        )
        for tau in trajectories
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_step_follows_the_likelihood_gradient(build):
    """One step of plain descent against finite differences of E_A[sum r] - E_E[sum r]."""
    expert = weighted(build.trajectories((3, 6), (False, False)), 0.9)
    agent = weighted(build.trajectories((5, 2, 4), (False, True, False)), 0.9)
    reward = learned(inputs="state_action", activation="tanh", bound=None)
    reward.net.double()
    reward.optimiser = torch.optim.SGD(reward.net.parameters(), lr=1.0)
    before = copy.deepcopy(reward.net)
    parts = [
        Weighted(*(x.double() if x.is_floating_point() else x for x in p)) for p in (expert, agent)
    ]

    def gap(net) -> torch.Tensor:
        sums = [p.returns(net(p.observations, p.actions)).mean() for p in parts]
        return sums[1] - sums[0]

    fit_reward(reward, *parts)
    step = flat(reward.net) - flat(before)
    start = flat(before)
    for number in range(0, len(start), 7):
        ends = []
        for sign in (1, -1):
            moved = start.clone()
            moved[number] += sign * 1e-5
            net = copy.deepcopy(before)
            torch.nn.utils.vector_to_parameters(moved, net.parameters())
            ends.append(gap(net).item())
        assert step[number].item() == pytest.approx(-(ends[0] - ends[1]) / 2e-5, abs=1e-7)


def test_steps_raise_the_demonstrations_above_the_samples(build):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6, 6, 6), (False, False, False)))
    reward = learned(steps=30, inputs="state")
    first = fit_reward(reward, expert, agent)
    then = fit_reward(reward, expert, agent)
    assert then["reward/loss"] < first["reward/loss"] - 0.1
    assert then["reward/demo_score"] - then["reward/sample_score"] > 0.1


def test_replayed_transitions_take_their_share(build):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6,), (False,)))
    past = Batch(torch.randn(50, 4), torch.randn(50, 2), torch.randn(50, 4), torch.zeros(50))
    reward = learned()
    with torch.no_grad():
        net = copy.deepcopy(reward.net)
        scores = [net(p[0], p[1]).mean().item() for p in (expert, agent, past)]
    found = fit_reward(reward, expert, agent, replay=past, replay_share=0.25)["reward/loss"]
    assert found == pytest.approx(0.75 * scores[1] + 0.25 * scores[2] - scores[0], abs=1e-6)


def test_the_trust_region_bounds_what_a_round_moves(build):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6,), (False,)))
    free = fit_reward(learned(steps=20), expert, agent)["reward/change"]
    reward = learned(steps=20, trust_region=free / 5)
    before = copy.deepcopy(reward.net)
    change = fit_reward(reward, expert, agent)["reward/change"]
    assert free / 20 < change <= free / 5
    seen, done = (torch.cat([expert[i], agent[i]]) for i in (0, 1))
    moved = (reward.net(seen, done) - before(seen, done)).square().mean().sqrt().item()
    assert moved == pytest.approx(change, rel=1e-4)


def test_a_slower_pace_shortens_the_trust_region_too(build):
    expert = weighted(build.trajectories((6,), (False,)))
    agent = weighted(build.trajectories((6, 6), (False, False)))
    for share in (1.0, 0.5, 0.0):
        reward = learned(learning_rate=10.0, trust_region=0.2)
        reward.slow_down(share)
        change = fit_reward(reward, expert, agent)["reward/change"]
        assert 0.9 * share * 0.2 <= change <= share * 0.2


@pytest.mark.parametrize("share", [1e-5, 1e-6, 1e-7, 1e-9])
def test_a_trust_region_of_a_few_last_bits_is_kept_too(build, share):
    """Near the end of an annealed run; steps were halved for ever where they no longer could be."""
    expert = weighted(build.trajectories((6,), (False,)))
    agent = weighted(build.trajectories((6, 6), (False, False)))
    reward = learned(hidden=[64, 64], learning_rate=1e-3, trust_region=0.02, centre=True)
    fit_reward(reward, expert, agent)
    reward.slow_down(share)
    for seed in range(20):
        assert fit_reward(reward, expert, agent, seed=seed)["reward/change"] <= 0.02 * share


def test_a_net_that_blew_up_is_said_and_not_shortened_for_ever(build):
    expert = weighted(build.trajectories((6,), (False,)))
    agent = weighted(build.trajectories((6, 6), (False, False)))
    reward = learned(trust_region=0.2)
    with torch.no_grad():
        next(reward.net.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="no longer finite"):
        fit_reward(reward, expert, agent)


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_centred_reward_differs_by_a_constant_alone(build, spectral_norm):
    """Without penalties the constant has no gradient of its own, so both take the same steps."""
    expert = weighted(build.trajectories((6,), (False,)))
    agent = weighted(build.trajectories((6, 6), (False, False)))
    options = {"inputs": "state_action", "bound": None, "spectral_norm": spectral_norm, "steps": 5}
    free, centred = learned(**options), learned(**options, centre=True)
    for reward in (free, centred):
        fit_reward(reward, expert, agent)
    values = []
    for reward in (free, centred):
        parts = [reward.net(p.observations, p.actions).detach() for p in (expert, agent)]
        values.append(torch.cat(parts))
    assert values[1][: len(expert.weights)].mean().abs() < 1e-5
    difference = values[0] - values[1]
    assert difference.mean().abs() > 1e-3
    assert (difference - difference.mean()).abs().max() < 1e-5


def test_a_level_is_not_taken_from_episodes_that_end_early(build):
    expert = weighted(build.trajectories((6,), (False,)))
    agent = weighted(build.trajectories((6, 4), (False, True)))
    with pytest.raises(UserError, match=r"reward\.centre=true, .* from 4 to 6 steps"):
        fit_reward(learned(centre=True), expert, agent)


@pytest.mark.parametrize("gamma", [1.0, 0.8])
def test_steps_of_cut_episodes_stand_for_whole_ones(build, gamma):
    """As much mass as whole episodes have, dealt over the steps as gamma deals it."""
    whole = weighted(build.trajectories((6, 6), (False, False)), gamma)
    trajectories = build.trajectories((2, 4), (False, False))
    cut = Weighted.of(trajectories, HORIZON, gamma, cut=True)
    assert cut.mass() == pytest.approx(whole.mass())
    torch.testing.assert_close(
        cut.weights / cut.weights.sum(),
        (w := weighted(trajectories, gamma).weights) / w.sum(),
    )
    fit_reward(learned(centre=True), whole, cut)  # the level is free there


@pytest.mark.parametrize("inputs", ["state", "state_action"])
def test_a_standardised_reward_does_not_depend_on_units(build, inputs):
    """The same fit with every observation in other units gives the same rewards."""
    expert = weighted(build.trajectories((6,), (False,)))
    agent = weighted(build.trajectories((6, 6), (False, False)))
    units = torch.tensor([1.0, 3.0, 10.0, 100.0])
    found = []
    for factor in (torch.ones(4), units):
        parts = [p._replace(observations=factor * p.observations) for p in (expert, agent)]
        reward = learned(inputs=inputs, standardised=True, gradient_penalty=1.0, average=0.9)
        shown = parts[0]
        reward.look_at(Batch(shown.observations, shown.actions, shown.observations, shown.weights))
        fit_reward(reward, *parts)
        for net in (reward.net, reward.average):
            found.append(net(parts[1].observations, parts[1].actions).detach())
    torch.testing.assert_close(found[:2], found[2:])


@pytest.mark.parametrize("penalty", ["l2", "gradient_penalty"])
def test_penalties_hold_back_a_reward_that_stands_at_its_bound(build, penalty):
    """Where tanh is flat neither r nor its slope says how far the net has run."""
    expert = weighted(build.trajectories((6,), (False,)))
    agent = weighted(build.trajectories((6,), (False,)))  # the same: the likelihood is silent
    reward = learned(inputs="state_action", bound=2.0, steps=20, **{penalty: 1.0})
    with torch.no_grad():
        reward.net.net[-1].weight.mul_(300.0)
        reward.net.net[-1].bias.fill_(200.0)

    def size() -> float:
        rewards = reward.net.unbounded(expert.observations, expert.actions).detach()
        return (rewards.square().mean() if penalty == "l2" else rewards.std()).item()

    before = size()
    metrics = fit_reward(reward, expert, agent)
    assert metrics["reward/saturation"] == 1.0
    assert size() < 0.999 * before


def test_the_gradient_penalty_flattens(build):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6,), (False,)))
    steep, flatter = (
        fit_reward(learned(steps=60, gradient_penalty=weight), expert, agent)["reward/change"]
        for weight in (0.0, 1.0)
    )
    assert flatter < steep / 2


def test_a_state_only_reward_is_penalised_for_states_only(build):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6,), (False,)))
    fit_reward(learned(inputs="state", gradient_penalty=1.0), expert, agent)  # no error: no d r/d a


def test_the_average_follows_the_rounds(build):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6,), (False,)))
    reward = learned(average=0.9)
    expected = flat(reward.average)
    for _ in range(3):
        fit_reward(reward, expert, agent)
        expected = 0.9 * expected + 0.1 * flat(reward.net)
    torch.testing.assert_close(flat(reward.average), expected)


def test_a_reward_goes_on_where_it_was_saved(build, tmp_path):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6,), (False,)))
    reward, other = learned(average=0.9), learned(average=0.9)
    fit_reward(reward, expert, agent)
    reward.save(tmp_path)
    other.load(tmp_path)
    for each in (reward, other):
        fit_reward(each, expert, agent)
    assert torch.equal(flat(reward.net), flat(other.net))
    assert torch.equal(flat(reward.average), flat(other.average))
    (tmp_path / "optimiser.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match="not a reward of this configuration"):
        other.load(tmp_path)


def test_divergence_is_named(build):
    expert = weighted(build.trajectories((6, 6), (False, False)))
    agent = weighted(build.trajectories((6,), (False,)))
    with pytest.raises(UserError, match=r"lower reward\.learning_rate"):
        fit_reward(learned(learning_rate=1e30, steps=3, bound=None), expert, agent)
