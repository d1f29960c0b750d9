"""An adapter is found again in the merged weights, exactly; what is no adapter is refused."""

from __future__ import annotations

import pytest
import torch

from irl_align.llm.models.low_rank import NotLowRank, low_rank_update


def models(rank: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.05

    base = {
        "a.weight": draw(48, 64).bfloat16(),
        "b.weight": draw(64, 64).bfloat16(),
        "norm.weight": draw(64).bfloat16(),
    }
    tuned = {k: v.float() for k, v in base.items()}
    tuned["a.weight"] = tuned["a.weight"] + draw(48, rank) @ draw(rank, 64)
    return base, tuned


@pytest.mark.parametrize("rank", [1, 4, 12])
def test_the_adapter_is_found_again(rank):
    base, tuned = models(rank)
    update = low_rank_update(base, tuned)
    assert update.rank == rank
    assert set(update.down) == {"a"}
    rebuilt = base["a.weight"].float() + update.up["a"] @ update.down["a"]
    assert float((rebuilt - tuned["a.weight"]).abs().max()) < 1e-7


def test_layers_of_different_rank_are_filled_up():
    base, tuned = models(5)
    tuned["b.weight"] = tuned["b.weight"] + torch.ones(64, 1) @ torch.ones(1, 64) * 0.01
    update = low_rank_update(base, tuned)
    assert update.rank == 5
    assert update.down["b"].shape == (5, 64) and update.up["b"].shape == (64, 5)
    assert float((update.up["b"] @ update.down["b"] - 0.01).abs().max()) < 1e-7


def test_large_layers_take_the_randomised_decomposition():
    base, tuned = models(3)
    update = low_rank_update(base, tuned, max_rank=8)
    rebuilt = base["a.weight"].float() + update.up["a"] @ update.down["a"]
    assert update.rank == 3
    assert float((rebuilt - tuned["a.weight"]).abs().max()) < 1e-7


def test_equal_models_need_nothing():
    base, _ = models(1)
    assert not low_rank_update(base, {k: v.float() for k, v in base.items()}).down


def test_what_is_no_adapter_is_refused():
    base, tuned = models(20)
    with pytest.raises(NotLowRank, match=r"a\.weight moved in more than"):
        low_rank_update(base, tuned, max_rank=8)
    base, tuned = models(2)
    with pytest.raises(NotLowRank, match=r"norm\.weight moved"):
        low_rank_update(base, tuned | {"norm.weight": tuned["norm.weight"] + 0.1})
    with pytest.raises(NotLowRank, match="in one of the models only"):
        low_rank_update(base, tuned | {"c.weight": tuned["a.weight"]})
    with pytest.raises(NotLowRank, match="other shapes"):
        low_rank_update(base, tuned | {"b.weight": tuned["a.weight"]})
