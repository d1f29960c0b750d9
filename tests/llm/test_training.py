"""The order of training examples: whole batches, drawn by a seed, padded little."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irl_align.llm.training import whole_batches

ITEMS = list(range(10))


def batches(result: list[int], size: int) -> list[list[int]]:
    return [result[i : i + size] for i in range(0, len(result), size)]


@given(st.lists(st.integers(), min_size=1, max_size=40), st.integers(1, 9), st.integers(0, 5))
def test_sorting_changes_the_order_inside_batches_only(items, size, seed):
    plain = whole_batches(items, size, seed, length=lambda x: 0)
    by_length = whole_batches(items, size, seed, length=lambda x: x)
    assert [Counter(b) for b in batches(plain, size)] == [
        Counter(b) for b in batches(by_length, size)
    ]
    for batch in batches(by_length, size):
        assert batch == sorted(batch, reverse=True)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 3))
def test_every_item_comes_in_every_epoch(count, size, epochs):
    result = whole_batches(range(count), size, 0, length=lambda x: x, epochs=epochs)
    an_epoch = -(-count // size) * size
    assert len(result) == epochs * an_epoch
    for start in range(0, len(result), an_epoch):
        assert set(result[start : start + an_epoch]) == set(range(count))


def test_epochs_are_orders_of_their_own_and_seeds_differ():
    two = whole_batches(ITEMS, 5, 0, length=lambda x: 0, epochs=2)
    assert two[:10] != two[10:]
    assert whole_batches(ITEMS, 5, 1, length=lambda x: 0) != two[:10]
    assert whole_batches(ITEMS, 5, 0, length=lambda x: 0) == two[:10]


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 1), (1.5, 3), (0.01, 1)])
def test_part_of_an_epoch_is_whole_batches(epochs, steps):
    assert len(whole_batches(ITEMS, 5, 0, length=lambda x: x, epochs=epochs)) == 5 * steps
