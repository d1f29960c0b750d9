"""A rule as what answers are paid: alone, beside a reward model, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny import write_tiny_model

from irl_align.core.config import load_config
from irl_align.core.errors import UserError
from irl_align.evaluation.rules import RuleReward
from irl_align.llm.alignment import align
from irl_align.llm.config import AlignConfig, LoraSettings
from irl_align.llm.policy.scores import MixedScorer, with_rule
from irl_align.llm.policy.settings import RuleSettings, ScoreSettings
from irl_align.llm.preflight import preflight

# One answer to all: a tiny model that has learned to guess can learn what pays, not to add.
SUMS = [(a, 3 - a) for a in range(4)]
ENDS = ("?", " is", " makes")
DIGITS = range(4)
FORM = "<think>{thought}</think><answer>{answer}</answer>"


def question(a: int, b: int, end: str = "?") -> str:
    return f"{a} plus {b}{end}"


def prompt(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class Constant:
    """A reward model that says 5 to everything, and keeps what it was told."""

    def score(self, prompts, responses, *, finished=None, batch_size=32):
        self.finished = finished
        return [5.0] * len(responses)


SETTINGS = ScoreSettings(reward_weight=0.5, rules=RuleSettings(answers="unused", weight=2.0))


def test_reward_and_rule_are_mixed_by_weights():
    learned = Constant()
    rule = RuleReward({question(1, 2): "3"})
    mixed = MixedScorer(learned, rule, SETTINGS, centre=1.0, scale=2.0)
    answers = [FORM.format(thought=1, answer=a) for a in (3, 2, "?")] + ["3"]
    asked = [prompt(question(1, 2))] * 4
    found = mixed.score(asked, answers, finished=[True, False, True, True])
    of_model = 0.5 * (5 - 1) / 2
    assert found == [of_model + 2 * r for r in (3.0, -0.5, -1.0, -3.0)]
    assert learned.finished == [True, False, True, True]
    assert mixed.metrics() == {"policy/rule_score": -0.375, "policy/rule_right": 0.25}
    alone = MixedScorer(None, rule, SETTINGS)
    assert alone.score(asked, answers) == [6.0, -1.0, -2.0, -6.0]


def test_without_a_rule_the_reward_model_is_left_as_it_is():
    learned = Constant()
    assert with_rule(learned, 1.0, 2.0, ScoreSettings()) == (learned, 1.0, 2.0)


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("sums")
    asked = [question(a, b, end) for a, b in SUMS for end in ENDS[:2]]
    solved = [(q, FORM.format(thought=1, answer=3), 3) for q in asked]
    write(home / "demos.jsonl", [{"prompt": q, "response": r} for q, r, _ in solved])
    write(home / "answers.jsonl", [{"question": q, "answer": f"#### {n}"} for q, _, n in solved])
    held = [(question(a, b, ENDS[2]), a + b) for a, b in SUMS]
    write(home / "held.jsonl", [{"prompt": q} for q, _ in held])
    write(home / "held_answers.jsonl", [{"prompt": q, "answer": n} for q, n in held])
    return home


@pytest.fixture(scope="module")
def guesser(tmp_path_factory) -> Path:
    """A chat model that keeps the form, mostly, and guesses the answer."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    folder = write_tiny_model(tmp_path_factory.mktemp("guesser") / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<think>", "</think>", "<answer>", "</answer>"])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer))
    generator = torch.Generator().manual_seed(0)
    rows: list[tuple[list[int], list[int]]] = []
    for i in range(320):
        a, b = SUMS[i % len(SUMS)]
        drawn = torch.randint(len(DIGITS), (2,), generator=generator).tolist()
        said = FORM.format(thought=drawn[0], answer=drawn[1])
        said = said if i % 8 else f"{drawn[0]} {drawn[1]}"
        asked = tokenizer.apply_chat_template(
            prompt(question(a, b, ENDS[i % 3])), tokenize=False, add_generation_prompt=True
        )
        ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (asked, said)]
        rows.append((ids[0], [*ids[1], tokenizer.eos_token_id]))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(160):
        picked = [rows[i] for i in torch.randint(len(rows), (16,), generator=generator).tolist()]
        width = max(len(q) + len(r) for q, r in picked)
        ids = torch.zeros(len(picked), width, dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, (q, r) in enumerate(picked):
            ids[row, : len(q) + len(r)] = torch.tensor(q + r)
            labels[row, len(q) : len(q) + len(r)] = torch.tensor(r)
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * (1 - step / 160)
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return folder


CONFIG = """
rounds: 1
seed: 1
run_dir: {home}/{name}
model: {{path: {model}, bf16: false}}
demonstrations: {{path: {files}/demos.jsonl}}
sft: {{enabled: false}}
sampling:
  {{backend: hf, samples_per_prompt: 8, max_new_tokens: 8, dtype: float32, engine: persistent}}
policy:
  method: {name}
  beta: 0.05
  learning_rate: 3.0e-3
  warmup_ratio: 0.0
  epochs: 12
  batch_size: 32
  micro_batch_size: 32
  group: {{answers: 8}}
  ppo: {{rollout_batch: 64, episodes: 768, epochs: 2}}
  scores: {{reward_weight: 0, rules: {{answers: {files}/answers.jsonl}}}}
evaluation:
  prompts: {files}/held.jsonl
  hidden_reward: rules:{files}/held_answers.jsonl
  samples_per_prompt: 2
launch: {{inline: true, tensorboard: false}}
"""


def configured(home: Path, files: Path, model: Path, name: str) -> AlignConfig:
    text = CONFIG.format(home=home, files=files, model=model, name=name)
    (home / "tiny.yaml").write_text(text)
    return load_config(AlignConfig, home / "tiny.yaml", [])


@pytest.mark.parametrize("method", ["ppo", "grpo", "raft"])
def test_a_guesser_learns_what_the_rule_alone_pays_for(tmp_path, files, guesser, method, capsys):
    config = configured(tmp_path, files, guesser, method)
    if method == "raft":
        config.rounds, config.policy.batch_size, config.policy.micro_batch_size = 2, 4, 4
    folder = align(config)
    for shown in (capsys.readouterr().out, (folder / "report.html").read_text()):
        assert "it is not hidden" in shown, "the measure is the pay"
    rounds = [
        json.loads((folder / f"rounds/{n:04d}/metrics.json").read_text())
        for n in range(config.rounds)
    ]
    assert not (folder / "rounds/0000/reward/model").exists(), "no reward model is fitted"
    if method == "raft":
        assert rounds[0]["policy/rule_right"] < 0.45
        assert rounds[1]["policy/rule_right"] > rounds[0]["policy/rule_right"] + 0.3
    else:
        first, last = learning_curve(folder, method)
        assert last > first + 1.0, "in the rule's own points"
    before = json.loads((folder / "setup/sft/phase.json").read_text())["metrics"]
    assert rounds[-1]["eval/hidden_reward"] > before["eval/hidden_reward"] + 1.0
    for found in rounds:
        assert -3 <= found["eval/hidden_reward"] <= 3
        assert "eval/reward_score" not in found


def learning_curve(folder: Path, method: str) -> tuple[float, float]:
    """What answers were paid in the first and in the last quarter."""
    name, key = ("rollouts", "score") if method == "ppo" else ("steps", "reward")
    rows = (folder / f"rounds/0000/policy/{name}.jsonl").read_text().splitlines()
    scores = [json.loads(row)[key] for row in rows]
    quarter = len(scores) // 4
    return sum(scores[:quarter]) / quarter, sum(scores[-quarter:]) / quarter


def test_without_a_reward_model_ppos_values_start_at_zero(tmp_path, files, guesser):
    from irl_align.llm.policy.artefacts import PolicyRef
    from irl_align.llm.ppo.building import build_models

    at = PolicyRef.at(guesser)
    config = configured(tmp_path, files, guesser, "ppo")
    config.policy.lora = LoraSettings(r=2, alpha=4)
    built = build_models(at, at, tmp_path, config, seed=0)
    assert (built.count, built.scorer) == (1, None)
    config.policy.lora = None
    built = build_models(at, at, tmp_path, config, seed=0)
    assert (built.count, built.scorer) == (3, None)
    assert not built.models.value.score.weight.any()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["policy.scores.rules.answers=null"], "nothing is left to pay for"),
        (["policy.method=spin"], "paid for nothing"),
        (["early_stop=true"], "early_stop looks at a reward model"),
        (["policy.scores.rules.answers=none.jsonl"], r"policy\.scores\.rules\.answers.*no such"),
        (["policy.scores.rules.answers={files}/held_answers.jsonl"], "no answer to 8 of 8"),
        (["evaluation.preferences.path=pairs.jsonl"], r"evaluation\.preferences\.path"),
        (["evaluation.hidden_reward=rules:none.jsonl"], r"evaluation\.hidden_reward.*no such"),
    ],
)
def test_what_a_rule_lacks_is_said_before_anything_runs(tmp_path, files, overrides, message):
    write(tmp_path / "pairs.jsonl", [{"prompt": "z", "chosen": "a", "rejected": "b"}])
    said = [
        o.format(files=files).replace("=pairs.jsonl", f"={tmp_path}/pairs.jsonl") for o in overrides
    ]
    (tmp_path / "tiny.yaml").write_text(
        CONFIG.format(home=tmp_path, files=files, model=tmp_path, name="raft")
    )
    with pytest.raises(UserError, match=message):
        preflight(load_config(AlignConfig, tmp_path / "tiny.yaml", said))


def test_the_answers_are_part_of_the_runs_data(tmp_path, files, model_folder):
    config = configured(tmp_path, files, model_folder, "raft")
    report = preflight(config)["rule_answers"]
    assert report.kept == 8 and len(report.sha256) == 64
