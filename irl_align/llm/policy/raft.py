"""RAFT, rejection sampling or best-of-n: supervised steps on the answers that score best.

chosen(x) = argmax over the round's n completions of r(x, y), then -mean log pi(chosen | x) from the
current policy (Dong et al. 2023, arXiv 2304.06767). Before the steps KL(best-of-n || pi) is at most
log n - (n - 1) / n; there is no KL term that would hold later rounds, so `beta` does not enter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from irl_align.core.errors import UserError
from irl_align.llm.data.schema import Demonstration
from irl_align.llm.generation.samples import PromptSamples
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.sft import fit_answers

if TYPE_CHECKING:
    from irl_align.llm.config import AlignConfig

__all__ = ["best_answers", "fit_raft"]


def best_answers(
    samples: Sequence[PromptSamples], *, key: str = "reward"
) -> tuple[list[Demonstration], Counter[str]]:
    """(the best finished completion of each prompt, what was left out). Unfinished ones are never
    chosen: a policy that learned from them would stop ending its answers."""
    best: list[Demonstration] = []
    dropped: Counter[str] = Counter()
    for item in samples:
        if item.skipped:
            dropped["over_long_prompt"] += 1
            continue
        whole = [c for c in item.completions if c.finished and c.text]
        dropped["cut_off_completions"] += len(item.completions) - len(whole)
        if not whole:
            dropped["no_finished_completion"] += 1
            continue
        chosen = max(whole, key=lambda c: c.scores[key])
        best.append(Demonstration(item.id, tuple(item.prompt), chosen.text))
    return best, dropped


def fit_raft(
    policy: PolicyRef,
    initial: PolicyRef,
    samples: Sequence[PromptSamples],
    out: Path,
    config: AlignConfig,
    *,
    seed: int,
    scratch: Path,
) -> dict[str, float]:
    """Improve `policy` on the best of its scored `samples` and save pi_{t+1} into `out`.

    `policy/*` metrics: the loss, `best_score` and `mean_score` of the completions. UserError when
    no completion was finished.
    """
    best, dropped = best_answers(samples)
    if not best:
        raise UserError(
            f"no prompt has a finished completion ({dict(dropped)}): raise "
            "sampling.max_new_tokens or samples_per_prompt"
        )
    metrics = fit_answers(
        policy,
        initial,
        best,
        out,
        config.policy,
        config.model,
        reference=config.policy.reference,
        seed=seed,
        scratch=scratch,
        save_dtype=config.sampling.dtype,
        phase="policy",
    )
    scored = [[c.scores["reward"] for c in s.completions if c.finished] for s in samples]
    scored = [row for row in scored if row]
    metrics["policy/best_score"] = sum(map(max, scored)) / len(scored)
    metrics["policy/mean_score"] = sum(sum(r) / len(r) for r in scored) / len(scored)
    return metrics | {f"policy/dropped_{k}": float(v) for k, v in dropped.items()}
