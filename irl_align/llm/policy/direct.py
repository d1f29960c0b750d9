"""Objectives without a reward model: SPIN, DPO, IPO, RPO and SPAC, as pairs for one trainer.

    loss = gamma E_{demo, y' ~ pi_t} l(D(demo) - D(y')) + alpha E_pref l(D(chosen) - D(rejected))

with D = beta log pi / pi_ref and l = -log sigmoid, or what `policy.loss_type` says: `ipo` is IPO
per token, `ipo_sum` IPO on whole answers (see `dpo_trainers`).

| method | gamma | alpha | reference | |
|---|---|---|---|---|
| spin | 1 | 0 | previous | Chen et al. 2024; the loss starts at log 2 |
| spin, one round | 1 | 0 | sft, base | DPO on synthetic pairs |
| dpo | 0 | 1 | sft, base | Rafailov et al. 2023; human pairs only |
| rpo | `reward.gamma_demo` | `reward.alpha_pref` | sft, base | gamma weighs demonstrations' NLL |
| spac | 1 | `reward.alpha_pref` | previous | SPAC as the thesis has it: human pairs beside |

The reward is implicit: beta log pi / pi_ref of the policy that comes out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from irl_align.core.errors import UserError
from irl_align.llm.data.schema import Demonstration, Preference
from irl_align.llm.generation.samples import PromptSamples
from irl_align.llm.policy.pairs import PolicyPair

if TYPE_CHECKING:
    from irl_align.llm.config import AlignConfig

__all__ = ["direct_pairs", "mix", "self_play_pairs"]


def self_play_pairs(
    demonstrations: Sequence[Demonstration],
    samples: Mapping[str, PromptSamples],
    *,
    limit: int | None = None,
) -> tuple[list[PolicyPair], Counter[str]]:
    """(each demonstration over the policy's own answers, at most `limit` of them; what was left
    out). Cut-off answers form no pair: being cut off alone would tell the two apart."""
    pairs: list[PolicyPair] = []
    dropped: Counter[str] = Counter()
    for demo in demonstrations:
        found = samples.get(demo.id)
        if found is None or not found.completions:
            dropped["not_sampled"] += 1
            continue
        whole = [c.text for c in found.completions if c.finished and c.text]
        dropped["cut_off_completions"] += len(found.completions) - len(whole)
        others = [t for t in dict.fromkeys(whole) if t != demo.response][:limit]
        if not others:
            dropped["no_completion"] += 1
        pairs += [PolicyPair(demo.id, demo.prompt, demo.response, text, 0.0) for text in others]
    return pairs, dropped


def mix(
    own: Sequence[PolicyPair], human: Sequence[PolicyPair], alpha: float, seed: int
) -> list[PolicyPair]:
    """Rows whose mean loss is (E_own + alpha E_human) / (1 + alpha): all of `own`, and `human` in
    an order drawn by `seed`, again and again until there are alpha times as many. Without `own`
    all of `human`."""
    if not own:
        return list(human)
    wanted = round(alpha * len(own)) if human else 0
    generator = random.Random(seed)
    rows = list(own)
    while wanted > 0:
        turn = generator.sample(list(human), len(human))[:wanted]
        rows += turn
        wanted -= len(turn)
    return rows


def direct_pairs(
    config: AlignConfig,
    demonstrations: Sequence[Demonstration],
    preferences: Sequence[Preference],
    samples: Sequence[PromptSamples],
    seed: int,
) -> tuple[list[PolicyPair], Counter[str]]:
    """The round's pairs for `policy.method`. UserError when there are none."""
    method = config.policy.method
    human = [PolicyPair(p.id, p.prompt, p.chosen, p.rejected, 0.0) for p in preferences]
    own: list[PolicyPair] = []
    dropped: Counter[str] = Counter()
    if method not in ("dpo", "rpo"):
        limit = config.reward.samples_per_demonstration
        own, dropped = self_play_pairs(demonstrations, {s.id: s for s in samples}, limit=limit)
        if not own:
            raise UserError(
                f"no demonstration has a finished completion to stand over ({dict(dropped)}): "
                "raise sampling.max_new_tokens, samples_per_prompt or temperature"
            )
    pairs = own if method == "spin" else mix(own, human, config.reward.alpha_pref, seed)
    return pairs, dropped
