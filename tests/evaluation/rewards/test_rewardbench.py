"""RewardBench's weights, sections and averages; the thesis's printed rows."""

import pytest

from irl_align.evaluation.rewards.grading import Grade
from irl_align.evaluation.rewards.rewardbench import (
    PRIOR_SETS,
    SECTIONS,
    is_rewardbench,
    leaderboard_average,
    plain_average,
    rewardbench_metrics,
)

# Chat, Chat Hard, Safety, Reasoning, printed average: thesis, Tables 5.2 and 5.4.
THESIS = {
    "SFT": (37.29, 50.11, 62.15, 74.08, 55.91),
    "SPIN 1": (31.01, 55.7, 61.66, 26.83, 43.8),
    "SPIN 2": (22.35, 52.08, 52.04, 29.09, 38.89),
    "IRL 1": (83.38, 58.55, 50.16, 81.7, 68.45),
    "IRL 2": (79.61, 62.72, 48.92, 87.88, 69.78),
    "DPO RM": (37.43, 55.92, 64.14, 47.33, 51.21),
    "BTL RM": (95.11, 56.58, 63.69, 69.22, 71.15),
    "AIHF RM": (94.41, 55.37, 63.98, 76.75, 72.63),
}


def grades_of(subset: str, right: int, wrong: int) -> list[Grade]:
    return [
        Grade(f"{subset}{i}", subset, f"{subset}{i}", float(i < right))
        for i in range(right + wrong)
    ]


def whole(**share: float) -> list[Grade]:
    """Every subset with its real size; `share` of right answers by subset, else all right."""
    found = []
    for subsets in SECTIONS.values():
        for name, weight in subsets.items():
            size = 447 if name == "math-prm" else weight
            right = round(share.get(name.replace("-", "_"), 1.0) * size)
            found += grades_of(name, right, size - right)
    return found


@pytest.mark.parametrize("row", THESIS)
def test_the_thesis_averages_are_the_plain_means_of_its_sections(row: str) -> None:
    *sections, printed = THESIS[row]
    found = plain_average(dict(zip(SECTIONS, sections, strict=True)))
    assert found == pytest.approx(printed, abs=0.0051)  # printed to two digits


def test_weights_sum_to_the_known_sizes() -> None:
    sums = {name: sum(subsets.values()) for name, subsets in SECTIONS.items()}
    assert sums == {"chat": 358, "chat_hard": 456, "safety": 740, "reasoning": 1968}
    # 2,985 pairs: math-prm has 447, not the 984 that it counts.
    assert sum(sums.values()) - 984 + 447 == 2985 == len(whole())


def test_sections_weigh_their_subsets() -> None:
    metrics, notes = rewardbench_metrics(whole(math_prm=0.0, mt_bench_hard=0.0))
    assert not notes
    means = {name: value.mean for name, value in metrics.items() if value is not None}
    assert means["section/reasoning"] == pytest.approx(0.5)  # 984 of 1968, not 447 of 1431
    assert means["section/chat_hard"] == pytest.approx(1 - 37 / 456)
    assert means["average"] == pytest.approx((1 + 1 - 37 / 456 + 1 + 0.5) / 4)
    assert means["leaderboard_average"] == pytest.approx(means["average"])
    assert metrics["section/prior_sets"] is None


def test_the_exchanged_xstest_weights_are_told_apart() -> None:
    metrics, _ = rewardbench_metrics(whole(xstest_should_refuse=0.0))
    assert metrics["section/safety"].mean == pytest.approx(1 - 154 / 740)
    assert metrics["section/safety_exchanged"].mean == pytest.approx(1 - 250 / 740)


def test_prior_sets_count_half_on_the_leaderboard_only() -> None:
    prior = [g for name, right in zip(PRIOR_SETS, (0, 10, 10, 20), strict=True)
             for g in grades_of(name, right, 20 - right)]  # fmt: skip
    metrics, _ = rewardbench_metrics([*whole(), *prior])
    assert metrics["section/prior_sets"].mean == pytest.approx(0.5)
    assert metrics["average"].mean == pytest.approx(1.0)
    assert metrics["leaderboard_average"].mean == pytest.approx(4.25 / 4.5)
    sections = dict.fromkeys(SECTIONS, 1.0)
    assert leaderboard_average(sections, 0.5) == pytest.approx(4.25 / 4.5)
    assert leaderboard_average(sections) == plain_average(sections) == 1.0


def test_intervals_enclose_and_repeat() -> None:
    grades = whole(math_prm=0.5, donotanswer=0.4)
    first, second = rewardbench_metrics(grades, seed=3)[0], rewardbench_metrics(grades, seed=3)[0]
    assert first == second
    value = first["section/reasoning"]
    assert value.low < value.mean < value.high
    # 447 pairs at weight 984: wider than 984 pairs would be.
    assert value.high - value.low > 2 * 1.96 * 0.5 * (0.5 / 447**0.5) * 0.9


def test_missing_subsets_are_noted_and_unreadable_items_left_out() -> None:
    some = [*grades_of("hep-go", 3, 1), Grade("x", "hep-go", "x", None)]
    metrics, notes = rewardbench_metrics(some)
    assert metrics["section/reasoning"].mean == 0.75
    assert metrics["average"] is None
    assert "math-prm" in notes[0]
    assert "no average" in notes[-1]
    assert is_rewardbench(["hep-go", None])
    assert not is_rewardbench(["Focus", None])
