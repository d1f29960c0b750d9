"""Nash-MD with a preference model of two answers: by enumeration, then in whole rounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny import WORDS, write_demonstrations, write_prompts
from tiny_world import PROMPTS, TEXTS, VOCABULARY, enumerated, kl, tiny_policy, write_world
from torch import Tensor

from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.llm.alignment import align
from irl_align.llm.config import (
    AlignConfig,
    ModelConfig,
    PolicyConfig,
    RewardConfig,
    SamplingConfig,
)
from irl_align.llm.data.schema import Preference
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.group import make_group_trainer
from irl_align.llm.policy.mixture import mixture_logprobs, sample_mixture
from irl_align.llm.policy.nash import Opponents
from irl_align.llm.policy.settings import GroupSettings, NashSettings
from irl_align.llm.preflight import preflight
from irl_align.llm.quiet import show_progress
from irl_align.llm.reward.classifier import load_classifier
from irl_align.llm.reward.learner import fit_reward
from irl_align.llm.reward.pairs import build_preference_groups
from irl_align.llm.reward.pairwise import PairwisePreference, as_ordered_pairs
from irl_align.llm.reward.scorer import RewardScorer
from irl_align.llm.training import training_arguments

BETA = 0.25


# The preference model


class Table:
    """A score for every text, whatever it is."""

    def score(self, prompts, responses, *, finished=None, batch_size=32):
        return [float(len(r) * 3 % 7 + ord(r[-1]) % 5) for r in responses]


def test_the_two_orders_sum_to_one_whatever_the_model_says():
    model = PairwisePreference(Table())
    answers = ["a", "bb", "cc dd", "a longer one", "x"]
    first = [a for a in answers for _ in answers]
    second = [b for _ in answers for b in answers]
    prompts = [[{"role": "user", "content": "?"}]] * len(first)
    one = torch.tensor(model.probability(prompts, first, second), dtype=torch.float64)
    other = torch.tensor(model.probability(prompts, second, first), dtype=torch.float64)
    assert torch.allclose(one + other, torch.ones_like(one), atol=1e-15)
    assert one.reshape(5, 5).diagonal().tolist() == [0.5] * 5
    assert one.unique().numel() > 5, "it is no constant"


def circle() -> list[Preference]:
    prompt = ({"role": "user", "content": "say red"},)
    beats = [("good", "bad"), ("bad", "old"), ("old", "good")]
    return [Preference(f"p{i}", prompt, a, b) for i, (a, b) in enumerate(beats)]


def fitted(model_folder: Path, scratch: Path, pairs: list[Preference]) -> RewardScorer:
    """A score of texts, fitted on pairs of them."""
    config = RewardConfig(
        objective="pairwise_logistic", epochs=40, learning_rate=3e-3, warmup_ratio=0.0,
        batch_size=3, micro_batch_size=3,
    )  # fmt: skip
    scorer = RewardScorer(
        load_classifier(model_folder, new_head=True), load_tokenizer(model_folder)
    )
    scorer.reader.classifier.config.pad_token_id = scorer.tokenizer.pad_token_id
    groups, dropped = build_preference_groups(pairs, scorer.tokenise, max_length=256)
    assert not dropped
    arguments = training_arguments(config, ModelConfig(bf16=False), seed=0, scratch=scratch)
    fit_reward(scorer, groups, [], config, arguments)
    return scorer


def test_a_circle_is_learned_by_pairs_and_by_no_reward(tmp_path, model_folder):
    prompts = [p.prompt for p in circle()]
    chosen, rejected = [p.chosen for p in circle()], [p.rejected for p in circle()]
    pairs = PairwisePreference(fitted(model_folder, tmp_path, as_ordered_pairs(circle())))
    assert min(pairs.probability(prompts, chosen, rejected)) > 0.9
    reward = fitted(model_folder, tmp_path, circle())
    better, worse = reward.score(prompts, chosen), reward.score(prompts, rejected)
    assert min(a - b for a, b in zip(better, worse, strict=True)) < 1e-6


def test_a_reward_model_is_not_taken_for_one_of_pairs(model_folder):
    with pytest.raises(UserError, match="nash_md"):
        PairwisePreference.load(model_folder)


# The mixture


def padded() -> tuple[Tensor, Tensor]:
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in PROMPTS])
    return ids, (ids != 0).long()


@torch.no_grad()
def next_logits(model, *before: int) -> Tensor:
    rows = [model(input_ids=torch.tensor([[*p, *before]])).logits[0, -1] for p in PROMPTS]
    return torch.stack(rows)


@pytest.mark.parametrize("mixture", [0.0, 0.3, 1.0])
def test_opponents_are_drawn_from_the_mixture(mixture):
    """First tokens, and second ones behind a given first; the shorter prompt is padded."""
    policy, reference = (tiny_policy(seed).eval() for seed in (0, 1))
    with torch.no_grad():
        for model in (policy, reference):
            model.lm_head.weight.mul_(4)  # far from uniform, so that the three differ
    ids, mask = padded()
    count = 4000
    drawn = sample_mixture(
        policy, reference, ids.repeat(count, 1), mask.repeat(count, 1), mixture=mixture,
        max_new_tokens=2, eos_token_id=2, pad_token_id=0, temperature=0.7,
        generator=torch.Generator().manual_seed(0),
    ).reshape(count, len(PROMPTS), 2)  # fmt: skip
    wanted = mixture_logprobs(next_logits(policy), next_logits(reference), mixture, 0.7).exp()
    for p in range(len(PROMPTS)):
        found = torch.bincount(drawn[:, p, 0], minlength=VOCABULARY) / count
        assert float((found - wanted[p]).abs().sum()) / 2 < 0.03
        ended = drawn[:, p, 0] == 2
        assert bool((drawn[ended, p, 1] == 0).all())
        first = int(drawn[~ended, p, 0].mode().values)
        behind = mixture_logprobs(
            next_logits(policy, first)[p], next_logits(reference, first)[p], mixture, 0.7
        ).exp()
        rows = drawn[drawn[:, p, 0] == first, p, 1]
        found = torch.bincount(rows, minlength=VOCABULARY) / len(rows)
        assert float((found - behind).abs().sum()) / 2 < 0.06
    own = mixture_logprobs(next_logits(policy), next_logits(reference), 0.0, 0.7).exp()
    if mixture:
        assert float((own - wanted).abs().sum(1).min()) / 2 > 0.1


# The Nash policy


def preference(seed: int = 0) -> Tensor:
    """P(i > j) of tokens: better and worse ones, and a strong circle through all of them."""
    generator = torch.Generator().manual_seed(seed)
    quality = torch.randn(VOCABULARY, generator=generator)
    angle = torch.arange(VOCABULARY) * 2 * torch.pi / VOCABULARY
    around = 4 * torch.sin(angle[:, None] - angle[None, :])
    return torch.sigmoid(quality[:, None] - quality[None, :] + around)


def nash(reference: Tensor, table: Tensor) -> Tensor:
    """log pi of the policy that answers to itself, [prompt, token]."""
    logs = reference
    for t in range(4000):
        m = 2 / (t + 2)
        opponent = ((1 - m) * logs + m * reference).log_softmax(1)
        logs = (opponent + m / BETA * opponent.exp() @ table.T).log_softmax(1)
    return logs


def test_the_policy_becomes_the_one_that_answers_to_itself(tmp_path):
    table = preference()
    start = next_logits(tiny_policy()).log_softmax(1)
    wanted = nash(start, table)
    itself = (start + wanted.exp() @ table.T / BETA).log_softmax(1)
    assert kl(wanted, itself) < 1e-5

    config = AlignConfig(
        model=ModelConfig(bf16=False),
        sampling=SamplingConfig(backend="hf", max_new_tokens=1, max_prompt_tokens=8),
        policy=PolicyConfig(
            method="nash_md", reference="base", beta=BETA, learning_rate=1e-2, warmup_ratio=0.0,
            lr_scheduler="linear", batch_size=512, micro_batch_size=512,
            group=GroupSettings(answers=64, iterations=2),
        ),
    )  # fmt: skip
    at = PolicyRef.at(write_world(tmp_path / "world"))
    trainer = make_group_trainer(
        at, at, list(TEXTS) * 320, lambda *_: [], config, seed=0, scratch=tmp_path / "scratch"
    )
    opponents = Opponents(trainer, NashSettings(), max_new_tokens=1, temperature=1.0, seed=0)
    mixtures: list[float] = []

    def pay(prompts, completion_ids, **_):
        others = opponents.sample([PROMPTS[TEXTS.index(p)] for p in prompts])
        mixtures.append(opponents.mixture)
        pairs = zip(completion_ids, others, strict=True)
        return [float(table[ours[0], other[0]]) for ours, other in pairs]

    trainer.reward_funcs[0] = pay
    show_progress(trainer, "test")
    trainer.train()
    found = next_logits(trainer.model.cpu().eval()).log_softmax(1)
    assert kl(start, wanted) > 0.1
    assert kl(found, wanted) < 0.02
    assert mixtures[0] == 0.5 and 0 < mixtures[-1] < 0.05
    assert enumerated(tiny_policy()).shape[0] == len(PROMPTS)


# Whole rounds

CONFIG = """
rounds: 2
seed: 3
run_dir: {home}/run
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {home}/demonstrations.jsonl}}
preferences: {{path: {home}/pairs.jsonl}}
sft: {{enabled: false}}
sampling:
  {{backend: hf, samples_per_prompt: 1, max_new_tokens: 8, dtype: float32, engine: persistent}}
reward:
  epochs: 3
  learning_rate: 3.0e-3
  batch_size: 4
  micro_batch_size: 4
  lora: {{r: 4, alpha: 8}}
policy:
  method: nash_md
  reference: base
  beta: 0.02
  epochs: 20
  learning_rate: 1.0e-2
  warmup_ratio: 0.0
  batch_size: 32
  micro_batch_size: 32
  group: {{answers: 4}}
  lora: {{r: 8, alpha: 16}}
evaluation:
  prompts: {home}/prompts.jsonl
  preferences: {{path: {home}/held.jsonl}}
  samples_per_prompt: 6
launch: {{inline: true, tensorboard: false}}
"""


def write_home(home: Path, model: Path) -> AlignConfig:
    write_demonstrations(home / "demonstrations.jsonl", rows=8)
    write_prompts(home / "prompts.jsonl", rows=4)
    for name, start in (("pairs", 0), ("held", 40)):
        rows = [
            {
                "prompt": f"say {WORDS[i % 11]} {start + i}",
                "chosen": f"good {WORDS[(3 * i + 1) % 17]} {WORDS[(5 * i + 2) % 17]}",
                "rejected": f"bad {WORDS[(7 * i + 3) % 17]} {WORDS[(2 * i + 5) % 17]}",
            }
            for i in range(24 if start == 0 else 8)
        ]
        (home / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (home / "tiny.yaml").write_text(CONFIG.format(home=home, model=model))
    return load_config(AlignConfig, home / "tiny.yaml", [])


def answers(path: Path) -> list[tuple[list[dict[str, str]], str]]:
    """(prompt, answer) of a file of completions, in its order."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(r["prompt"], c["text"]) for r in rows for c in r["completions"]]


def test_rounds_lead_to_what_the_model_of_preferences_prefers(tmp_path, trained_folder):
    folder = align(write_home(tmp_path, trained_folder))
    found = [json.loads((folder / f"rounds/{n:04d}/metrics.json").read_text()) for n in range(2)]
    for number in (0, 1):
        assert found[number]["eval/preference_accuracy"] > 0.9, "chosen answers begin with good"
        assert found[number]["policy/mixture"] < 0.1
        assert "eval/reward_score" not in found[number]
    model = PairwisePreference.load(folder / "rounds/0001/reward/model")
    prompt = [[{"role": "user", "content": "say red 3"}]]
    assert model.probability(prompt, ["good red"], ["bad red"])[0] > 0.5
    weights = [
        (folder / f"rounds/{n:04d}/reward/model/model.safetensors").read_bytes() for n in (0, 1)
    ]
    assert weights[0] == weights[1], "people's taste does not change with the rounds"
    start = answers(folder / "setup/sft/completions.jsonl")
    end = answers(folder / "rounds/0001/evaluation/completions.jsonl")
    prompts = [p for p, _ in start]
    assert prompts == [p for p, _ in end]
    won = model.probability(prompts, [a for _, a in end], [a for _, a in start])
    assert sum(won) / len(won) > 0.6


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["preferences.path=null"], r"nash_md.*set preferences\.path"),
        (["early_stop=true"], "early_stop"),
        (["policy.scores.rules.answers=x.jsonl"], "paid for nothing"),
    ],
)
def test_what_nash_md_lacks_is_said_before_anything_runs(
    tmp_path, trained_folder, overrides, message
):
    write_home(tmp_path, trained_folder)
    with pytest.raises(UserError, match=message):
        preflight(load_config(AlignConfig, tmp_path / "tiny.yaml", overrides))
