"""Gold reward of existing completions: by hand, through the program, and clear errors."""

import json
from pathlib import Path

import pytest
from synthetic_run import make_run

from irl_align.core.errors import UserError
from irl_align.evaluation.gold_trial import find_answers, gold_metrics
from irl_align.llm.generation.samples import Completion, PromptSamples, write_samples


def answers(*texts: str, name: str = "p") -> PromptSamples:
    prompt = [{"role": "user", "content": "say"}]
    cut = {"..."}
    completions = [Completion(t, "length" if t in cut else "stop", 1) for t in texts]
    return PromptSamples(name, prompt, completions)


def by_length(prompt: str, response: str) -> float:
    assert prompt == "say"
    return float(len(response))


class Shortest:
    def score(self, prompts, responses, *, batch_size=16):
        return [-float(len(text)) for text in responses]


def test_numbers_by_hand() -> None:
    ours = [answers("x", "xxxxx", "..."), answers("xx", name="q")]
    metrics, headline = gold_metrics(
        ours, by_length, baseline=[answers("xx", name="q"), answers("x")], scorer=Shortest()
    )
    assert metrics["gold_reward"].mean == pytest.approx(((1 + 5 + 3) / 3 + 2) / 2)
    assert metrics["gain"].mean == pytest.approx((3 - 1 + 0) / 2)
    assert metrics["reward_pairs"] == 1  # the answer that was cut off forms no pair
    assert metrics["reward_accuracy"].mean == 0.0
    assert headline == ("gold_reward", "gain", "win_rate", "reward_accuracy")
    with pytest.raises(UserError, match="none of these prompts"):
        gold_metrics(ours, by_length, baseline=[answers("x", name="other")])


def test_answers_are_found_in_files_and_phases(tmp_path: Path) -> None:
    write_samples(tmp_path / "samples.jsonl.gz", [answers("x", "y")])
    found, data = find_answers(tmp_path)
    assert (found[0].id, data.items) == ("p", 2)
    assert find_answers(tmp_path / "samples.jsonl.gz")[1].sha256 == data.sha256
    with pytest.raises(UserError, match="--baseline"):
        find_answers(tmp_path / "none", "--baseline")
    write_samples(tmp_path / "empty.jsonl", [])
    with pytest.raises(UserError, match="no completions"):
        find_answers(tmp_path / "empty.jsonl")


def test_the_program_stores_its_result_in_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eval.gold_reward import main

    run = make_run(tmp_path / "run", rounds=1)
    policy = run / "rounds" / "0000" / "policy" / "model"
    policy.mkdir()
    (policy / "config.json").write_text("{}")
    write_samples(tmp_path / "ours.jsonl", [answers("good"), answers("great day", name="q")])
    (tmp_path / "goldlength.py").write_text(
        "def gold(prompt, response):\n    return len(response)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    command = ["gold_reward.py", str(tmp_path / "ours.jsonl"), "--gold", "goldlength:gold"]
    monkeypatch.setattr("sys.argv", [*command, "--policy", str(policy.parent), "--json"])
    assert main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["gold_reward"]["mean"] == 6.5
    assert len(list((run / "evaluations").glob("gold_reward-*.json"))) == 1
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(UserError, match="--policy"):
        main()
