"""What evaluation counts, on numbers small enough to count by hand."""

from __future__ import annotations

import pytest

from irl_align.llm.data.schema import Preference
from irl_align.llm.generation.samples import Completion, PromptSamples, write_samples
from irl_align.llm.phases.measure import (
    COMPLETIONS_NAME,
    _against,
    _hidden_accuracy,
    _pooled,
    preference_accuracy,
)


def item(identity: str, *rows: tuple[float, float, str]) -> PromptSamples:
    """rows: (hidden reward, reward, finish reason)."""
    completions = [
        Completion(f"{identity}{i}", reason, 3, scores={"hidden_reward": h, "reward": r})
        for i, (h, r, reason) in enumerate(rows)
    ]
    return PromptSamples(identity, [{"role": "user", "content": "x"}], completions)


def test_hidden_accuracy_counts_pairs_ties_and_finished_answers_only():
    samples = [
        # Pairs by hidden reward: (0 over 1) right, (0 over 2) tie, (1 over 2) wrong.
        item("a", (0.9, 2.0, "stop"), (0.5, 1.0, "stop"), (0.1, 2.0, "stop")),
        # Equal hidden reward: no pair. A cut-off answer: no pair.
        item("b", (0.3, 1.0, "stop"), (0.3, 5.0, "stop"), (0.9, 0.0, "length")),
    ]
    metrics = _hidden_accuracy(samples)
    assert metrics["eval/reward_pairs"] == 3
    assert metrics["eval/reward_accuracy"] == pytest.approx(1 / 3)
    assert metrics["eval/reward_ties"] == pytest.approx(1 / 3)


def test_hidden_pairs_come_from_all_given_policies_answers(tmp_path):
    base, sft = ([item("a", (h, 0.0, "stop"))] for h in (0.1, 0.4))
    sft.append(item("b", (0.2, 0.0, "stop")))
    for name, samples in (("base", base), ("sft", sft)):
        (tmp_path / name).mkdir()
        write_samples(tmp_path / name / COMPLETIONS_NAME, samples)
    found = _pooled([str(tmp_path / "base"), str(tmp_path / "sft")])
    hidden = {s.id: [c.scores["hidden_reward"] for c in s.completions] for s in found}
    assert hidden == {"a": [0.1, 0.4], "b": [0.2]}
    alone = _pooled([str(tmp_path / "sft")] * 2)
    assert [len(s.completions) for s in alone] == [1, 1]


def test_no_pair_gives_no_number():
    assert _hidden_accuracy([item("a", (0.3, 1.0, "stop"), (0.3, 2.0, "stop"))]) == {}


def test_gain_and_win_rate_are_paired_by_prompt():
    ours = [item("a", (1.0, 0, "stop")), item("b", (0.5, 0, "stop")), item("only ours", (9, 0, ""))]
    theirs = [item("b", (0.5, 0, "stop")), item("a", (0.0, 0, "stop"))]
    metrics = _against(ours, theirs)
    assert metrics["eval/gain_over_sft"] == pytest.approx(0.5)
    assert metrics["eval/win_rate_vs_sft"] == pytest.approx(0.75)  # one win, one tie


def test_preference_accuracy_is_strict_and_reports_ties():
    class ByLength:
        def score(self, prompts, responses, batch_size):
            return [float(len(r)) for r in responses]

    prompt = ({"role": "user", "content": "x"},)
    pairs = [
        Preference("1", prompt, "long answer", "short"),
        Preference("2", prompt, "tie", "eit"),
        Preference("3", prompt, "a", "longer"),
        Preference("4", prompt, "much longer", "b"),
    ]
    metrics = preference_accuracy(ByLength(), pairs)
    assert metrics["eval/preference_accuracy"] == pytest.approx(0.5)
    assert metrics["eval/preference_ties"] == pytest.approx(0.25)
    assert metrics["eval/preference_pairs"] == 4
