"""The HTML page: what it shows for finished, unfinished and poor runs, and that it is safe."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic_run import NASTY, make_run

from irl_align.core.errors import UserError
from irl_align.core.run import RunDirectory
from irl_align.evaluation.report import as_json, collect_run, list_runs, write_report
from irl_align.evaluation.report.collect import Estimate
from irl_align.evaluation.report.measures import measured
from irl_align.evaluation.report.page import thin
from irl_align.evaluation.report.svg import (
    Baseline,
    duration,
    nice_ticks,
    number,
    round_chart,
    spread,
)

_VOID = {"meta", "link", "br", "line", "rect", "circle", "polyline", "polygon"}


class _Checker(HTMLParser):
    """Every tag closed in order; collects tags, references and visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _check(page: str) -> _Checker:
    checker = _Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert "script" not in checker.tags
    assert all(reference.startswith("#") for reference in checker.references)
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in page
    return checker


@pytest.fixture(scope="module")
def page(finished_run: Path) -> str:
    path = write_report(finished_run)
    assert path == finished_run / "report.html"
    return path.read_text(encoding="utf-8")


def test_page_is_self_contained_and_escaped(page: str) -> None:
    checker = _check(page)
    assert NASTY not in page
    assert any(NASTY in text for text in checker.text)  # shown as text


def test_page_answers_the_readers_questions(page: str, finished_run: Path) -> None:
    results = json.loads((finished_run / "results.json").read_text())
    text = " ".join(_check(page).text)
    last = results["rounds"][-1]
    assert "finished, 3 of 3 rounds done" in text
    assert f"{last['hidden_reward']['mean']:.3f}" in text
    assert f"+{last['gain_over_sft']['mean']:.3f}" in text
    assert "its 95% interval is clear of 0" in text
    assert f"{100 * last['reward_accuracy']:.1f}%" in text
    assert "412 pairs" in text
    for title in ("Hidden reward", "Reward accuracy", "KL from the reference", "Length",
                  "Finished responses", "Lineage", "Configuration", "Environment"):  # fmt: skip
        assert title in text
    # base, SFT and three rounds answer the same prompt.
    assert text.count("Write one sentence about a rainy morning. (0)") == 1
    assert "residual_logistic" in text


def test_charts_have_bands_baselines_and_tooltips(page: str) -> None:
    chart = next(c for c in re.findall(r"<svg.*?</svg>", page) if "Hidden reward" in c)
    assert 'class="band policy"' in chart
    assert 'class="baseline sft"' in chart
    assert 'class="baseline base"' in chart
    assert chart.count("<title>round ") == 3


def test_lineage_is_a_chain_of_hashes(page: str, finished_run: Path) -> None:
    run = RunDirectory.read(finished_run)
    out = run.manifest(0)["policy_out"]["sha256"]
    # Policy out of round 0 and policy in of round 1 are the same bytes.
    assert page.count(f"#{out[:12]}<") == 2
    assert "made by SFT" in page
    assert "made by round 0" in page
    assert "seed 1006" in page
    assert "44 s" in page


@pytest.mark.parametrize(
    ("stop", "status"),
    [
        ("setup", "interrupted in setup (sft); 0 of 3 rounds done"),
        ((0, "sample"), "interrupted in round 0, sample; 0 of 3 rounds done"),
        ((1, "policy"), "interrupted in round 1, policy; 1 of 3 rounds done"),
        ((2, "evaluate"), "interrupted in round 2, evaluate; 2 of 3 rounds done"),
    ],
)
def test_unfinished_runs_show_what_is_there(
    tmp_path: Path, stop: str | tuple[int, str], status: str
) -> None:
    path = make_run(tmp_path / "run", stop=stop)
    page = write_report(path).read_text()
    _check(page)
    assert status in page
    if stop == (1, "policy"):
        # Without results.json the intervals come from the completions.
        found = measured(collect_run(path), "hidden_reward").values
        assert found["0000"].low is not None
        assert {"base", "sft"} <= found.keys()
        assert "not committed" in page
        assert "not there yet" in page


def test_intervals_of_an_unfinished_run_equal_the_final_ones(
    tmp_path: Path, finished_run: Path
) -> None:
    early = collect_run(make_run(tmp_path / "run", stop=(2, "sample")))
    late = collect_run(finished_run)
    for key in ("hidden_reward", "gain_over_sft", "win_rate_vs_sft"):
        before, after = measured(early, key).values, measured(late, key).values
        assert before["0001"] == after["0001"]


def test_run_without_hidden_reward(tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path / "run", hidden=False)).read_text()
    _check(page)
    assert "Held-out score" in page
    assert "Gain over SFT" not in page
    assert ">hidden " not in page


def test_fallback_metrics_say_what_they_are(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").open({"rounds": 1})
    with run:
        run.commit_round(0, {"reward/accuracy": 0.7, "samples/length": 12.0})
    page = write_report(tmp_path / "run").read_text()
    assert "demonstration, sample) pairs" in page
    assert "held-out pairs in which" not in page
    assert "training samples (before its update)" in page


def test_human_preference_accuracy_is_a_curve_of_its_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").open({"rounds": 2})
    with run:
        for index in range(2):
            interval = {"_low": 0.58, "_high": 0.66}
            metrics = {f"eval/preference_accuracy{k}": v for k, v in interval.items()}
            run.commit_round(index, metrics | {"eval/preference_accuracy": 0.62})
    rounds = [{"round": 1, "preference_accuracy": 0.62, "preference_pairs": 300.0}]
    (tmp_path / "run" / "results.json").write_text(json.dumps({"rounds": rounds}))
    page = write_report(tmp_path / "run").read_text()
    _check(page)
    assert "Human preference accuracy" in page
    assert "300 pairs" in page
    assert "58.0% to 66.0%" in page


def test_run_of_another_domain_with_many_rounds(tmp_path: Path) -> None:
    # save_every > 1: most rounds are rows of metrics.jsonl only.
    run = RunDirectory(tmp_path / "run").open({"rounds": 200})
    with run:
        for index in range(200):
            metrics = {"eval/return": float(index), "policy/kl": 0.1}
            run.append_metrics(index, metrics)
        run.commit_round(199, metrics)
    page = write_report(tmp_path / "run").read_text()
    _check(page)
    assert "finished, 200 of 200 rounds done" in page
    assert "true reward" in page
    assert "30 of 200 rounds, evenly spaced" in page
    assert page.count("<title>round ") >= 200


def test_empty_run(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "run").open({"rounds": 2}).close()
    page = write_report(tmp_path / "run").read_text()
    _check(page)
    assert "No round has been evaluated yet" in page


def test_a_running_run_is_seen_and_left_alone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run").open({"rounds": 2})
    with run:
        run.begin_phase(0, "sample")
        status = collect_run(tmp_path / "run").status
        assert status.sentence() == "running in round 0, sample; 0 of 2 rounds done"
    assert collect_run(tmp_path / "run").status.state == "interrupted"
    RunDirectory(tmp_path / "run").open({"rounds": 2}).close()


def test_early_stop_counts_as_finished(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", rounds=2, stop=(1, "sample"))
    (path / "results.json").write_text('{"finished": true}')
    assert collect_run(path).status.sentence() == "finished, 1 of 2 rounds done"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("results.json", "{broken"),
        ("rounds/0000/manifest.json", "["),
        ("rounds/0000/evaluation/completions.jsonl", '{"id": 1}\n{"torn'),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, content: str) -> None:
    path = make_run(tmp_path / "run", rounds=1)
    (path / file).write_text(content)
    with pytest.raises(UserError, match=re.escape(file)):
        write_report(path)
    if "completions" not in file:
        views, problems = list_runs(tmp_path)
        assert views == []
        assert file in problems["run"]


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run at"):
        write_report(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"config\.yaml"):
        write_report(tmp_path)


def test_odd_manifests_and_completions_do_not_break_the_page(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", rounds=1, results=False)
    manifest = {
        "policy_in": {"folder": "/elsewhere/model", "sha256": "12" * 32},
        "policy_out": None,
        "reward_in": 3,
        "extra": [1, {"<b>": 2}],
    }
    (path / "rounds/0000/manifest.json").write_text(json.dumps(manifest))
    rows = [
        {"prompt": "plain text", "completions": [{"text": "  "}, "odd", {"text": None}]},
        {"id": "x", "completions": "none"},
        ["not", "a", "row"],
    ]
    text = "\n".join(json.dumps(row) for row in rows)
    (path / "rounds/0000/evaluation/completions.jsonl").write_text(text)
    page = write_report(path).read_text()
    _check(page)
    assert "#121212121212" in page
    assert "/elsewhere/model" in page
    assert "(empty)" in page


def test_as_json_is_plain_and_complete(finished_run: Path) -> None:
    plain = json.loads(json.dumps(as_json(collect_run(finished_run))))
    assert plain["status"]["state"] == "finished"
    assert [stage["name"] for stage in plain["setup"]] == ["base", "sft"]
    assert plain["rounds"][2]["metrics"]["eval/kl"] == pytest.approx(2.7)
    assert plain["rounds"][1]["phases"]["reward"]["folder"] == "rounds/0001/reward"
    assert plain["config"]["seed"] == 0
    assert plain["info"]["starts"]


def test_drawing_helpers() -> None:
    assert nice_ticks(0.0, 1.0) == [0.0, 0.5, 1.0]
    assert nice_ticks(0.61, 0.66)[0] == pytest.approx(0.62)
    assert nice_ticks(2.0, 2.0) == [2.0]
    assert spread([50.0, 52.0, 51.0], 14, 0, 200) == [50.0, 78.0, 64.0]
    assert max(spread([199.0, 200.0], 14, 0, 200)) == 200.0
    assert [number(v) for v in (0.0, 0.4123, 27.81, 412.3, 12345.6, 1e-7)] == [
        "0", "0.412", "27.8", "412", "12,346", "1.00e-07",
    ]  # fmt: skip
    assert number(float("nan")) == "not a number"
    assert [duration(s) for s in (0.42, 42, 185, 7620)] == [
        "0.4 s", "42 s", "3 min 05 s", "2 h 07 min",
    ]  # fmt: skip
    assert thin(range(100), 4) == [0, 33, 66, 99]


def test_chart_survives_constant_and_odd_values() -> None:
    flat = [(0, Estimate(0.0)), (1, Estimate(0.0)), (2, Estimate(float("nan")))]
    chart = round_chart(flat, [Baseline("<base>", Estimate(float("inf")), "base")], title="t")
    assert "nan" not in chart.lower().replace("not a number", "")
    assert "inf" not in chart
    assert round_chart([], title="t").startswith("<p")
