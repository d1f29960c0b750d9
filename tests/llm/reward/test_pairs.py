"""Which texts a reward model is fitted on, and how much each group counts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from irl_align.core.errors import UserError
from irl_align.core.objectives import bradley_terry, demonstration_loss, joint
from irl_align.llm.chat import render, response_tokens
from irl_align.llm.data.schema import Demonstration, Preference
from irl_align.llm.generation.samples import Completion, PromptSamples
from irl_align.llm.reward.learner import batch_loss, group_accuracy
from irl_align.llm.reward.pairs import (
    PairGroup,
    build_demo_groups,
    build_preference_groups,
    split_holdout,
    weigh,
)

PROMPT = ({"role": "user", "content": "say red"},)


@pytest.fixture
def tokenise(tokenizer):
    def of(prompt, response, *, finished=True):
        return response_tokens(tokenizer, render(tokenizer, prompt, response, finished=finished))

    return of


def demo(text="good red fish", name="d0") -> Demonstration:
    return Demonstration(name, PROMPT, text)


def sampled(*texts: tuple[str, bool], name="d0") -> dict[str, PromptSamples]:
    completions = [Completion(t, "stop" if whole else "length", len(t)) for t, whole in texts]
    return {name: PromptSamples(name, PROMPT, completions)}


def test_what_is_dropped_is_counted(tokenise):
    samples = sampled(
        ("bad fish", True), ("good red fish", True), ("", True), ("bad tr", False),
        ("bad " * 60, True), ("cold", True),
    )  # fmt: skip
    groups, dropped = build_demo_groups(
        [demo(), demo(name="d1"), demo("good " * 60, name="d2")],
        samples | sampled(("bad", True), name="d2"),
        tokenise,
        max_length=40,
    )
    assert [g.id for g in groups] == ["d0"]
    assert groups[0].texts == [
        tokenise(PROMPT, text) for text in ("good red fish", "bad fish", "cold")
    ]
    assert dropped == {
        "equal_to_demonstration": 1,
        "empty_completion": 1,
        "cut_off": 1,
        "completion_over_max_length": 1,
        "demonstration_over_max_length": 1,
        "not_sampled": 1,
    }


def test_limit_counts_kept_completions(tokenise):
    samples = sampled(("", True), ("bad", True), ("cold", True), ("warm", True))
    groups, _ = build_demo_groups([demo()], samples, tokenise, max_length=99, limit=2)
    assert groups[0].texts[1:] == [tokenise(PROMPT, "bad"), tokenise(PROMPT, "cold")]


def test_near_length_keeps_the_completions_nearest_to_the_demonstration(tokenise):
    texts = ["bad", "cold fish tree", "red fish tree house bad good", "warm bad fish"]
    samples = sampled(*((text, True) for text in texts))
    groups, _ = build_demo_groups(
        [demo()], samples, tokenise, max_length=99, limit=2, choose="near_length"
    )
    size = len(tokenise(PROMPT, "good red fish"))
    distance = [abs(len(tokenise(PROMPT, text)) - size) for text in texts]
    kept = [texts.index(text) for text in ("cold fish tree", "warm bad fish")]
    assert max(distance[i] for i in kept) < min(distance[i] for i in range(4) if i not in kept)
    assert groups[0].texts[1:] == [tokenise(PROMPT, texts[i]) for i in kept]


def test_a_demonstration_without_any_pair_is_counted_once(tokenise):
    groups, dropped = build_demo_groups(
        [demo()], sampled(("good red fish", True)), tokenise, max_length=99
    )
    assert groups == []
    assert dropped == {"equal_to_demonstration": 1, "no_completion": 1}


word = st.sampled_from(["good", "bad", "red", "fish", "tree", "house", "é", "9"])
answer = st.lists(word, min_size=1, max_size=12).map(" ".join)


def test_match_makes_finishedness_and_length_worthless(tokenise, tokenizer):
    """A scorer that sees only whether (or where) a text ends gets exactly half of such pairs."""
    eos = tokenizer.eos_token_id
    prompt_ends = tokenise(PROMPT, "x", finished=False).count(eos)

    def by_eos(text: list[int]) -> float:
        return float(text.count(eos) - prompt_ends)

    def half(groups: list[PairGroup], score) -> float:
        found = group_accuracy(groups, [[score(t) for t in g.texts] for g in groups])
        return found["accuracy"] + found["ties"] / 2

    @settings(max_examples=60, deadline=None)
    @given(answer, st.lists(answer, min_size=1, max_size=4))
    def check(response, cut):
        groups, dropped = build_demo_groups(
            [demo(response)],
            sampled(*((text, False) for text in cut)),
            tokenise,
            max_length=999,
            truncated="match",
        )
        assert sum(g.pairs for g in groups) + dropped["equal_to_demonstration"] + dropped[
            "cut_off"
        ] == len(cut)
        for group in groups:
            lengths = {len(text) for text in group.texts}
            assert len(lengths) == 1, "both texts of a pair have the same length"
            assert group.texts[0] != group.texts[1]
        if groups:
            assert half(groups, by_eos) == 0.5
            assert half(groups, len) == 0.5
        # What would happen without matching: the same scorer is right every time.
        naive = [
            PairGroup(
                "n", "demo", [tokenise(PROMPT, response), tokenise(PROMPT, c, finished=False)]
            )
            for c in cut
        ]
        assert half(naive, by_eos) == 1.0

    check()


def test_match_keeps_finished_completions_apart(tokenise):
    groups, dropped = build_demo_groups(
        [demo()],
        sampled(("bad fish", True), ("bad tree house", False)),
        tokenise,
        max_length=99,
        truncated="match",
    )
    assert not dropped
    assert [g.pairs for g in groups] == [1, 1]
    whole = next(g for g in groups if g.texts[0] == tokenise(PROMPT, "good red fish"))
    assert whole.texts[1] == tokenise(PROMPT, "bad fish")


def test_preferences_over_max_length_are_counted(tokenise):
    pairs = [
        Preference("p0", PROMPT, "good", "bad"),
        Preference("p1", PROMPT, "good", "bad " * 60),
    ]
    groups, dropped = build_preference_groups(pairs, tokenise, max_length=40)
    assert [(g.id, g.kind) for g in groups] == [("p0", "preference")]
    assert groups[0].texts == [tokenise(PROMPT, "good"), tokenise(PROMPT, "bad")]
    assert dropped == {"preference_over_max_length": 1}


def test_holdout_is_by_prompt_and_the_same_in_every_round():
    first = [PairGroup(f"d{i}", "demo", [[1], [2]]) for i in range(400)]
    again = [PairGroup(f"d{i}", "demo", [[3], [4]]) for i in reversed(range(400)) for _ in "ab"]
    _, held = split_holdout(first, 0.25)
    fit_again, held_again = split_holdout(again, 0.25)
    assert {g.id for g in held} == {g.id for g in held_again}
    assert not {g.id for g in fit_again} & {g.id for g in held_again}
    assert 60 < len(held) < 140
    assert split_holdout(first, 0.0)[1] == []


@pytest.mark.parametrize("objective", ["contrast", "pairwise_logistic", "residual_logistic"])
@pytest.mark.parametrize(("gamma", "alpha"), [(1.0, 1.0), (0.3, 2.0), (0.0, 1.5), (0.7, 0.0)])
def test_full_batch_loss_is_the_joint_loss(objective, gamma, alpha):
    """AIHF's gamma E_demo + alpha E_pref from one mean over mixed groups, to the last digits."""
    generator = torch.Generator().manual_seed(0)
    demos = [PairGroup(f"d{i}", "demo", [[1]] * (2 + i % 3)) for i in range(5)]
    prefs = [PairGroup(f"p{i}", "preference", [[1], [2]]) for i in range(3)]
    scores = {
        g.id: torch.randn(len(g.texts), generator=generator, dtype=torch.float64)
        for g in demos + prefs
    }
    previous = {i: torch.randn(len(s), generator=generator).double() for i, s in scores.items()}
    beta = 0.7

    kept = weigh([*demos[:2], *prefs, *demos[2:]], gamma, alpha)
    loss = batch_loss(
        torch.cat([scores[g.id] for g in kept]),
        [(g.kind, len(g.texts), g.weight) for g in kept],
        torch.cat([previous[g.id] for g in kept]),
        objective,
        beta,
    )

    per_demo = [
        demonstration_loss(
            objective, s[:1].expand(len(s) - 1), s[1:], p[:1].expand(len(s) - 1), p[1:], beta=beta
        )
        for s, p in ((scores[g.id], previous[g.id]) for g in demos)
    ]
    chosen, rejected = torch.stack([scores[g.id] for g in prefs]).unbind(1)
    expected = joint(torch.stack(per_demo).mean(), bradley_terry(chosen, rejected), gamma, alpha)
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    assert all((g.kind == "demo") <= (gamma > 0) for g in kept)
    assert all((g.kind == "preference") <= (alpha > 0) for g in kept)


def test_nothing_left_to_weigh_is_an_error():
    with pytest.raises(UserError, match="no pair is left"):
        weigh([PairGroup("p", "preference", [[1], [2]])], gamma_demo=1.0, alpha_pref=0.0)
