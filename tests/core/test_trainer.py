from __future__ import annotations

import time
from pathlib import Path

import pytest

from irl_align.core.callbacks import Callback
from irl_align.core.errors import UserError
from irl_align.core.protocols import Codecs, FolderCodec
from irl_align.core.run import RunDirectory
from irl_align.core.seeding import derive_seed
from irl_align.core.trainer import BilevelTrainer

PHASES = ("sample", "reward", "policy", "evaluate")


def test_phases_run_in_order_with_their_contexts(toy, tools):
    work = toy()
    result = tools.train(None, work, rounds=2)
    assert work.calls == [(r, phase) for r in range(2) for phase in PHASES]
    seeds = [ctx.seed for ctx in work.contexts]
    assert seeds == [derive_seed(7, round=r, phase=p) for r in range(2) for p in PHASES]
    assert all(ctx.folder is None for ctx in work.contexts)
    assert set(result.history[0]) == {
        "samples/length", "reward/loss", "policy/kl", "eval/x",
        "time/sample", "time/reward", "time/policy", "time/evaluate",
    }  # fmt: skip


def test_history_grows_by_round(toy, tools):
    lengths = []
    work = toy()
    work.at = lambda *place: lengths.append(len(work.contexts[-1].history))
    tools.train(None, work, rounds=2)
    assert lengths == [0] * 4 + [1] * 4


def test_memory_and_disk_agree(toy, tools, tmp_path):
    kept = tools.train(tmp_path / "run", toy())
    in_memory = tools.train(None, toy(), seed_globals=True)
    assert tools.outcome(kept) == tools.outcome(in_memory)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("round", [0, 1])
def test_resume_after_a_crash_in_a_phase(toy, crash, tools, tmp_path, phase, round):
    expected = tools.train(tmp_path / "whole", toy())

    def at(number, name, folder):
        if (number, name) == (round, phase):
            raise crash

    with pytest.raises(crash):
        tools.train(tmp_path / "run", toy(at))
    folder = RunDirectory(tmp_path / "run").phase_folder(round, phase)
    partial = folder.with_name(f".{folder.name}.partial")
    assert (partial / "part").read_text() == "half of it"
    (partial / "rubbish").write_text("left over")

    again = toy()
    found = tools.train(tmp_path / "run", again)
    assert again.calls[0] == (round, phase)
    assert tools.outcome(found) == tools.outcome(expected)
    assert tools.disk(tmp_path / "run") == tools.disk(tmp_path / "whole")
    assert not list((tmp_path / "run").rglob("*.partial"))


def test_a_finished_run_is_loaded_not_repeated(toy, tools, tmp_path):
    expected = tools.train(tmp_path / "run", toy())
    again = toy()
    assert tools.train(tmp_path / "run", again) == expected  # times included
    assert again.calls == []


def test_more_rounds_can_be_added(toy, tools, tmp_path):
    tools.train(tmp_path / "run", toy(), rounds=2)
    more = toy()
    found = tools.train(tmp_path / "run", more, rounds=4)
    assert more.calls[0] == (2, "sample")
    expected = tools.train(tmp_path / "whole", toy(), rounds=4)
    assert tools.outcome(found) == tools.outcome(expected)


@pytest.mark.parametrize(
    "order",
    [
        ("policy", "sample", "reward", "evaluate"),
        ("reward", "policy", "sample"),
        ("evaluate", "policy", "sample", "reward"),
    ],
)
def test_resume_under_other_rotations(toy, crash, tools, tmp_path, order):
    class Learner(toy):
        def fit(self, reward, samples, ctx):
            return super().fit(reward, samples or [0.0], ctx)

    expected = tools.train(tmp_path / "whole", Learner(), order=order)
    for phase in order:

        def at(number, name, folder, phase=phase):
            if (number, name) == (1, phase):
                raise crash

        path = tmp_path / phase
        with pytest.raises(crash):
            tools.train(path, Learner(at), order=order)
        found = tools.train(path, Learner(), order=order)
        assert tools.outcome(found) == tools.outcome(expected)


@pytest.mark.parametrize("broken", ["truncated", "changed", "missing", "record"])
def test_a_corrupted_phase_is_named(toy, tools, tmp_path, broken):
    path = tmp_path / "run"
    tools.train(path, toy(), rounds=2)
    file = path / "rounds/0001/policy/value.json"
    if broken == "truncated":
        file.write_text(file.read_text()[:-1])
    elif broken == "changed":
        file.write_bytes(file.read_bytes().replace(b"1", b"2"))
    elif broken == "missing":
        file.unlink()
    else:
        file = file.with_name("phase.json")
        file.write_text("{")
    with pytest.raises(UserError) as error:
        tools.train(path, toy(), rounds=3)
    assert str(file) in str(error.value)
    assert "delete" in str(error.value) and "rounds/0001" in str(error.value)


def test_the_mend_of_a_corrupted_phase_works(toy, tools, tmp_path):
    import shutil

    path = tmp_path / "run"
    expected = tools.train(path, toy())
    shutil.rmtree(path / "rounds/0001")
    shutil.rmtree(path / "rounds/0002")
    again = toy()
    assert tools.outcome(tools.train(path, again)) == tools.outcome(expected)
    assert again.calls[0] == (1, "sample")
    rows = (path / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 3


def test_a_corrupted_phase_in_an_unfinished_round_is_named(toy, crash, tools, tmp_path):
    def at(number, name, folder):
        if (number, name) == (1, "policy"):
            raise crash

    with pytest.raises(crash):
        tools.train(tmp_path / "run", toy(at))
    (tmp_path / "run/rounds/0001/samples/part").write_text("something else")
    with pytest.raises(UserError, match=r"rounds/0001/samples/part is damaged"):
        tools.train(tmp_path / "run", toy())


class TestSaveEvery:
    def test_commits_every_kth_round_and_the_last(self, toy, tools, tmp_path):
        result = tools.train(tmp_path / "run", toy(), rounds=7, save_every=3)
        run = RunDirectory.read(tmp_path / "run")
        assert run.committed_rounds() == [2, 5, 6]
        assert run.history() == result.history

    def test_resume_from_the_last_commit(self, toy, crash, tools, tmp_path):
        expected = tools.train(tmp_path / "whole", toy(), rounds=7, save_every=3)
        for place in ((4, "reward"), (5, "policy"), (3, "sample"), (6, "evaluate")):

            def at(number, name, folder, place=place):
                if (number, name) == place:
                    raise crash

            path = tmp_path / f"{place[0]}"
            with pytest.raises(crash):
                tools.train(path, toy(at), rounds=7, save_every=3)
            again = toy()
            found = tools.train(path, again, rounds=7, save_every=3)
            assert again.calls[0][0] in (3, 6)
            assert tools.outcome(found) == tools.outcome(expected)
            assert tools.disk(path) == tools.disk(tmp_path / "whole")

    def test_leftovers_of_a_later_round_are_not_taken(self, toy, crash, tools, tmp_path):
        """Phases of round 5 committed before the crash descend from rounds that are redone."""

        def at(number, name, folder):
            if (number, name) == (5, "policy"):
                raise crash

        with pytest.raises(crash):
            tools.train(tmp_path / "run", toy(at), rounds=7, save_every=3)
        assert (tmp_path / "run/rounds/0005/samples").exists()
        again = toy()
        tools.train(tmp_path / "run", again, rounds=7, save_every=3)
        assert (5, "sample") in again.calls

    def test_early_stop_between_two_saves_is_kept(self, toy, tools, tmp_path):
        options = {"rounds": 9, "save_every": 3, "early_stop": lambda history: len(history) >= 5}
        found = tools.train(tmp_path / "run", toy(), **options)
        assert len(found.history) == 5
        again = toy()
        assert tools.train(tmp_path / "run", again, **options) == found
        assert again.calls == []


def test_early_stop_holds_after_a_restart(toy, tools, tmp_path):
    def stop(history):
        return history[-1]["eval/x"] > -1e9 and len(history) == 2

    found = tools.train(tmp_path / "run", toy(), rounds=5, early_stop=stop)
    again = toy()
    assert tools.train(tmp_path / "run", again, rounds=5, early_stop=stop) == found
    assert len(found.history) == 2 and again.calls == []


def test_samples_without_a_codec_are_drawn_again(toy, crash, tools, tmp_path):
    codecs = Codecs(policy=tools.CODECS.policy, reward=tools.CODECS.reward)
    expected = tools.train(tmp_path / "whole", toy(), codecs=codecs)

    def at(number, name, folder):
        if (number, name) == (1, "reward"):
            raise crash

    with pytest.raises(crash):
        tools.train(tmp_path / "run", toy(at), codecs=codecs)
    again = toy()
    found = tools.train(tmp_path / "run", again, codecs=codecs)
    assert again.calls[0] == (1, "sample")
    assert tools.outcome(found) == tools.outcome(expected)


def test_folder_codec_hands_on_committed_folders(tmp_path):
    seen = []

    class Files:
        def sample(self, policy: Path, ctx):
            seen.append(policy)
            (ctx.folder / "samples.txt").write_text("s")
            return ctx.folder, {}

        def improve(self, policy: Path, reward, samples: Path, ctx):
            seen.append(samples)
            assert (samples / "samples.txt").exists()
            (ctx.folder / "weights").write_text("w")
            return ctx.folder, {}

    codecs = Codecs(policy=FolderCodec(), samples=FolderCodec())
    with RunDirectory(tmp_path / "run").open({}) as run:
        trainer = BilevelTrainer(
            Files(), None, Files(), None, rounds=2, seed=0, run=run, codecs=codecs
        )
        result = trainer.train(tmp_path / "base", None)
        assert result.policy == run.phase_folder(1, "policy")
        assert seen == [
            tmp_path / "base",
            run.phase_folder(0, "sample"),
            run.phase_folder(0, "policy"),
            run.phase_folder(1, "sample"),
        ]


def test_manifest_is_a_lineage(toy, tools, tmp_path):
    tools.train(tmp_path / "run", toy(), manifest=lambda number: {"data": f"sha-{number}"})
    run = RunDirectory.read(tmp_path / "run")
    first, second = run.manifest(0), run.manifest(1)
    assert first["policy_in"] == {"folder": "initial"}
    assert second["policy_in"] == first["policy_out"]
    assert second["reward_in"] == first["reward_out"]
    assert second["policy_out"]["folder"] == "rounds/0001/policy"
    assert second["policy_out"]["sha256"] != second["policy_in"]["sha256"]
    assert second["seeds"]["sample"] == derive_seed(7, round=1, phase="sample")
    assert second["data"] == "sha-1" and "torch" in second["versions"]
    assert len(second["config_hash"]) == 64


def test_callbacks_and_loggers_see_each_round_once(toy, tools, tmp_path):
    events = []

    class Recorder(Callback):
        def on_round_start(self, round):
            events.append(("start", round))

        def on_phase_end(self, ctx, metrics):
            events.append((ctx.phase, ctx.round))

        def on_round_end(self, round, policy, reward, metrics):
            events.append(("end", round, policy["w"]))

    class Log:
        def log(self, step, metrics, kind="round"):
            events.append(("log", step, kind))

    options = {"callbacks": [Recorder(), Callback_noop()], "loggers": [Log()]}
    result = tools.train(tmp_path / "run", toy(), rounds=1, **options)
    assert events == [
        ("start", 0), ("sample", 0), ("reward", 0), ("policy", 0), ("evaluate", 0),
        ("log", 0, "round"), ("end", 0, result.policy["w"]),
    ]  # fmt: skip
    events.clear()
    tools.train(tmp_path / "run", toy(), rounds=1, **options)
    assert events == []


class Callback_noop(Callback):
    """Overrides nothing: the defaults must be callable."""


def test_impossible_arguments(toy, tools, tmp_path):
    work = toy()

    def build(**options):
        options = {"rounds": 1, "seed": 0} | options
        BilevelTrainer(work, work, work, work, **options)

    with pytest.raises(ValueError, match="rotation"):
        build(order=("reward", "sample", "policy"))
    with pytest.raises(ValueError, match="rotation"):
        build(order=("sample", "reward", "policy", "evaluate", "evaluate"))
    with pytest.raises(ValueError, match="save_every"):
        build(save_every=0)
    with RunDirectory(tmp_path / "run").open({}) as run:
        with pytest.raises(ValueError, match="codec for what 'reward'"):
            build(run=run, codecs=Codecs(policy=tools.CODECS.policy))
        codecs = Codecs(policy=tools.CODECS.policy, reward=tools.CODECS.reward)
        with pytest.raises(ValueError, match="codec for what 'sample'"):
            build(run=run, codecs=codecs, order=("policy", "sample", "reward"))


def test_a_round_in_memory_is_cheap():
    class Nothing:
        def sample(self, policy, ctx):
            return policy, {}

        def fit(self, reward, samples, ctx):
            return reward, {"reward/loss": 0.0}

        def improve(self, policy, reward, samples, ctx):
            return policy, {}

        def evaluate(self, policy, reward, ctx):
            return {}

    work = Nothing()
    trainer = BilevelTrainer(work, work, work, work, rounds=3000, seed=0)
    start = time.process_time()
    trainer.train(0, 0)
    assert (time.process_time() - start) / 3000 < 200e-6  # about 12 microseconds when idle
