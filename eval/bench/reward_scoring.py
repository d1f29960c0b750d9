"""Scoring preference pairs: batches of like length with shared prompts, against file order.

The same reward model (the quickstart's body, float32) scores the same pairs with the same number of
texts a batch. The peer takes them in the order of the file, one padded row a text, as a plain loop
over a data loader does. Ours is what `irl-align score` runs. Prompts and responses are pieces of
the quickstart's demonstrations, with log-normal lengths (median 40 tokens each, sigma 1), as spread
out as public preference sets are. Scores of both must agree.
"""

from __future__ import annotations

import random
import time
from typing import Any

import torch
from transformers import AutoConfig

from eval.bench.workload import base_model, quickstart
from irl_align.evaluation.rewards.grading import ScoreGrader
from irl_align.evaluation.rewards.items import Item
from irl_align.evaluation.rewards.trial import grade_items
from irl_align.llm.data.demonstrations import load_demonstrations
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.packing import pack
from irl_align.llm.reward.classifier import load_classifier
from irl_align.llm.reward.scorer import RewardScorer

__all__ = ["run"]

PAIRS = 48
BATCH = 16
MEDIAN, SIGMA, MOST = 40, 1.0, 900  # tokens


def _items() -> list[Item]:
    """PAIRS items in a random order; both responses of a pair have about the same length."""
    demonstrations, _ = load_demonstrations(str(quickstart().demonstrations.path))
    words = " ".join(d.response for d in demonstrations).split()
    draw = random.Random(0)

    def text(tokens: float) -> str:
        size = max(1, round(tokens / 1.3))  # words, at about 1.3 tokens each
        start = draw.randrange(max(1, len(words) - size))
        return " ".join(words[start : start + size])

    items = []
    for number in range(PAIRS):
        lengths = [min(MOST / 2, MEDIAN * draw.lognormvariate(0.0, SIGMA)) for _ in range(2)]
        prompt = ({"role": "user", "content": text(lengths[0])},)
        responses = tuple(text(lengths[1] * draw.uniform(0.7, 1.3)) for _ in range(2))
        items.append(Item(str(number), prompt, responses))  # type: ignore[arg-type]
    return items


@torch.no_grad()
def _in_file_order(scorer: RewardScorer, items: list[Item]) -> list[float]:
    texts = [scorer.tokenise(i.prompt, response) for i in items for response in i.responses]
    scores: list[float] = []
    for start in range(0, len(texts), BATCH):
        rows = [[text] for text in texts[start : start + BATCH]]
        batch = pack(rows, int(scorer.tokenizer.pad_token_id), shared_prefix=False)
        scores += scorer.reader.read(batch.to(scorer.device)).tolist()
    return scores


def _ours(scorer: RewardScorer, items: list[Item]) -> list[float]:
    grades = grade_items(items, lambda: ScoreGrader(scorer, batch_size=BATCH))
    return [score for grade in grades for score in grade.scores]


def run() -> dict[str, Any]:
    folder = base_model()
    config = AutoConfig.from_pretrained(folder)
    draw = torch.Generator().manual_seed(0)
    head = torch.randn(1, config.hidden_size, generator=draw) / config.hidden_size**0.5
    classifier = load_classifier(folder, new_head=True, head=head).eval()
    classifier.config.pad_token_id = load_tokenizer(folder).pad_token_id
    scorer = RewardScorer(classifier, load_tokenizer(folder))
    items = _items()
    _in_file_order(scorer, items[:2])  # warm up
    rates, scores = {}, {}
    for name, work in (("peer", _in_file_order), ("ours", _ours)):
        start = time.perf_counter()
        scores[name] = work(scorer, items)
        rates[name] = PAIRS / (time.perf_counter() - start)
        print(f"reward scoring, {name}: {rates[name]:.2f} pairs/s")
    gap = max(abs(a - b) for a, b in zip(scores["ours"], scores["peer"], strict=True))
    print(f"reward scoring: largest difference of a score {gap:.1e}")
    if gap > 1e-3:
        raise RuntimeError(f"the scores differ by {gap}; the speeds mean nothing")
    return {
        "reward_scoring": {
            "ours": rates["ours"],
            "peer": rates["peer"],
            "ratio": rates["ours"] / rates["peer"],
            "unit": "pairs/s, by length and shared prompts against file order (batch 16)",
            "runs": 1,
            "gap": gap,
        }
    }
