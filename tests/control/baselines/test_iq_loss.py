"""IQ-Learn's loss: by hand, by finite differences, and at its exact optimum."""

from __future__ import annotations

import copy

import pytest
import torch

from irl_align.control.baselines.iq_loss import iq_loss, iq_objective
from irl_align.control.config import SACConfig
from irl_align.control.sac.agent import SAC

# Four transitions, the first two demonstrated.
Q = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 1.0, 0.0]], dtype=torch.float64)
NEXT = torch.tensor([0.5, 0.0, 1.0, 2.0], dtype=torch.float64).expand(2, -1)  # gamma (1 - d) V(s')
MARKS = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
VALUE = torch.tensor(0.75, dtype=torch.float64)


@pytest.mark.parametrize(
    ("chi", "squared", "expected"),
    [
        # Rewards are (.5, 2, 2, 2) and (-.5, 2, 0, -2); demonstrated means 1.25 and .75, in all 1.
        (None, "both", 0.75 - 1.0),
        # Demonstrated squares .25, 4 and .25, 4: means 2.125; 1 / (4 chi) = 1/2.
        (0.5, "expert", 0.75 - 1.0 + 2.125 / 2),
        # All squares: (.25 + 4 + 4 + 4) / 4 = 3.0625 and (.25 + 4 + 0 + 4) / 4 = 2.0625.
        (0.5, "both", 0.75 - 1.0 + 2.5625 / 2),
        (2.0, "both", 0.75 - 1.0 + 2.5625 / 8),
    ],
)
def test_the_objective_by_hand(chi, squared, expected):
    found = iq_objective(Q, NEXT, MARKS, VALUE, chi=chi, squared=squared)
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("squared", ["expert", "both"])
def test_the_chi_square_term_by_finite_differences(squared):
    """Its derivative in r_i is r_i / (2 chi n) where it is averaged, and 0 elsewhere."""
    chi, step = 0.3, 1e-4

    def term(q):
        whole = iq_objective(q, NEXT, MARKS, VALUE, chi=chi, squared=squared)
        return whole - iq_objective(q, NEXT, MARKS, VALUE, chi=None, squared=squared)

    for i in range(2):
        for j in range(4):
            up, down = Q.clone(), Q.clone()
            up[i, j] += step
            down[i, j] -= step
            slope = ((term(up) - term(down)) / (2 * step)).item()
            seen = squared == "both" or MARKS[j] == 1
            count = 8 if squared == "both" else 4
            expected = (Q[i, j] - NEXT[i, j]).item() / (2 * chi * count) if seen else 0.0
            assert slope == pytest.approx(expected, abs=1e-8)


# An MDP of three states: in 0, action 0 leads to 1 and action 1 to 2; those lead to themselves.
GAMMA, ALPHA = 0.5, 0.7
LEADS = torch.tensor([[1, 2], [1, 1], [2, 2]])
EXPERT = torch.tensor([[3 / 4, 1 / 4], [2 / 3, 1 / 3], [1 / 2, 1 / 2]], dtype=torch.float64)
# Its discounted occupancy from state 0, in sixteenths: rows of a batch.
COUNTS = torch.tensor([[6, 2], [4, 2], [1, 1]])


def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """States and actions [16] of the demonstrator."""
    pairs = [(s, a) for s in range(3) for a in range(2) for _ in range(int(COUNTS[s, a]))]
    return torch.tensor([s for s, _ in pairs]), torch.tensor([a for _, a in pairs])


def soft_value(q: torch.Tensor) -> torch.Tensor:
    """V(s) = alpha log sum_a exp(Q / alpha): the expectation over pi_Q, exactly."""
    return ALPHA * torch.logsumexp(q / ALPHA, dim=1)


def occupancy(policy: torch.Tensor) -> torch.Tensor:
    """(1 - gamma) sum_t gamma^t P(s_t, a_t) from state 0 [3, 2]."""
    moves = torch.zeros(3, 3, dtype=torch.float64)
    for s in range(3):
        for a in range(2):
            moves[s, LEADS[s, a]] += policy[s, a]
    start = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    states = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - GAMMA * moves.T, start)
    return (1 - GAMMA) * states[:, None] * policy


def optimum(kind: str, chi: float | None) -> torch.Tensor:
    """argmin of the loss over tables Q [3, 2], on the demonstrator's rows alone."""
    states, actions = rows()
    torch.testing.assert_close(occupancy(EXPERT), COUNTS / 16.0, check_dtype=False)
    q = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [q], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        solver.zero_grad()
        values = soft_value(q)
        following = GAMMA * values[LEADS[states, actions]]
        start, between = (1 - GAMMA) * values[0], (values[states] - following).mean()
        value = start if kind == "v0" else between
        twin = q[states, actions].expand(2, -1)
        found = iq_objective(twin, following, torch.ones(16), value, chi=chi, squared="expert")
        found.backward()
        return found

    solver.step(loss)
    return q.detach()


def recovered(q: torch.Tensor) -> torch.Tensor:
    return q - GAMMA * soft_value(q)[LEADS]


@pytest.mark.parametrize("kind", ["v0", "value_expert"])
def test_without_a_regulariser_the_optimum_is_the_soft_optimal_expert(kind):
    """pi_Q is the demonstrator, and planning on the recovered reward gives it back."""
    q = optimum(kind, None)
    torch.testing.assert_close(torch.softmax(q / ALPHA, dim=1), EXPERT, atol=1e-5, rtol=0)
    reward, planned = recovered(q), torch.zeros(3, 2, dtype=torch.float64)
    for _ in range(100):
        planned = reward + GAMMA * soft_value(planned)[LEADS]
    torch.testing.assert_close(torch.softmax(planned / ALPHA, dim=1), EXPERT, atol=1e-5, rtol=0)


@pytest.mark.parametrize("chi", [0.5, 5.0])
def test_with_the_chi_square_the_reward_is_bounded_by_the_occupancies(chi):
    """At the optimum r = 2 chi (1 - rho_pi / rho_E), and pi is nearer to the demonstrator the
    larger chi is."""
    q = optimum("v0", chi)
    policy = torch.softmax(q / ALPHA, dim=1)
    expected = 2 * chi * (1 - occupancy(policy) / (COUNTS / 16.0))
    torch.testing.assert_close(recovered(q), expected, atol=1e-5, rtol=0)
    away = (policy - EXPERT).abs().max()
    assert 1e-3 < away < (0.3 if chi == 0.5 else 0.06)


# The loss that goes into SAC, against a second implementation.


@pytest.fixture
def batch():
    torch.manual_seed(4)
    rows = torch.randn(6, 11)
    rows[:, -1] = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    return rows, torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])


def by_the_book(agent, rows, marks, noise, kind, starts, target, chi, squared):
    """V by V, mean by mean."""
    critic, actor, alpha, gamma = agent.parts.critic, agent.actor, agent.alpha, agent.config.gamma
    b = agent.layout.unpack(rows)

    def v(states, eps, net):
        with torch.no_grad():
            actions, log_probs = actor.sample(states, eps)
            if agent.settings.absorbing:
                over = states[:, -1] == 1
                actions[over], log_probs[over] = 0.0, 0.0
        return net(states, actions) - alpha * log_probs  # [2, B], each critic's own

    nexts = v(b.next_observations, noise[1], agent.parts.target if target else critic)
    heres, firsts = v(b.observations, noise[0], critic), v(starts, noise[-2][: len(starts)], critic)
    expert = marks == 1
    losses = []
    for i, q in enumerate(critic(b.observations, b.actions)):
        following = (nexts[i].detach() if target else nexts[i]) * gamma * (1 - b.terminated)
        if kind == "v0":
            value = (1 - gamma) * firsts[i].mean()
        elif kind == "value":
            value = (heres[i] - following).mean()
        else:
            value = (heres[i] - following)[expert].mean()
        r = q - following
        square = r[expert].square() if squared == "expert" else r.square()
        losses.append(value - r[expert].mean() + square.mean() / (4 * chi))
    return (losses[0] + losses[1]) / 2


@pytest.mark.parametrize("absorbing", [False, True])
@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("kind", ["value", "value_expert", "v0"])
def test_the_loss_of_sac_by_a_second_implementation(spaces, batch, kind, target, absorbing):
    rows, marks = batch
    if absorbing:
        rows = rows.clone()
        rows[:, 3] = rows[:, 9] = 0.0
        rows[1, 9] = rows[2, 3] = rows[2, 9] = 1.0
    config = SACConfig(hidden=[8], alpha=0.3, compile="never")
    agent = SAC(spaces, config, seed=1, absorbing=absorbing)
    for p in agent.parts.target.parameters():  # told apart from the critics
        p.mul_(1.5)
    starts = torch.randn(4, 4) * torch.tensor([1.0, 1.0, 1.0, 0.0])
    squared = "expert" if target else "both"
    function, draws = iq_loss(kind, starts=starts, chi=0.4, squared=squared, target=target)
    assert draws == (3 if kind == "v0" else 2)
    noise = torch.randn(draws + 1, 6, 2)
    alpha = agent.parts.log_alpha.exp()
    weights = list(agent.parts.critic.parameters())
    mine = function(agent.parts, agent.settings, agent.layout.unpack(rows), marks, noise, alpha)
    other = by_the_book(agent, rows, marks, noise, kind, starts, target, 0.4, squared)
    torch.testing.assert_close(mine, other)
    for a, b in zip(
        torch.autograd.grad(mine, weights), torch.autograd.grad(other, weights), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_more_starts_than_rows_share_the_noise(spaces, batch):
    rows, marks = batch
    agent = SAC(spaces, SACConfig(hidden=[8], compile="never"), seed=1)
    starts = torch.randn(15, 4)
    losses = []
    for some in (starts, starts[torch.randperm(15)]):
        function, _ = iq_loss("v0", starts=some)
        noise = torch.zeros(4, 6, 2)
        losses.append(
            function(
                agent.parts,
                agent.settings,
                agent.layout.unpack(rows),
                marks,
                noise,
                agent.parts.log_alpha.exp(),
            )
        )
    torch.testing.assert_close(*losses)


def test_one_step_of_learning_finds_the_demonstrator_s_action(spaces):
    """Episodes of one step: Q = r, and E_E[r] - V is the likelihood. The mode moves to where the
    demonstrator is, whatever the agent did."""
    config = SACConfig(hidden=[32], learning_rate=3e-3, alpha=0.05, tau=0.05, compile="never")
    agent = SAC(spaces, config, seed=0, critics=iq_loss("value", starts=torch.zeros(1, 4), chi=5.0))
    torch.manual_seed(0)
    box = torch.tensor([-2.0, 0.0]), torch.tensor([4.0, 5.0])  # low, width
    wanted = torch.tensor([1.5, 0.8])
    before = copy.deepcopy(agent.actor).mode(torch.zeros(1, 4))[0]
    for _ in range(40):
        rows = torch.zeros(10, 40, 11)
        rows[..., 4:6] = box[0] + box[1] * torch.rand(10, 40, 2)
        rows[:, :20, 4:6] = wanted
        rows[..., -1] = 1.0
        marks = torch.zeros(10, 40)
        marks[:, :20] = 1.0
        agent.update(rows, marks)
    after = agent.actor.mode(torch.zeros(1, 4))[0]
    assert (after - wanted).norm() < 0.4 * (before - wanted).norm()
    # Neither critic sinks below what it says of an action that nobody has shown.
    q = agent.parts.critic(torch.zeros(2, 4), torch.stack([wanted, torch.tensor([-1.5, 4.5])]))
    assert (q[:, 0] > q[:, 1] + 0.1).all()
