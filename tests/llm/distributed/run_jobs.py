"""Runs the jobs of the files named on the command line, one after another, in this process.

    torchrun --nproc_per_node 2 run_jobs.py JOB.json ...        (or plain python: one process)

Rank 0 leaves the metrics of each job beside its file. A separate program, because a test must not
join a process group, and because one launch for all jobs pays for one start. Answers of learners
that sample for themselves are written ones: sampled by two processes they would be others than
sampled by one.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from trl import GRPOTrainer, RLOOTrainer

from irl_align.llm.generation.samples import Completion
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.phases.table import run_job
from irl_align.llm.policy.nash import Opponents
from irl_align.llm.ppo.rollouts import OwnRollouts

WORDS = ("good bird", "bad", "red", "quick fish tree", "old house")


def written(self: OwnRollouts, prompts: list[int], seed: int, batch: int) -> list[Completion]:
    found = []
    for prompt in prompts:
        text = WORDS[(prompt + batch) % len(WORDS)]
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        finished = prompt % 3 > 0
        ids += [self.tokenizer.eos_token_id] if finished else []
        found.append(Completion(text, "stop" if finished else "length", len(ids), token_ids=ids))
    return found


def siblings(self: Any, prompts: list[list[int]], *rest: Any) -> Any:
    """Two answers to each prompt, which stand beside each other: what TRL's trainers generate.
    GRPO's also tells their log probabilities under the engine: there is none."""
    answers = [_ids(self, sum(prompt) + number % 2) for number, prompt in enumerate(prompts)]
    return (answers, None) if isinstance(self, GRPOTrainer) else answers


def opponents(self: Opponents, prompts: list[list[int]]) -> list[list[int]]:
    return [_ids(self.trainer, sum(prompt) + 2) for prompt in prompts]


def _ids(trainer: Any, number: int) -> list[int]:
    tokenizer = trainer.processing_class
    ids = tokenizer(WORDS[number % len(WORDS)], add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def main(files: list[Path]) -> None:
    for file in files:
        job = PhaseJob.read(file)
        metrics = run_job(job)
        if os.environ.get("RANK", "0") == "0":
            file.with_suffix(".metrics.json").write_text(json.dumps(metrics))
    sys.stdout.flush()
    os._exit(0)  # everything is on disk; tear-down of process groups may abort


if __name__ == "__main__":
    OwnRollouts._answer = written
    Opponents.sample = opponents
    GRPOTrainer._generate_single_turn = RLOOTrainer._generate_single_turn = siblings
    main([Path(a) for a in sys.argv[1:]])
