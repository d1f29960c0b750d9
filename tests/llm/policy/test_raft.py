"""RAFT: the best finished answer of each prompt is what the policy learns."""

from __future__ import annotations

import pytest
from tiny import WORDS

from irl_align.core.errors import UserError
from irl_align.llm.config import (
    AlignConfig,
    LoraSettings,
    ModelConfig,
    PolicyConfig,
    SamplingConfig,
)
from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.likelihood import LikelihoodScorer
from irl_align.llm.policy.raft import best_answers, fit_raft


def samples(count: int = 6) -> list[PromptSamples]:
    return [
        PromptSamples(
            f"p{i}",
            [{"role": "user", "content": f"say {WORDS[i]} {i}"}],
            [
                Completion(f"bad {WORDS[i + 1]}", "stop", 3, scores={"reward": -1.0}),
                Completion(f"good {WORDS[i + 2]}", "stop", 3, scores={"reward": 2.0}),
                Completion(f"good {WORDS[i + 3]} and", "length", 3, scores={"reward": 9.0}),
            ],
        )
        for i in range(count)
    ]


def test_the_best_finished_answer_is_chosen_and_the_rest_told_of():
    rows = samples(2)
    rows.append(PromptSamples("cut", rows[0].prompt, [rows[0].completions[2]]))
    rows.append(PromptSamples("long", rows[0].prompt, [], skipped="900 tokens"))
    best, dropped = best_answers(rows)
    assert [(d.id, d.response) for d in best] == [
        ("p0", f"good {WORDS[2]}"), ("p1", f"good {WORDS[3]}")
    ]  # fmt: skip
    assert dropped == {
        "cut_off_completions": 3, "no_finished_completion": 1, "over_long_prompt": 1
    }  # fmt: skip


def configuration(lora: LoraSettings | None) -> AlignConfig:
    return AlignConfig(
        model=ModelConfig(bf16=False),
        sampling=SamplingConfig(backend="hf", dtype="float32"),
        policy=PolicyConfig(
            method="raft", reference="base", epochs=4, learning_rate=1e-2, batch_size=2,
            micro_batch_size=2, lora=lora,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("lora", [None, LoraSettings(r=4, alpha=8)], ids=["full", "lora"])
def test_rounds_go_on_from_the_policy_and_learn_the_best_answers(tmp_path, model_folder, lora):
    config = configuration(lora)
    initial = PolicyRef.at(model_folder)
    rows = samples()
    best, _ = best_answers(rows)
    tokenizer = load_tokenizer(model_folder)

    def likelihood(ref: PolicyRef) -> float:
        scorer = LikelihoodScorer.load(ref.model)
        return sum(scorer.score([d.prompt for d in best], [d.response for d in best]))

    assert tokenizer.eos_token
    at, found = initial, [likelihood(initial)]
    for number in range(2):
        out = tmp_path / str(number)
        out.mkdir()
        metrics = fit_raft(
            at, initial, rows, out, config, seed=number, scratch=tmp_path / "scratch"
        )
        assert metrics["policy/best_score"] == 2.0
        assert metrics["policy/mean_score"] == 0.5
        assert metrics["policy/dropped_cut_off_completions"] == 6
        at = PolicyRef.at(out)
        found.append(likelihood(at))
    assert found[0] < found[1] - 20 and found[1] < found[2] - 1


def test_without_a_finished_answer_there_is_nothing_to_learn(tmp_path, model_folder):
    rows = [PromptSamples("p", [{"role": "user", "content": "x"}], samples(1)[0].completions[2:])]
    at = PolicyRef.at(model_folder)
    with pytest.raises(UserError, match="max_new_tokens"):
        fit_raft(at, at, rows, tmp_path, configuration(None), seed=0, scratch=tmp_path)
