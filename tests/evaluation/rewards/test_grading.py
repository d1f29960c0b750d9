"""Right and wrong by scores and by judges; summaries; rows that read back."""

import pytest

from irl_align.core.errors import UserError
from irl_align.evaluation.rewards.grading import Grade, ScoreGrader
from irl_align.evaluation.rewards.items import Item
from irl_align.evaluation.rewards.judging import JudgeGrader, judge_subject
from irl_align.evaluation.rewards.trial import run_trial, summarise
from irl_align.evaluation.store import DataRecord

PROMPT = ({"role": "user", "content": "p"},)


def item(name: str, *responses: str, subset: str | None = None) -> Item:
    return Item(name, PROMPT, responses, subset)


class ByLength:
    def score(self, prompts, responses, *, batch_size=16):
        return [float("nan") if text == "nan" else float(len(text)) for text in responses]


def test_right_only_when_strictly_the_best() -> None:
    items = [item("a", "xxx", "x"), item("b", "xx", "yy"), item("c", "xx", "y", "zzz", "y"),
             item("d", "xxx", "y", "zz", "y"), item("e", "xx", "y", "zz", "y")]  # fmt: skip
    grades = ScoreGrader(ByLength()).grade(items)
    assert [g.credit for g in grades] == [1.0, 0.0, 0.0, 1.0, 0.0]
    assert [g.tie for g in grades] == [False, True, False, False, True]
    assert grades[2].margin == -1.0
    assert [Grade.from_row(g.as_row()) for g in grades] == grades
    with pytest.raises(UserError, match="item z"):
        ScoreGrader(ByLength()).grade([item("z", "nan", "x")])


class Judge:
    """Prefers the longer; ties; unreadable on `?`; `favours` what stands first on request."""

    def __init__(self, favours_first: bool = False) -> None:
        self.favours_first = favours_first
        self.asked: list[tuple[str, str]] = []

    def compare(self, prompt, a, b):
        self.asked.append((a, b))
        if "?" in a + b:
            return None
        if self.favours_first:
            return "a"
        return "tie" if len(a) == len(b) else "a" if len(a) > len(b) else "b"


def test_a_judge_earns_full_half_or_no_point() -> None:
    items = [
        item("a", "xxx", "x"),
        item("b", "xx", "yy"),
        item("c", "x", "yy"),
        item("d", "?", "y"),
    ]
    grades = JudgeGrader(Judge(), workers=2).grade(items)
    assert [g.credit for g in grades] == [1.0, 0.5, 0.0, None]
    assert [Grade.from_row(g.as_row()) for g in grades] == grades
    metrics, headline, notes = summarise(grades)
    assert metrics["accuracy"].mean == 0.5
    assert (metrics["items"], metrics["graded"], metrics["unreadable"]) == (4, 3, 1)
    assert headline == ("accuracy",)
    assert "unreadable" in notes[0]
    with pytest.raises(UserError, match="none of 1"):
        summarise(grades[3:])


def test_places_are_drawn_by_seed_and_id_alone() -> None:
    items = [item(str(i), "good", "bad") for i in range(200)]
    judge = Judge(favours_first=True)
    first = JudgeGrader(judge, seed=1).grade(items)
    again = JudgeGrader(Judge(favours_first=True), seed=1).grade(items[::-1])[::-1]
    assert first == again
    share = sum(g.credit for g in first) / 200
    assert 0.4 < share < 0.6
    other = JudgeGrader(Judge(favours_first=True), seed=2).grade(items)
    assert other != first


def test_both_orders_cancel_a_favoured_place() -> None:
    judge = Judge(favours_first=True)
    (grade,) = JudgeGrader(judge, both_orders=True).grade([item("a", "good", "bad")])
    assert grade.credit == 0.5
    assert sorted(judge.asked) == [("bad", "good"), ("good", "bad")]
    (best,) = JudgeGrader(Judge()).grade([item("b", "xxx", "x", "xxxx")])
    assert best.credit == 0.0


def test_subsets_are_reported_apart_and_averaged() -> None:
    grades = ScoreGrader(ByLength()).grade(
        [item("a", "xx", "x", subset="u"), item("b", "xx", "x", subset="u"),
         item("c", "xx", "x", subset="u"), item("d", "x", "y", subset="v")]
    )  # fmt: skip
    metrics, headline, _ = summarise(grades)
    assert metrics["accuracy"].mean == 0.75
    assert metrics["subset_mean"].mean == 0.5
    assert (metrics["subset/v"].mean, metrics["subset_ties/v"], metrics["ties"]) == (0.0, 1, 1)
    assert headline == ("accuracy", "subset_mean")


def test_a_judge_on_trial_is_asked_again_where_it_gave_no_answer(tmp_path) -> None:
    judge = Judge()
    subject = judge_subject(judge, {"model": "m", "endpoint": "http://x"}, seed=3)
    items = [item("a", "xxx", "x"), item("b", "?", "y")]
    data = DataRecord("made.jsonl", "ab" * 32)
    first = run_trial(items, data, subject, folder=tmp_path)
    assert first.evaluation.judge == {"model": "m", "endpoint": "http://x"}
    assert first.evaluation.settings["placement_seed"] == 3
    assert first.evaluation.metrics["unreadable"] == 1
    asked = len(judge.asked)
    run_trial(items, data, subject, folder=tmp_path)
    assert len(judge.asked) == asked + 1
    assert len((tmp_path / first.evaluation.items).read_text().splitlines()) == 2
