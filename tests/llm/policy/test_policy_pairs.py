"""Pairs that a policy learns from: the best answer of a prompt against its worst."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tiny import WORDS

from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.policy.pairs import PolicyPair, best_against_worst


def prompt_of(i: int):
    return [{"role": "user", "content": f"say {WORDS[i]} {i}"}]


def samples_of(*completions: tuple[str, float, bool]) -> PromptSamples:
    return PromptSamples(
        "p",
        prompt_of(0),
        [
            Completion(t, "stop" if f else "length", 3, scores={"reward": r})
            for t, r, f in completions
        ],
    )


def texts(pairs) -> list[tuple[str, str]]:
    return [(p.chosen, p.rejected) for p in pairs]


def test_argmax_against_argmin():
    item = samples_of(("b", 1.0, True), ("a", 3.0, True), ("d", -2.0, True), ("c", 0.5, True))
    pairs, dropped = best_against_worst([item])
    assert texts(pairs) == [("a", "d")]
    assert pairs[0].margin == 5.0
    assert not +dropped
    pairs, _ = best_against_worst([item], pairs_per_prompt=9)
    assert texts(pairs) == [("a", "d"), ("b", "c")]


def test_ties_and_single_answers_are_dropped_and_counted():
    tie = samples_of(("a", 1.0, True), ("b", 1.0, True))
    same = samples_of(("a", 1.0, True), ("a", 1.0, True), ("", 0.0, True))
    skipped = PromptSamples("s", prompt_of(1), [], skipped="too long")
    pairs, dropped = best_against_worst([tie, same, skipped])
    assert pairs == []
    assert +dropped == {"ties": 1, "fewer_than_two_completions": 1, "over_long_prompt": 1}


def test_cut_off_answers_are_excluded_or_rejected_but_never_chosen():
    item = samples_of(("a", 1.0, True), ("b", 0.0, True), ("cut", 9.0, False))
    pairs, dropped = best_against_worst([item], truncated="exclude")
    assert texts(pairs) == [("a", "b")]
    assert dropped == {"cut_off_completions": 1}
    pairs, dropped = best_against_worst([item], truncated="reject")
    assert texts(pairs) == [("a", "cut")], "however high it scored"
    only_cut = samples_of(("cut", 9.0, False), ("cut too", 1.0, False))
    for truncated in ("exclude", "reject"):
        assert best_against_worst([only_cut], truncated=truncated)[0] == []
    itself = samples_of(("a", 1.0, True), ("a", 1.0, False))
    assert best_against_worst([itself], truncated="reject")[0] == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.integers(-3, 3), st.booleans()), max_size=10
    ),
    st.sampled_from(["exclude", "reject"]),
    st.integers(1, 4),
)
def test_pairs_keep_their_promises(completions, truncated, per_prompt):
    score = {text: value for text, value, _ in completions}  # a text has one score
    whole = {text for text, _, finished in completions if finished}
    item = samples_of(*((t, float(score[t]), f) for t, _, f in completions))
    pairs, _ = best_against_worst([item], truncated=truncated, pairs_per_prompt=per_prompt)
    assert len(pairs) <= per_prompt
    used = [t for p in pairs for t in (p.chosen, p.rejected)]
    assert len(used) == len(set(used)), "no text stands in two pairs or on both sides"
    for pair in pairs:
        assert pair.chosen in whole
        assert pair.margin == score[pair.chosen] - score[pair.rejected]
        if pair.rejected in whole:
            assert pair.margin > 0
        else:
            assert truncated == "reject"
    if pairs and truncated == "exclude":
        assert score[pairs[0].chosen] == max(score[t] for t in whole)
        assert score[pairs[0].rejected] == min(score[t] for t in whole)


def test_pairs_over_max_length_are_left_out_and_counted(tokenizer):
    from irl_align.llm.policy.online_dpo import split_over_long

    prompt = ({"role": "user", "content": "say red"},)
    short = PolicyPair("a", prompt, "good fish", "bad fish", 1.0)
    long = PolicyPair("b", prompt, "good fish", "bad fish " * 40, 1.0)
    assert split_over_long([short, long], tokenizer, 60) == ([short], 1)
    assert split_over_long([short, long], tokenizer, 1000) == ([short, long], 0)
