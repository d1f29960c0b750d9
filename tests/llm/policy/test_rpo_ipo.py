"""IPO and RPO: loss and gradient of a step against the formulas, token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_world import TEXTS, tiny_policy, write_world
from torch.nn.functional import logsigmoid

from irl_align.core.errors import UserError
from irl_align.llm.config import AlignConfig, ModelConfig, PolicyConfig
from irl_align.llm.data.schema import Demonstration
from irl_align.llm.models.loading import load_tokenizer
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.online_dpo import make_dpo_trainer
from irl_align.llm.policy.pairs import PolicyPair
from irl_align.llm.preflight import check_policy

BETA = 0.3
EOS = 2
# An answer is words and then the end token; the prompt as it is.
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] + ' ' }}"
    "{% if m['role'] == 'assistant' %}{{ 't2' }}{% endif %}{% endfor %}"
)
# Of different lengths, so that sums are told from means.
PAIRS = [(0, "t3", "t4 t5 t6"), (1, "t7 t8", "t3"), (0, "t9 t3", "t4"), (1, "t5", "t6 t6")]
DEMOS = [(0, "t6 t3 t7"), (1, "t4"), (1, "t5 t9"), (0, "t8")]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def folders(tmp_path) -> tuple[PolicyRef, PolicyRef]:
    """(policy, reference), which differ."""
    reference = write_world(tmp_path / "reference")
    tokenizer = load_tokenizer(reference)
    tokenizer.chat_template = TEMPLATE
    policy = tmp_path / "policy"
    tiny_policy(7).save_pretrained(policy)
    for folder in (reference, policy):
        tokenizer.save_pretrained(folder)
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    return PolicyRef.at(policy), PolicyRef.at(reference)


def trainer(folders, scratch: Path, loss_type: str, anchors: bool):
    pairs = [PolicyPair(str(i), user(TEXTS[p]), a, b, 0.0) for i, (p, a, b) in enumerate(PAIRS)]
    demos = [Demonstration(str(i), tuple(user(TEXTS[p])), a) for i, (p, a) in enumerate(DEMOS)]
    config = PolicyConfig(
        method="rpo" if anchors else "dpo", reference="base", beta=BETA, loss_type=loss_type,
        batch_size=4, micro_batch_size=4, warmup_ratio=0.0,
    )  # fmt: skip
    return make_dpo_trainer(
        *folders, pairs, config, ModelConfig(bf16=False), seed=0, scratch=scratch,
        anchors=demos if anchors else (), weights=(0.7, 1.3),
    )  # fmt: skip


def logprobs(model, prompt: int, answer: str) -> torch.Tensor:
    """Of the answer's tokens, its end included; one text at a time."""
    before = [int(t[1:]) for t in TEXTS[prompt].split()]
    ids = [int(t[1:]) for t in answer.split()] + [EOS]
    logs = model(input_ids=torch.tensor([before + ids])).logits[0].log_softmax(-1)
    return torch.stack([logs[len(before) - 1 + k, token] for k, token in enumerate(ids)])


def expected(policy, reference, loss_type: str, anchors: bool) -> torch.Tensor:
    losses = []
    for prompt, chosen, rejected in PAIRS:
        ratios = []
        for answer in (chosen, rejected):
            ratio = logprobs(policy, prompt, answer) - logprobs(reference, prompt, answer).detach()
            ratios.append(ratio.mean() if loss_type == "ipo" else ratio.sum())
        margin = ratios[0] - ratios[1]
        if loss_type == "sigmoid":
            losses.append(-logsigmoid(BETA * margin))
        else:
            losses.append((margin - 1 / (2 * BETA)) ** 2)
    loss = torch.stack(losses).mean()
    if not anchors:
        return loss
    likely = torch.stack([logprobs(policy, p, a).mean() for p, a in DEMOS]).mean()
    return 0.7 * loss - 1.3 * likely


@pytest.mark.parametrize(
    ("loss_type", "anchors"),
    [("ipo_sum", False), ("ipo", False), ("sigmoid", True), ("ipo", True)],
)
def test_a_step_is_the_formulas(folders, tmp_path, loss_type, anchors):
    made = trainer(folders, tmp_path / "scratch", loss_type, anchors)
    (inputs,) = list(made.get_train_dataloader())
    loss = made.compute_loss(made.model, inputs)
    loss.backward()
    policy, reference = tiny_policy(7), tiny_policy()
    wanted = expected(policy, reference, loss_type, anchors)
    wanted.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    ours = dict(made.model.named_parameters())
    largest = 0.0
    for name, parameter in policy.named_parameters():
        found = ours[name].grad
        assert torch.allclose(found.cpu(), parameter.grad, rtol=1e-3, atol=1e-6), name
        largest = max(largest, float(parameter.grad.abs().max()))
    assert largest > 1e-3, "there is a gradient to compare"


def test_every_demonstration_stands_beside_the_pairs_as_often_as_the_others(folders, tmp_path):
    made = trainer(folders, tmp_path / "scratch", "sigmoid", True)
    rows = [tuple(row["anchor"]["ids"]) for row in made.train_dataset]
    assert len(set(rows)) == len(DEMOS) == len(rows)


@pytest.mark.parametrize("share", [0.5, 0.75, 0.9, 1.0])
def test_ipo_stops_where_the_labels_say_and_dpo_does_not(share):
    """E(+-h - 1/(2 beta))^2 is least at h = (p - 1/2) / beta, also for certain labels, whose DPO
    margin has no end."""
    h = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([h], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        aim = 1 / (2 * BETA)
        loss = share * (h - aim) ** 2 + (1 - share) * (-h - aim) ** 2
        loss.sum().backward()
        return loss.sum()

    optimiser.step(closure)
    assert float(h.detach()) == pytest.approx((share - 0.5) / BETA, abs=1e-6)
    slope = share * torch.sigmoid(-BETA * h) - (1 - share) * torch.sigmoid(BETA * h)
    assert (float(slope.detach()) > 0.01) == (share > 0.5), "DPO's would go further"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward.gamma_demo": 0.0}, "policy.method=dpo"),
        ({"policy.loss_type": "ipo_sum"}, "ipo_sum"),
        ({"reward.alpha_pref": 0.0}, "alpha_pref above 0"),
    ],
)
def test_what_rpo_lacks_is_said(changes, message):
    config = AlignConfig()
    config.policy.method = "rpo"
    check_policy(config, human_pairs=True)
    for key, value in changes.items():
        owner, name = key.split(".")
        setattr(getattr(config, owner), name, value)
    with pytest.raises(UserError, match=message):
        check_policy(config, human_pairs=True)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss_type"):
        PolicyConfig(loss_type="ipo_mean")
