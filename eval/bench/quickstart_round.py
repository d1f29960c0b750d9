"""One quickstart round against the naive way, phase by phase.

Ours: the phases exactly as `recipes/align.py` runs them (each in a process of its own, start-up
counted). Naive: what a first script does with the same libraries: Hugging Face generate in batches
of 8 prompts, then full fine-tuning in float32 by TRL's RewardTrainer and DPOTrainer on unsorted
padded batches, scoring with plain transformers in batches of 8. Same prompts, same number of
completions, pairs and passes; both start from the same base model.
"""

from __future__ import annotations

import gc
import json
import shutil
import time
from pathlib import Path
from typing import Any

from eval.bench.workload import FOLDER, base_model, quickstart
from irl_align.core.run import RunDirectory
from irl_align.llm.alignment import align
from irl_align.llm.generation.samples import SAMPLES_NAME, read_samples
from irl_align.llm.run_data import load_training_data

__all__ = ["run"]

PROMPTS = 64


def _ours() -> dict[str, float]:
    path = FOLDER / "round"
    shutil.rmtree(path, ignore_errors=True)
    config = quickstart(
        f"run_dir={path}",
        f"model.path={base_model()}",
        "model.chat_template=null",
        f"demonstrations.limit={PROMPTS}",
        "rounds=1",
        "sft.enabled=false",
        "evaluation.prompts=null",
        "evaluation.hidden_reward=null",
        "reward.holdout=0",
        "reward.centre=false",
        "launch.tensorboard=false",
    )
    align(config)
    run = RunDirectory.read(path)
    seconds = {p: run.phase_record(0, p)["seconds"] for p in ("sample", "reward", "policy")}  # type: ignore[arg-type]
    return seconds


def _naive_sample(rows: list[Any], config: Any) -> list[list[str]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_model(), padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(base_model(), dtype=torch.float32)
    answers: list[list[str]] = []
    for start in range(0, len(rows), 8):
        texts = [
            tokenizer.apply_chat_template(
                [dict(m) for m in d.prompt], tokenize=False, add_generation_prompt=True
            )
            for d in rows[start : start + 8]
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        out = model.generate(
            **batch,
            do_sample=True,
            top_k=0,
            temperature=config.sampling.temperature,
            num_return_sequences=config.sampling.samples_per_prompt,
            max_new_tokens=config.sampling.max_new_tokens,
        )
        found = tokenizer.batch_decode(
            out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
        )
        n = config.sampling.samples_per_prompt
        answers += [found[i : i + n] for i in range(0, len(found), n)]
    return answers


def _naive_reward(rows: list[Any], answers: list[list[str]], config: Any, out: Path) -> Any:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    tokenizer = AutoTokenizer.from_pretrained(base_model())
    model = AutoModelForSequenceClassification.from_pretrained(
        base_model(), num_labels=1, dtype=torch.float32
    )
    pairs = [
        {
            "prompt": [dict(m) for m in d.prompt],
            "chosen": [{"role": "assistant", "content": d.response}],
            "rejected": [{"role": "assistant", "content": answer}],
        }
        for d, mine in zip(rows, answers, strict=True)
        for answer in mine[: config.reward.samples_per_demonstration]
    ]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(out),
            num_train_epochs=config.reward.epochs,
            per_device_train_batch_size=8,
            learning_rate=1e-5,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer.model, tokenizer


def _naive_policy(
    rows: list[Any], answers: list[list[str]], reward: Any, tokenizer: Any, config: Any, out: Path
) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import DPOConfig, DPOTrainer

    pairs = []
    with torch.no_grad():
        for demo, mine in zip(rows, answers, strict=True):
            texts = [
                tokenizer.apply_chat_template(
                    [*(dict(m) for m in demo.prompt), {"role": "assistant", "content": answer}],
                    tokenize=False,
                )
                for answer in mine
            ]
            batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            scores = reward(**batch).logits.squeeze(-1)
            best, worst = int(scores.argmax()), int(scores.argmin())
            pairs.append(
                {
                    "prompt": [dict(m) for m in demo.prompt],
                    "chosen": [{"role": "assistant", "content": mine[best]}],
                    "rejected": [{"role": "assistant", "content": mine[worst]}],
                }
            )
    model = AutoModelForCausalLM.from_pretrained(base_model(), dtype=torch.float32)
    reference = AutoModelForCausalLM.from_pretrained(base_model(), dtype=torch.float32)
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            output_dir=str(out),
            num_train_epochs=config.policy.epochs,
            per_device_train_batch_size=8,
            learning_rate=1e-6,
            beta=config.policy.beta,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(str(out / "policy"))


def _naive() -> dict[str, float]:
    config = quickstart(f"demonstrations.limit={PROMPTS}")
    rows, _ = load_training_data(config)
    out = FOLDER / "naive"
    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        start = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - start
        gc.collect()
        return result

    answers = timed("sample", lambda: _naive_sample(rows, config))
    reward, tokenizer = timed("reward", lambda: _naive_reward(rows, answers, config, out))
    timed("policy", lambda: _naive_policy(rows, answers, reward, tokenizer, config, out))
    return seconds


def run() -> dict[str, Any]:
    base_model()
    ours, naive = _ours(), _naive()
    samples = read_samples(FOLDER / "round/rounds/0000/samples" / SAMPLES_NAME)
    results: dict[str, Any] = {}
    for name in ("sample", "reward", "policy"):
        results[f"quickstart_round/{name}"] = _row(ours[name], naive[name])
    results["quickstart_round"] = _row(sum(ours.values()), sum(naive.values()))
    results["quickstart_round"]["workload"] = {
        "prompts": len(samples),
        "completions": sum(len(s.completions) for s in samples),
    }
    print(json.dumps({"ours": ours, "naive": naive}))
    return results


def _row(ours: float, peer: float) -> dict[str, Any]:
    return {
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "unit": "s a round, against the naive way",
        "runs": 1,
    }
