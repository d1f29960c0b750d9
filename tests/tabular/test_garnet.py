from __future__ import annotations

import numpy as np
import pytest

from irl_align.core.errors import UserError
from irl_align.tabular.garnet import _distinct, garnet
from irl_align.tabular.kernels import DenseKernel, SparseKernel


@pytest.mark.parametrize("branching", [1, 4, 20])
def test_every_pair_has_so_many_distinct_successors(branching):
    kernel = garnet(20, 3, branching, gamma=0.9, seed=0, dense=True).kernel
    assert ((kernel.probabilities > 0).sum(2) == branching).all()
    assert not np.array_equal(kernel.probabilities[0, 0], kernel.probabilities[0, 1])


def test_subsets_are_uniform():
    """Each of the 10 pairs out of five is as frequent as the others."""
    drawn = np.sort(_distinct(np.random.default_rng(0), 20_000, 5, 2), axis=1)
    assert (drawn[:, 0] < drawn[:, 1]).all()
    counts = np.bincount(drawn[:, 0] * 5 + drawn[:, 1])
    counts = counts[counts > 0]
    assert len(counts) == 10
    assert np.abs(counts / 20_000 - 0.1).max() < 5 * np.sqrt(0.1 * 0.9 / 20_000)


def test_seeds_and_storage():
    a, b = (garnet(30, 2, 3, gamma=0.9, seed=1, dense=d).kernel for d in (True, False))
    np.testing.assert_allclose(a.probabilities.reshape(60, 30), b.matrix.toarray())
    other = garnet(30, 2, 3, gamma=0.9, seed=2, dense=True).kernel
    assert not np.array_equal(a.probabilities, other.probabilities)
    assert isinstance(garnet(30, 2, 3, gamma=0.9, seed=0).kernel, DenseKernel)
    assert isinstance(garnet(31, 2, 3, gamma=0.9, seed=0).kernel, SparseKernel)


@pytest.mark.parametrize("sizes", [(0, 2, 1), (5, 0, 1), (5, 2, 0), (5, 2, 6)])
def test_errors(sizes):
    with pytest.raises(UserError, match="branching <= states"):
        garnet(*sizes, gamma=0.9, seed=0)
