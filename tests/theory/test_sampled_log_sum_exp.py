"""V(s) = log int exp Q(s, a) da by importance sampling, against the exact one.

    V_hat = log (1/M) sum_j exp(Q_j) / q_j,    a_j ~ q, q the density of the whole mixture

exp V_hat is unbiased, V_hat a little below V (Jensen), and no weight exceeds the box over the share
of uniform draws. For indices it is exact.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from irl_align.control.bicql.config import ProposalConfig
from irl_align.control.bicql.log_sum_exp import effective_share, soft_value
from irl_align.control.bicql.proposals import AllIndices, BoxProposals
from irl_align.control.spaces import Spaces
from irl_align.tabular.planning import log_sum_exp


def box(*bounds: tuple[float, float]) -> Spaces:
    low, high = np.array(bounds, dtype=np.float32).T
    return Spaces("Box", 1, low, high)


class Middle:
    """A clone that always says the same."""

    def __init__(self, middle, std):
        self.middle, self.std = torch.tensor(middle), torch.tensor(std)

    def __call__(self, observations):
        return self.middle.expand(len(observations), -1)


def estimates(spaces, q, counts, clone=None, near=None, repeats=20_000, seed=0):
    """`repeats` independent V_hat of one state, with the weights they were made of."""
    proposals = BoxProposals(spaces, ProposalConfig(**counts), clone)
    states = torch.zeros(repeats, 1)
    actions = None if near is None else torch.tensor(near).expand(repeats, -1)
    tried = proposals.tried(states, actions, torch.Generator().manual_seed(seed))
    scaled = (tried.actions - proposals.centre) / proposals.half_width
    values = q(scaled)
    return soft_value(values, tried.log_weights), values, tried.log_weights


def bowl(a):
    return -4 * a.square().sum(-1)


# int over [-1, 1]^2 of exp(-4 |a|^2) = (pi / 4) erf(2)^2
BOWL = math.log(math.pi / 4 * math.erf(2) ** 2)


def test_the_known_bowl():
    """ALGORITHMS' check: V = -0.251, thirty uniform draws say -0.276 +- 0.24."""
    assert pytest.approx(-0.251, abs=1e-3) == BOWL
    found, _, _ = estimates(box((-1, 1), (-1, 1)), bowl, {"uniform": 30, "cloned": 0, "near": 0})
    assert found.exp().mean() == pytest.approx(math.exp(BOWL), rel=0.01)
    assert -0.06 < found.mean() - BOWL < -0.01
    assert found.std() == pytest.approx(0.24, abs=0.04)
    # The units of the box do not enter: its scaled volume is what counts.
    other, _, _ = estimates(box((3, 9), (-50, 0)), bowl, {"uniform": 30, "cloned": 0, "near": 0})
    torch.testing.assert_close(other, found, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("without", [0, 30])
def test_the_share_of_each_draw_belongs_to_it(without):
    """Dropping 1/M adds log M to every value, a reward of (1 - gamma) log M a step."""
    found, values, weights = estimates(
        box((-1, 1), (-1, 1)), bowl, {"uniform": 30, "cloned": 0, "near": 0}
    )
    wrong = torch.logsumexp(values + weights + (math.log(30) if without else 0.0), dim=-1)
    assert (wrong - found).mean() == pytest.approx(math.log(30) if without else 0.0, abs=1e-4)


def two_peaks(a):
    """A wide peak at -.6 and a narrow one at .7, of which a clone knows the wide one only."""
    x = a[..., 0]
    return torch.logaddexp(2 - ((x + 0.6) / 0.2) ** 2, 4 - ((x - 0.7) / 0.02) ** 2)


def exact(q):
    grid = np.linspace(-1, 1, 400_001)
    values = q(torch.from_numpy(grid)[:, None]).numpy()
    return math.log(np.trapezoid(np.exp(values), grid))


@pytest.mark.parametrize(
    ("counts", "clone", "near"),
    [
        ({"uniform": 30, "cloned": 0, "near": 0}, None, None),
        ({"uniform": 10, "cloned": 20, "near": 0}, Middle([-0.6], [0.15]), None),
        ({"uniform": 10, "cloned": 10, "near": 10}, Middle([-0.6], [0.05]), [0.7]),
        ({"uniform": 1, "cloned": 29, "near": 0}, Middle([-0.99], [0.05]), None),
    ],
)
def test_any_mixture_is_unbiased_and_its_weights_are_bounded(counts, clone, near):
    found, _, weights = estimates(
        box((-1, 1)), two_peaks, {**counts, "near_std": 0.05}, clone, near
    )
    error = found.exp().std() / math.sqrt(len(found))
    assert (found.exp().mean() - math.exp(exact(two_peaks))).abs() < 5 * error
    assert weights.max() <= math.log(2 / counts["uniform"]) + 1e-4


def test_draws_where_exp_q_is_make_it_better():
    spaces, clone = box((-1, 1)), Middle([-0.6], [0.15])
    spread, shares = [], []
    for counts, near in (
        ({"uniform": 30, "cloned": 0, "near": 0}, None),
        ({"uniform": 10, "cloned": 10, "near": 10}, [0.7]),
    ):
        found, values, weights = estimates(
            spaces, two_peaks, {**counts, "near_std": 0.05}, clone, near
        )
        spread.append((found - exact(two_peaks)).square().mean().sqrt().item())
        shares.append(effective_share(values, weights).mean().item())
    assert spread[1] < 0.5 * spread[0]
    assert shares[1] > 1.5 * shares[0]


def test_effective_share_at_its_ends():
    assert effective_share(torch.zeros(3, 8), torch.zeros(3, 8)) == pytest.approx(1.0)
    lonely = torch.zeros(1, 8)
    lonely[0, 3] = 100
    assert effective_share(lonely, torch.zeros(1, 8)) == pytest.approx(1 / 8)
    half = torch.tensor([[0.0, 0.0, -100.0, -100.0]])
    assert effective_share(half, torch.zeros(1, 4)) == pytest.approx(0.5)


def test_indices_are_exact():
    q = np.random.default_rng(0).normal(size=(7, 5)) * 10
    tried = AllIndices(5).tried(torch.zeros(7, 2), None, torch.Generator())
    assert tried.actions.shape == (7, 5, 0)
    found = soft_value(torch.from_numpy(q), tried.log_weights)
    np.testing.assert_allclose(found, log_sum_exp(q), rtol=1e-12)
