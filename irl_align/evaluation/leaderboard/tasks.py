"""The six tasks of the Open LLM Leaderboard: shots, metric, and the columns of their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from irl_align.core.errors import UserError

__all__ = ["TASKS", "LeaderboardTask", "choose_tasks"]


@dataclass(frozen=True)
class LeaderboardTask:
    """One task.

    Attributes:
        name: on the command line; `template`: of lm-eval's task, in its folder of tasks.
        shots: worked examples before each question.
        metric, filter: what the leaderboard reports, as lm-eval names it.
        split, shot_split: where questions and examples come from (None: it has no examples).
        columns: what each row of these has.
    """

    name: str
    template: str
    shots: int
    metric: str
    filter: str
    split: str
    shot_split: str | None
    columns: tuple[str, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        return (self.split,) if self.shot_split is None else (self.split, self.shot_split)


TASKS: dict[str, LeaderboardTask] = {
    task.name: task
    for task in (
        LeaderboardTask(
            "arc_challenge", "arc/arc_challenge.yaml", 25, "acc_norm", "none", "test", "train",
            ("question", "choices", "answerKey"),
        ),
        LeaderboardTask(
            "hellaswag", "hellaswag/hellaswag.yaml", 10, "acc_norm", "none", "validation", "train",
            ("activity_label", "ctx_a", "ctx_b", "endings", "label"),
        ),
        LeaderboardTask(
            "mmlu", "mmlu/default/mmlu_{subject}.yaml", 5, "acc", "none", "test", "dev",
            ("subject", "question", "choices", "answer"),
        ),
        # Its prefix of six questions is part of every prompt, so there are no further shots.
        LeaderboardTask(
            "truthfulqa_mc2", "truthfulqa/truthfulqa_mc2.yaml", 0, "acc", "none", "validation",
            None, ("question", "mc2_targets"),
        ),
        LeaderboardTask(
            "winogrande", "winogrande/default.yaml", 5, "acc", "none", "validation", "train",
            ("sentence", "option1", "option2", "answer"),
        ),
        # The leaderboard's "acc" is the exact match of what stands behind "####".
        LeaderboardTask(
            "gsm8k", "gsm8k/gsm8k.yaml", 5, "exact_match", "strict-match", "test", "train",
            ("question", "answer"),
        ),
    )
}  # fmt: skip


def choose_tasks(names: Sequence[str] | None) -> list[LeaderboardTask]:
    """The tasks of these names in the leaderboard's order; all six for None. UserError for a name
    that there is not."""
    unknown = [name for name in names or () if name not in TASKS]
    if unknown:
        raise UserError(f"--tasks: there is no {unknown[0]!r}; known are {', '.join(TASKS)}")
    return [task for name, task in TASKS.items() if names is None or name in names]
