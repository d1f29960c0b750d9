"""Which prompts a round samples."""

from __future__ import annotations

import json

import pytest

from irl_align.llm.config import AlignConfig, DataConfig, SamplingConfig
from irl_align.llm.run_data import training_prompts


@pytest.fixture
def ids(tmp_path):
    rows = [{"id": str(i), "prompt": f"say {i}", "response": f"{i}!"} for i in range(10)]
    path = tmp_path / "demos.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def of(round: int, per_round: int | None, seed: int = 0) -> list[str]:
        config = AlignConfig(
            seed=seed,
            demonstrations=DataConfig(path=str(path)),
            sampling=SamplingConfig(prompts_per_round=per_round),
        )
        return [p.id for p in training_prompts(config, round)]

    return of


@pytest.mark.parametrize("per_round", [None, 10, 99])
def test_all_prompts_in_their_order_when_a_round_takes_all(ids, per_round):
    assert ids(3, per_round) == [str(i) for i in range(10)]


def test_rounds_take_turns_and_begin_again(ids):
    rounds = [ids(k, 4) for k in range(5)]
    assert all(len(set(r)) == 4 for r in rounds)
    once = [i for of_round in rounds for i in of_round]
    assert sorted(once[:10]) == [str(i) for i in range(10)]  # each prompt once before any twice
    assert once[:10] == once[10:20]
    assert once[:10] != sorted(once[:10])


def test_the_order_is_the_seeds(ids):
    assert ids(1, 4) == ids(1, 4)
    assert ids(0, 4, seed=1) != ids(0, 4, seed=0)
