"""What a reward model is fitted on: groups of tokenised texts that share a prompt.

A demonstration group is (demonstration, completion 1, ..., completion K); a preference group is
(chosen, rejected). The first text is the better one throughout.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from irl_align.core.errors import UserError
from irl_align.llm.data.schema import Demonstration, Message, Preference
from irl_align.llm.generation.samples import PromptSamples
from irl_align.llm.packing import packed_length
from irl_align.llm.training import whole_batches

__all__ = [
    "PairGroup",
    "build_demo_groups",
    "build_preference_groups",
    "fill_batches",
    "split_holdout",
    "weigh",
]

Tokenise = Callable[..., list[int]]


@dataclass
class PairGroup:
    """`texts[0]` is the demonstration (or chosen), `texts[1:]` the completions (or rejected).

    `previous`: scores of the frozen r_t on the same texts (residual objective); `weight`: factor
    of the group's loss in the batch mean.
    """

    id: str
    kind: str  # "demo" or "preference"
    texts: list[list[int]]
    previous: list[float] = field(default_factory=list)
    weight: float = 1.0

    @property
    def pairs(self) -> int:
        return len(self.texts) - 1


def _in_holdout(identity: str, share: float) -> bool:
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def split_holdout(
    groups: Sequence[PairGroup], share: float
) -> tuple[list[PairGroup], list[PairGroup]]:
    """(fit, held out). A hash of the id decides, so a prompt keeps its side in every round."""
    fit = [g for g in groups if not _in_holdout(g.id, share)]
    held = [g for g in groups if _in_holdout(g.id, share)]
    return fit, held


def build_demo_groups(
    demonstrations: Sequence[Demonstration],
    samples: Mapping[str, PromptSamples],
    tokenise: Tokenise,
    *,
    max_length: int,
    truncated: str = "drop",
    limit: int | None = None,
    choose: str = "first",
) -> tuple[list[PairGroup], Counter[str]]:
    """Pair each demonstration with its prompt's completions.

    Dropped and counted: completions equal to the demonstration, cut off (`truncated="drop"`), or
    over `max_length` tokens with their prompt; demonstrations that are over-long, were not sampled
    or are left without a completion. `truncated="match"` keeps a cut-off completion in a group of
    its own, where the demonstration is cut to the same length and both are rendered open: whether
    a text is finished then tells the two apart in no pair. Of more than `limit` usable completions
    the first are kept, or (`choose="near_length"`) those nearest to the demonstration in length,
    so that length tells little and the reward has to find something else.
    """
    groups: list[PairGroup] = []
    dropped: Counter[str] = Counter()
    for demo in demonstrations:
        found = samples.get(demo.id)
        if found is None:
            dropped["not_sampled"] += 1  # another round's prompt
            continue
        if not found.completions:
            dropped["no_completion"] += 1
            continue
        demo_text = tokenise(demo.prompt, demo.response)
        if len(demo_text) > max_length:
            dropped["demonstration_over_max_length"] += 1
            continue
        texts: list[list[int]] = []
        for completion in found.completions:
            if choose == "first" and limit is not None and len(texts) >= limit:
                break
            if not completion.text:
                dropped["empty_completion"] += 1
                continue
            if completion.text == demo.response:
                dropped["equal_to_demonstration"] += 1
                continue
            if not completion.finished:
                if truncated == "drop":
                    dropped["cut_off"] += 1
                else:
                    pair = _matched(demo.prompt, demo.response, completion.text, tokenise)
                    if pair is None or len(pair[1]) > max_length:
                        dropped["cut_off"] += 1
                    else:
                        groups.append(PairGroup(demo.id, "demo", pair))
                continue
            text = tokenise(demo.prompt, completion.text)
            if len(text) > max_length:
                dropped["completion_over_max_length"] += 1
                continue
            texts.append(text)
        if choose == "near_length" and limit is not None:
            texts = _nearest(texts, len(demo_text), limit)
        if texts:
            groups.append(PairGroup(demo.id, "demo", [demo_text, *texts]))
        elif not groups or groups[-1].id != demo.id:
            dropped["no_completion"] += 1
    return groups, dropped


def _nearest(texts: list[list[int]], length: int, limit: int) -> list[list[int]]:
    """The `limit` texts nearest to `length` tokens, in the order they came."""
    near = sorted(range(len(texts)), key=lambda i: abs(len(texts[i]) - length))[:limit]
    return [texts[i] for i in sorted(near)]


def _matched(
    prompt: Sequence[Message], demo: str, completion: str, tokenise: Tokenise
) -> list[list[int]] | None:
    """Both texts open and of the same number of tokens; None when nothing comparable is left."""
    demo_open = tokenise(prompt, demo, finished=False)
    cut_open = tokenise(prompt, completion, finished=False)
    length = min(len(demo_open), len(cut_open))
    pair = [demo_open[:length], cut_open[:length]]
    return None if pair[0] == pair[1] else pair


def build_preference_groups(
    preferences: Sequence[Preference], tokenise: Tokenise, *, max_length: int
) -> tuple[list[PairGroup], Counter[str]]:
    """One group a human pair; pairs with a side over `max_length` are dropped and counted."""
    groups: list[PairGroup] = []
    dropped: Counter[str] = Counter()
    for pair in preferences:
        chosen = tokenise(pair.prompt, pair.chosen)
        rejected = tokenise(pair.prompt, pair.rejected)
        if max(len(chosen), len(rejected)) > max_length:
            dropped["preference_over_max_length"] += 1
            continue
        groups.append(PairGroup(pair.id, "preference", [chosen, rejected]))
    return groups, dropped


def weigh(groups: Sequence[PairGroup], gamma_demo: float, alpha_pref: float) -> list[PairGroup]:
    """Set the weights so that a mean over random groups estimates AIHF's weighted sum.

    loss = gamma_demo E_demo[l] + alpha_pref E_pref[l] (thesis eq. 4.23), each an average over its
    own source; a batch mixes both sources in proportion n_demo : n_pref, so a group of a source
    with n of the N groups weighs coefficient * N / n. A source with coefficient 0 is left out.
    """
    wanted = {"demo": gamma_demo, "preference": alpha_pref}
    kept = [g for g in groups if wanted[g.kind] > 0]
    counts = Counter(g.kind for g in kept)
    for group in kept:
        group.weight = wanted[group.kind] * len(kept) / counts[group.kind]
    if not kept:
        raise UserError(
            "no pair is left to fit the reward model on: every completion was cut off, empty or "
            "equal to its demonstration. Raise sampling.max_new_tokens or the temperature, or set "
            "reward.truncated=match"
        )
    return kept


def fill_batches(
    groups: Sequence[PairGroup], batch_size: int, seed: int, epochs: float = 1.0
) -> list[PairGroup]:
    """Whole global batches (:func:`whole_batches`) whose mean loss is still that of `groups`.

    A group that stands c times among the M of the result weighs M / (N c) as much, N the number
    of different ones in it (less than an epoch leaves some out).
    """
    filled = whole_batches(
        groups, batch_size, seed, epochs=epochs, length=lambda g: packed_length(g.texts)
    )
    copies = Counter(id(g) for g in filled)
    share = len(filled) / len(copies)
    return [replace(g, weight=g.weight * share / copies[id(g)]) for g in filled]
