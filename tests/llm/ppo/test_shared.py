"""One base under three adapters computes what three models compute, and trains two of them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from tiny import WORDS, write_tiny_model

from irl_align.core.errors import UserError
from irl_align.llm.config import (
    AlignConfig,
    LoraSettings,
    ModelConfig,
    PolicyConfig,
    SamplingConfig,
)
from irl_align.llm.models.adapters import add_adapters
from irl_align.llm.models.loading import load_causal_lm, load_tokenizer
from irl_align.llm.models.saving import merged_state
from irl_align.llm.policy.artefacts import PolicyRef
from irl_align.llm.policy.settings import PPOSettings
from irl_align.llm.ppo.actor_critic import answer_logprobs
from irl_align.llm.ppo.building import build_models
from irl_align.llm.ppo.experience import Rollout, pad_rollouts
from irl_align.llm.reward.classifier import load_classifier
from irl_align.llm.reward.info import RewardModelInfo
from irl_align.llm.reward.saving import save_reward_model
from irl_align.llm.reward.scorer import RewardScorer

LORA = LoraSettings(r=4, alpha=8)
CENTRE, SCALE = 0.3, 2.0


def shaken(model, seed: int):
    """Adapters that do something: B is 0 when they are fresh."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """pi_0, a policy that is an adapter on it, and a reward model that is another."""
    folder = tmp_path_factory.mktemp("shared")
    initial = write_tiny_model(folder / "initial" / "model")
    tokenizer = load_tokenizer(initial)
    config = ModelConfig(path=str(initial), bf16=False)

    policy = shaken(add_adapters(load_causal_lm(initial, config), LORA, "CAUSAL_LM", 1), 11)
    (folder / "policy").mkdir()
    policy.save_pretrained(str(folder / "policy" / "adapter"))
    policy.merge_and_unload().save_pretrained(folder / "policy" / "model")
    tokenizer.save_pretrained(folder / "policy" / "model")

    head = torch.randn(1, 32, generator=torch.Generator().manual_seed(5)) / 5
    reward = add_adapters(load_classifier(initial, new_head=True, head=head), LORA, "SEQ_CLS", 2)
    info = RewardModelInfo("residual_logistic", 1.0, _hash(tokenizer), "", 64, CENTRE, SCALE)
    prompt = [{"role": "user", "content": "say red"}]
    save_reward_model(
        shaken(reward, 12).merge_and_unload(), tokenizer, folder / "reward" / "model", info,
        [(prompt, "good")],
    )  # fmt: skip
    return folder


def _hash(tokenizer) -> str:
    from irl_align.llm.chat import template_hash

    return template_hash(tokenizer)


def configuration(**ppo: object) -> AlignConfig:
    return AlignConfig(
        model=ModelConfig(bf16=False),
        sampling=SamplingConfig(temperature=0.7),
        policy=PolicyConfig(
            method="ppo",
            reference="base",
            lora=LORA,
            batch_size=4,
            micro_batch_size=4,
            ppo=PPOSettings(rollout_batch=4, **ppo),  # type: ignore[arg-type]
        ),
    )


def built(home: Path, **ppo: object):
    refs = (PolicyRef.at(home / "policy"), PolicyRef.at(home / "initial"))
    return build_models(*refs, home / "reward", configuration(**ppo), seed=0)


def batch_of(home: Path):
    tokenizer = load_tokenizer(home / "initial" / "model")
    rollouts = [
        Rollout(tokenizer(f"say {a}")["input_ids"], tokenizer(f"good {b} {a}")["input_ids"], True)
        for a, b in zip(WORDS[:4], ("x", "yyy", "z", "long words"), strict=True)
    ]
    return pad_rollouts(rollouts, int(tokenizer.pad_token_id))


def test_one_base_computes_what_whole_models_compute(home):
    shared, apart = built(home), built(home, shared_base=False)
    assert (shared.count, apart.count) == (1, 4)
    batch = batch_of(home)
    mask = batch.mask > 0
    for ours, theirs in zip(
        shared.models(**batch.tensors()), apart.models(**batch.tensors()), strict=True
    ):
        torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        shared.models.reference_logprobs(batch)[mask],
        apart.models.reference_logprobs(batch)[mask],
        atol=1e-5,
        rtol=1e-5,
    )
    prompts = [[{"role": "user", "content": f"say {w}"}] for w in WORDS[:5]]
    texts = [f"good {w}" for w in WORDS[5:10]]
    found = shared.scorer.score(prompts, texts)
    wanted = RewardScorer.load(home / "reward" / "model").score(prompts, texts)
    assert found == pytest.approx(wanted, abs=1e-4)
    assert max(wanted) - min(wanted) > 0.01


def test_the_value_model_starts_as_the_normalised_reward_model(home):
    """The value in which an answer's end token is chosen reads the text before it."""
    shared = built(home)
    tokenizer = load_tokenizer(home / "initial" / "model")
    rollout = Rollout(
        tokenizer("say red")["input_ids"], tokenizer("good tree x")["input_ids"], True
    )
    batch = pad_rollouts([rollout], 0)
    values = shared.models(**batch.tensors())[1][0].detach()
    ids = [*rollout.prompt, *rollout.answer[:-1]]
    raw = RewardScorer.load(home / "reward" / "model").score_tokens([ids], [0])[0]
    assert float(values[-1]) == pytest.approx((raw - CENTRE) / SCALE, abs=1e-4)


@pytest.mark.parametrize("shared_base", [True, False])
def test_a_head_of_zero_values_nothing_until_it_has_learned(home, shared_base):
    """Its body is the reward model's all the same: the first step of the head sees its features."""
    batch = batch_of(home)
    heads = {}
    for name in ("reward", "zero"):
        models = built(home, shared_base=shared_base, value_head=name).models
        _, values = models(**batch.tensors())
        (values * batch.mask).sum().backward()
        head = models.value_head if shared_base else models.value.score
        heads[name] = values.detach(), head.weight.grad
    assert not heads["zero"][0].any() and heads["reward"][0].any()
    # The same features under both heads, up to the unit that the values are in.
    unit = 1.0 if shared_base else SCALE
    torch.testing.assert_close(heads["zero"][1], heads["reward"][1] * unit, atol=1e-4, rtol=1e-3)


def test_both_adapters_get_the_gradients_they_would_get_alone_and_nothing_else_any(home):
    shared, apart = built(home).models, built(home, shared_base=False).models
    batch = batch_of(home)
    for models in (shared, apart):
        logprobs, values = models(**batch.tensors())
        ((logprobs * batch.mask).sum() + (values**2 * batch.mask).sum()).backward()
    trained = {n for n, p in shared.named_parameters() if p.requires_grad}
    assert all(".default." in n or ".value." in n or n.startswith("value_head") for n in trained)
    assert any(".default." in n for n in trained) and any(".value." in n for n in trained)
    assert all(p.grad is None for n, p in shared.named_parameters() if n not in trained)
    ours = {n.removeprefix("lm."): p.grad for n, p in shared.named_parameters() if ".default." in n}
    theirs = {n.removeprefix("policy."): p.grad for n, p in apart.policy.named_parameters()}
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-4, rtol=1e-3)
    # The value adapter against autograd through the merged weights: dB = scaling dW A^T.
    weights = dict(apart.value.named_parameters())
    name = "model.layers.0.mlp.down_proj"
    layer = dict(shared.lm.get_base_model().named_modules())[name]
    wanted = weights[f"{name}.weight"].grad @ layer.lora_A["value"].weight.T
    torch.testing.assert_close(layer.lora_B["value"].weight.grad, wanted, atol=1e-3, rtol=1e-3)


def test_a_step_moves_policy_and_value_but_not_reference_and_reward(home):
    shared = built(home)
    models = shared.models
    batch = batch_of(home)
    prompt = [[{"role": "user", "content": "say red"}]]

    def look():
        logprobs, values = models(**batch.tensors())
        return (
            logprobs.detach(),
            values.detach(),
            models.reference_logprobs(batch),
            torch.tensor(shared.scorer.score(prompt, ["good"])),
        )

    before = look()
    optimiser = torch.optim.SGD([p for p in models.parameters() if p.requires_grad], lr=0.1)
    logprobs, values = models(**batch.tensors())
    (logprobs.sum() + values.sum()).backward()
    optimiser.step()
    after = look()
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert moved == [True, True, False, False]


def test_weights_for_an_engine_are_the_policys_merged_once(home, tmp_path):
    models = built(home).models
    with models.answering() as lm:
        before = copy.deepcopy(lm.state_dict())
        plain, state = merged_state(lm, "float32")
        for name, weight in lm.state_dict().items():
            assert torch.equal(weight, before[name])
    from irl_align.llm.models.saving import save_model

    tokenizer = load_tokenizer(home / "initial" / "model")
    save_model(plain, tokenizer, tmp_path / "engine", dtype="float32", state_dict=state)
    loaded = load_causal_lm(tmp_path / "engine", ModelConfig(bf16=False))
    batch = batch_of(home)
    mask = batch.mask > 0
    ours = models(**batch.tensors())[0]
    theirs = answer_logprobs(loaded, batch, 0.7)
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-4, rtol=1e-4)


def test_a_reward_model_of_another_base_is_loaded_beside_and_said_so(home, tmp_path, capsys):
    other = write_tiny_model(tmp_path / "other", seed=9)
    tokenizer = load_tokenizer(other)
    head = torch.randn(1, 32)
    classifier = load_classifier(other, new_head=True, head=head)
    info = RewardModelInfo("residual_logistic", 1.0, _hash(tokenizer), "", 64)
    save_reward_model(classifier, tokenizer, tmp_path / "model", info, [([], "x")])
    refs = (PolicyRef.at(home / "policy"), PolicyRef.at(home / "initial"))
    found = build_models(*refs, tmp_path, configuration(), seed=0)
    assert found.count == 2
    assert "loaded beside" in capsys.readouterr().err
    prompts = [[{"role": "user", "content": "say red"}]]
    wanted = RewardScorer.load(tmp_path / "model").score(prompts, ["good"])
    assert found.scorer.score(prompts, ["good"]) == pytest.approx(wanted, abs=1e-5)


def test_normalising_needs_the_reward_models_record(home, tmp_path):
    (tmp_path / "model").mkdir()
    refs = (PolicyRef.at(home / "policy"), PolicyRef.at(home / "initial"))
    with pytest.raises(UserError, match=r"scores\.normalise=false"):
        build_models(*refs, tmp_path, configuration(), seed=0)
