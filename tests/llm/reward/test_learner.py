"""The reward learner: right gradients, right objective, and it learns a rule it was not told."""

from __future__ import annotations

import math
import random

import pytest
import torch
from tiny import WORDS

from irl_align.core.objectives import bradley_terry
from irl_align.llm.chat import render, response_tokens
from irl_align.llm.config import LoraSettings, ModelConfig, RewardConfig
from irl_align.llm.models.adapters import lora_config
from irl_align.llm.reward.classifier import load_classifier
from irl_align.llm.reward.learner import batch_loss, fit_reward, group_accuracy, score_groups
from irl_align.llm.reward.pairs import PairGroup, weigh
from irl_align.llm.reward.scorer import RewardScorer
from irl_align.llm.training import training_arguments

OBJECTIVES = ["contrast", "pairwise_logistic", "residual_logistic"]


def config(**changes) -> RewardConfig:
    settings = {
        "learning_rate": 3e-3, "batch_size": 8, "micro_batch_size": 8, "warmup_ratio": 0.0,
        "lr_scheduler": "constant", "objective": "pairwise_logistic",
    }  # fmt: skip
    return RewardConfig(**(settings | changes))


@pytest.fixture(scope="module")
def make_groups(tokenizer):
    """Groups whose better texts start with "good" and whose others start with "bad"."""

    def make(kind: str, numbers: range, others: int = 2) -> list[PairGroup]:
        chance = random.Random(numbers.start)

        def text(number: int, first: str) -> list[int]:
            prompt = [{"role": "user", "content": f"say {chance.choice(WORDS)} {number}"}]
            answer = f"{first} {chance.choice(WORDS[:8])} {chance.choice(WORDS[:8])}"
            return response_tokens(tokenizer, render(tokenizer, prompt, answer))

        return [
            PairGroup(f"{kind}{i}", kind, [text(i, "good")] + [text(i, "bad")] * others)
            for i in numbers
        ]

    return make


@pytest.fixture
def fit(model_folder, tokenizer, tmp_path):
    """Fit a fresh zero-headed model; returns (scorer, metrics)."""

    def run(groups, settings: RewardConfig, held_out=(), body=model_folder):
        model_config = ModelConfig(path=str(body), bf16=False)
        torch.manual_seed(0)
        classifier = load_classifier(body, new_head=True)
        classifier.config.pad_token_id = tokenizer.pad_token_id
        if settings.lora is not None:
            from peft import get_peft_model

            get_peft_model(classifier, lora_config(settings.lora, classifier, "SEQ_CLS"))
        scorer = RewardScorer(classifier, tokenizer, shared_prefix=settings.shared_prefix)
        arguments = training_arguments(settings, model_config, seed=5, scratch=tmp_path)
        return scorer, fit_reward(scorer, groups, held_out, settings, arguments)

    return run


def weights_of(scorer: RewardScorer) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in scorer.reader.named_parameters()}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_gradient_against_finite_differences(objective):
    """Mixed groups of different sizes and weights, float64."""
    generator = torch.Generator().manual_seed(0)
    kinds = [("demo", 4, 0.5), ("preference", 2, 1.7), ("demo", 2, 1.3), ("demo", 3, 0.9)]
    total = sum(size for _, size, _ in kinds)
    scores = torch.randn(total, generator=generator, dtype=torch.float64, requires_grad=True)
    previous = torch.randn(total, generator=generator, dtype=torch.float64)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return batch_loss(values, kinds, previous, objective, 0.6)

    (gradient,) = torch.autograd.grad(loss(scores), scores)
    step = 1e-6
    for i in range(total):
        shift = torch.zeros(total, dtype=torch.float64)
        shift[i] = step
        numeric = (loss(scores.detach() + shift) - loss(scores.detach() - shift)) / (2 * step)
        assert abs(numeric - gradient[i]) < 1e-8
    assert gradient.abs().min() > 1e-6, "every text must matter"
    # A constant added to all scores of one prompt changes nothing.
    assert abs(gradient[:4].sum()) < 1e-12


def test_residual_loss_is_on_the_increment():
    kinds = [("demo", 3, 1.0)]
    previous = torch.tensor([4.0, 1.0, 2.0])
    at_start = batch_loss(previous.clone(), kinds, previous, "residual_logistic", 0.5)
    assert at_start.item() == pytest.approx(math.log(2), abs=1e-7)
    raised = batch_loss(
        previous + torch.tensor([1.0, 0, 0]), kinds, previous, "residual_logistic", 0.5
    )
    assert raised.item() == pytest.approx(math.log1p(math.exp(-1 / 0.5)), abs=1e-6)
    absolute = batch_loss(previous.clone(), kinds, previous, "pairwise_logistic", 0.5)
    assert absolute.item() < 0.02, "the absolute objective would see nothing left to learn"
    human = batch_loss(
        previous.clone(), [("preference", 2, 1.0)], previous, "residual_logistic", 0.5
    )
    assert human.item() == pytest.approx(math.log1p(math.exp(-3.0)), abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "lora"),
    [
        ("pairwise_logistic", None),
        ("residual_logistic", LoraSettings(r=4, alpha=8)),
        ("contrast", None),
    ],
)
def test_learns_a_hidden_rule(fit, make_groups, objective, lora):
    train, held = make_groups("demo", range(64)), make_groups("demo", range(1000, 1040))
    settings = config(objective=objective, lora=lora, epochs=2 if lora else 1)
    if lora:
        settings.learning_rate = 1e-2
    scorer, metrics = fit(train, settings)
    found = group_accuracy(held, score_groups(scorer, held))
    assert found["accuracy"] > 0.9
    assert found["pairs"] == 80
    assert metrics["reward/train_pairs"] == 128
    assert metrics["reward/last_loss"] < metrics["reward/first_loss"] - 0.1


def test_a_zero_head_starts_at_nothing_known(fit, make_groups):
    groups = make_groups("demo", range(16))
    scorer, metrics = fit(groups, config(learning_rate=1e-9))
    assert metrics["reward/first_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert group_accuracy(groups, score_groups(scorer, groups))["margin"] == pytest.approx(
        0, abs=1e-5
    )


def test_lora_trains_adapters_and_head_only(fit, make_groups, model_folder):
    scorer, _ = fit(
        make_groups("demo", range(16)), config(lora=LoraSettings(r=2, alpha=4, top_layers=1))
    )
    start = load_classifier(model_folder, new_head=True).state_dict()
    trained = {n for n, p in scorer.reader.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in n or "score.modules_to_save" in n for n in trained)
    assert any(".layers.1." in n for n in trained)
    assert not any(".layers.0." in n for n in trained)
    for name, value in scorer.reader.named_parameters():
        if ".base_layer.weight" in name:
            plain = name.removeprefix("classifier.").replace(".base_layer", "")
            torch.testing.assert_close(value, start[plain], atol=0, rtol=0)


def test_gamma_zero_is_bradley_terry_and_alpha_zero_demonstrations_only(fit, make_groups):
    """To the last bit, and Bradley-Terry is what a plain optimiser loop on it gives."""
    demos, prefs = make_groups("demo", range(8)), make_groups("preference", range(500, 508), 1)
    settings = config(epochs=2)

    def ends(groups, gamma, alpha) -> dict[str, torch.Tensor]:
        return weights_of(fit(weigh(groups, gamma, alpha), settings)[0])

    only_pref, only_demo = ends(prefs, 1.0, 1.0), ends(demos, 1.0, 1.0)
    both = ends(demos + prefs, 1.0, 1.0)
    for mixed, pure, other in (
        (ends(demos + prefs, 0.0, 1.0), only_pref, only_demo),
        (ends(demos + prefs, 1.0, 0.0), only_demo, only_pref),
    ):
        assert all(torch.equal(mixed[n], pure[n]) for n in pure)
        assert any(not torch.equal(mixed[n], other[n]) for n in pure)
        assert any(not torch.equal(mixed[n], both[n]) for n in pure)


def test_full_batch_fit_is_a_plain_optimiser_loop(fit, make_groups, model_folder):
    prefs = make_groups("preference", range(500, 508), 1)
    scorer, metrics = fit(weigh(prefs, 0.0, 1.0), config(epochs=3))
    assert metrics["reward/steps"] == 3

    model = load_classifier(model_folder, new_head=True)
    model.config.pad_token_id = 0
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    first = None
    for _ in range(3):
        scores = torch.stack(
            [model(input_ids=torch.tensor([t])).logits[0, 0] for g in prefs for t in g.texts]
        ).view(-1, 2)
        loss = bradley_terry(scores[:, 0], scores[:, 1])
        first = first if first is not None else loss.item()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    assert metrics["reward/first_loss"] == pytest.approx(first, abs=1e-4)
    assert metrics["reward/last_loss"] == pytest.approx(loss.item(), abs=1e-3)
    plain = RewardScorer(model, scorer.tokenizer)
    torch.testing.assert_close(
        torch.tensor(score_groups(scorer, prefs)),
        torch.tensor(score_groups(plain, prefs)),
        atol=2e-3,
        rtol=0,
    )


@pytest.mark.parametrize("micro_batch_size", [1, 2, 8])
def test_accumulation_changes_nothing(fit, make_groups, micro_batch_size):
    groups = weigh(
        make_groups("demo", range(10), 3) + make_groups("preference", range(500, 506), 1), 0.5, 2.0
    )
    settings = config(micro_batch_size=micro_batch_size, epochs=1)
    scorer, metrics = fit(groups, settings)
    whole, reference = fit(groups, config(epochs=1))
    assert metrics["reward/steps"] == reference["reward/steps"] == 2
    assert metrics["reward/loss"] == pytest.approx(reference["reward/loss"], abs=1e-4)
    torch.testing.assert_close(
        torch.tensor([s[0] for s in score_groups(scorer, groups)]),
        torch.tensor([s[0] for s in score_groups(whole, groups)]),
        atol=5e-3,
        rtol=0,
    )


def test_early_stop_keeps_the_best_epoch(fit, make_groups):
    train = make_groups("demo", range(32))
    # The schedule is constant, so a shorter fit is the start of a longer one.
    early, late = (fit(train, config(epochs=epochs))[0] for epochs in (1, 3))
    pool = make_groups("demo", range(1000, 1032))
    held = []
    for a, b in zip(pool[::2], pool[1::2], strict=True):
        pair = PairGroup(a.id, "demo", [a.texts[0], b.texts[0]])
        (first,), (last,) = (
            [s[0] - s[1] for s in score_groups(scorer, [pair])] for scorer in (early, late)
        )
        if first * last < 0:  # they disagree: the early weights are right by definition
            held.append(pair if first > 0 else PairGroup(a.id, "demo", pair.texts[::-1]))
    assert held
    kept, _ = fit(train, config(epochs=3, early_stop=True), held)
    assert group_accuracy(held, score_groups(kept, held))["accuracy"] == 1.0
    wanted = weights_of(early)
    assert all(torch.equal(v, wanted[n]) for n, v in weights_of(kept).items())
