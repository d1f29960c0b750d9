"""The assembly: LLM phases behind the verbs of core's round loop.

A round = sample from pi_t -> fit r_{t+1} -> improve to pi_{t+1} -> evaluate -> commit (thesis
Alg. 12; AIHF when human pairs are mixed in). Before round 0: the base model and SFT, pi_0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from irl_align.core.callbacks import Callback
from irl_align.core.config import to_dict
from irl_align.core.files import atomic_write_json
from irl_align.core.loggers import ConsoleLogger, Logger, TensorBoardLogger
from irl_align.core.protocols import Codecs, FolderCodec, Metrics, PhaseContext
from irl_align.core.run import RunDirectory
from irl_align.core.seeding import derive_seed
from irl_align.core.trainer import BilevelTrainer
from irl_align.llm.config import IMPLICIT, AlignConfig
from irl_align.llm.console import COLUMNS, headline, say, write_report_quietly
from irl_align.llm.generation.samples import SAMPLES_NAME
from irl_align.llm.phases.generate import GenerationPhase, merge_parts
from irl_align.llm.phases.job import PhaseJob
from irl_align.llm.phases.launch import Launcher
from irl_align.llm.phases.measure import COMPLETIONS_NAME
from irl_align.llm.preflight import preflight
from irl_align.llm.results import RESULTS_NAME, render_results, shown, write_results
from irl_align.llm.same_data import check_same_data, run_with_same_data

__all__ = ["Alignment", "align"]

IMPLICIT_NAME = "implicit_reward.json"
RULES_NAME = "rules.json"
FREE_KEYS = ("rounds", "run_dir", "launch", "early_stop", "budget_hours")


class Alignment(Callback):
    """The collaborators of one run; also usable phase by phase."""

    def __init__(
        self,
        config: AlignConfig,
        launcher: Launcher,
        run: RunDirectory,
        data_hashes: Mapping[str, str],
        setup_of: RunDirectory | None = None,
    ) -> None:
        self.config, self.launcher, self.run = config, launcher, run
        self.plain = to_dict(config)
        self.data_hashes = dict(data_hashes)
        self.setup_of = setup_of

    # Jobs

    def _job(
        self, name: str, inputs: Mapping[str, Path], out: Path, seed: int, number: int = 0,
        **extra: Any,
    ) -> PhaseJob:  # fmt: skip
        paths = {k: str(v) for k, v in inputs.items()}
        return PhaseJob(name, self.plain, paths, str(out), seed, number, extra)

    def _generate(
        self, policy: Path, out: Path, seed: int, number: int, *, held_out: bool
    ) -> dict[str, float]:
        name = "generate_heldout" if held_out else "generate"
        job = self._job(name, {"policy": policy}, out, seed, number)
        metrics = self.launcher.run(job)
        target = out / (COMPLETIONS_NAME if held_out else SAMPLES_NAME)
        return metrics | merge_parts(job, self.launcher.place.size, target)

    # Before round 0

    def prepare(self) -> Path:
        """Base model and SFT policy; returns the folder of pi_0."""
        base = self._setup("base", self._base)
        self._setup("sft", lambda out, seed: self._sft(base, out, seed))
        return self.run.setup_folder(self._start)

    @property
    def _start(self) -> str:
        """Where the rounds start, r_0 = 0: the reference, or SFT when that moves along."""
        return "base" if self.config.policy.reference == "base" else "sft"

    @property
    def _body(self) -> Path:
        """What the first reward model is made from."""
        named = self.config.reward.init_from
        if named is None or named == "reference":
            return self.run.setup_folder("sft" if named is None else self._start)
        return Path(named)

    def _setup(self, name: str, work: Callable[[Path, int], Metrics]) -> Path:
        if self.run.setup_done(name):
            self.run.verify_setup(name)
            return self.run.setup_folder(name)
        if self.setup_of is not None and self.setup_of.setup_done(name):
            say(f"{name}: as in {shown(self.setup_of.path)}")
            return self.run.take_setup(name, self.setup_of)
        say(f"{name}: started")
        start = time.perf_counter()
        seed = derive_seed(self.config.seed, round=0, phase=f"setup/{name}")
        metrics = work(self.run.begin_setup(name), seed)
        seconds = time.perf_counter() - start
        folder = self.run.commit_setup(name, metrics, seconds, seed)
        say(f"{name}: done in {seconds:.0f} s{headline(metrics)}")
        return folder

    def _base(self, out: Path, seed: int) -> Metrics:
        metrics = self.launcher.run(self._job("prepare", {}, out, seed))
        if self.config.evaluation.base and self.config.sft.enabled:
            metrics |= self._look_at(out, out, seed)
        return metrics

    def _sft(self, base: Path, out: Path, seed: int) -> Metrics:
        if self.config.sft.enabled:
            metrics = self.launcher.run(self._job("sft", {"base": base}, out, seed))
        else:
            metrics = {}
            _point_to_policy(base, out)
        return metrics | self._look_at(out, out, seed)

    def _look_at(self, policy: Path, out: Path, seed: int) -> dict[str, float]:
        """Completions of the held-out prompts and their measures, for a policy without rounds."""
        if self.config.evaluation.prompts is None:
            return {}
        metrics = self._generate(policy, out, seed, 0, held_out=True)
        measured = self.launcher.run(self._job("measure", {"completions": out}, out, seed))
        return _times(metrics) | measured

    # The verbs

    def sample(self, policy: Path, ctx: PhaseContext) -> tuple[Path, Metrics]:
        assert ctx.folder is not None
        metrics = self._generate(policy, ctx.folder, ctx.seed, ctx.round, held_out=False)
        return ctx.folder, metrics

    def fit(self, reward: Path | None, samples: Path, ctx: PhaseContext) -> tuple[Path, Metrics]:
        assert ctx.folder is not None
        if self.config.policy.method in IMPLICIT:
            # r = beta log pi / pi_ref: known when the policy is.
            atomic_write_json(ctx.folder / IMPLICIT_NAME, {"beta": self.config.policy.beta})
            return ctx.folder, {}
        if not self.config.fits_reward:
            rules = self.plain["policy"]["scores"]["rules"]
            atomic_write_json(ctx.folder / RULES_NAME, rules)
            return ctx.folder, {}
        inputs = {"samples": samples, "body": self._body}
        if reward is not None:
            inputs["reward"] = reward / "model"
        first = max(0, ctx.round - self.config.reward.earlier_rounds)
        earlier = range(ctx.round - 1, first - 1, -1)
        job = self._job(
            "reward",
            inputs,
            ctx.folder,
            ctx.seed,
            ctx.round,
            earlier_samples=[str(self.run.phase_folder(k, "sample")) for k in earlier],
            # pi_k answered to r_k, which round k - 1 fitted; r_0 = 0 is no folder.
            earlier_rewards=[
                str(self.run.phase_folder(k - 1, "reward") / "model") if k else None
                for k in earlier
            ],
        )
        return ctx.folder, self.launcher.run(job)

    def improve(
        self, policy: Path, reward: Path, samples: Path, ctx: PhaseContext
    ) -> tuple[Path, Metrics]:
        assert ctx.folder is not None
        inputs = {
            "policy": policy,
            "initial": self.run.setup_folder(self._start),
            "reward": reward,
            "samples": samples,
        }
        job = self._job("policy", inputs, ctx.folder, ctx.seed, ctx.round)
        return ctx.folder, self.launcher.run(job)

    def evaluate(self, policy: Path, reward: Path, ctx: PhaseContext) -> Metrics:
        assert ctx.folder is not None
        metrics: dict[str, float] = {}
        inputs = {
            "completions": ctx.folder,
            "policy": policy,
            "reward": reward,
            "initial": self.run.setup_folder(self._start),
        }
        if self.config.evaluation.prompts is not None:
            metrics = _times(self._generate(policy, ctx.folder, ctx.seed, ctx.round, held_out=True))
            inputs["baseline"] = self.run.setup_folder("sft")
            measured_base = self.config.evaluation.base and self.config.sft.enabled
            inputs["pairs"] = self.run.setup_folder("base" if measured_base else "sft")
        job = self._job("measure", inputs, ctx.folder, ctx.seed, ctx.round)
        return metrics | self.launcher.run(job)

    # What the loop tells

    def on_phase_end(self, ctx: PhaseContext, metrics: Metrics) -> None:
        say(f"round {ctx.round}: {ctx.phase} done{headline(metrics)}")

    def on_round_end(self, round: int, policy: Any, reward: Any, metrics: Metrics) -> None:
        write_results(self.run)
        write_report_quietly(self.run.path)

    def manifest(self, number: int) -> dict[str, Any]:
        start = f"setup/{self._start}"
        previous = f"rounds/{number - 1:04d}/policy" if number else start
        reference = previous if self.config.policy.reference == "previous" else start
        return {
            "reference": reference,
            "policy_in_folder": previous,
            "data": self.data_hashes,
            "processes": self.launcher.place.size,
        }

    def _enough(self, history: list[dict[str, float]]) -> bool:
        """Whether no further round is to start."""
        budget = self.config.budget_hours
        if budget is not None and _spent(history) >= 3600 * budget:
            say(f"budget_hours={budget:g} is spent: no further round")
            return True
        return self.config.early_stop and _accuracy_fell(history)

    def train(self) -> None:
        """Everything: set-up, all rounds, results and report."""
        policy = self.prepare()
        loggers: list[Logger] = [ConsoleLogger(columns=COLUMNS)]
        if self.config.launch.tensorboard:
            loggers.append(TensorBoardLogger(self.run.path / "tensorboard"))
        trainer: BilevelTrainer[Path, Any] = BilevelTrainer(
            self,
            self,
            self,
            self,
            rounds=self.config.rounds,
            seed=self.config.seed,
            run=self.run,
            codecs=Codecs(FolderCodec(), FolderCodec(), FolderCodec()),
            callbacks=[self],
            loggers=loggers,
            early_stop=self._enough,
            manifest=self.manifest,
        )
        trainer.train(policy, None)
        results = write_results(self.run, finished=True)
        write_report_quietly(self.run.path)
        print(f"\n{render_results(results)}\n")
        print(f"results: {shown(self.run.path / RESULTS_NAME)}")
        print(f"report:  {shown(self.run.path / 'report.html')}")


def _point_to_policy(base: Path, out: Path) -> None:
    """SFT left out: pi_0 is the base model, under the name that the rounds know."""
    import shutil

    from irl_align.llm.policy.artefacts import PolicyRef

    ref = PolicyRef.at(base)
    PolicyRef.point_to(ref.model, out)
    shutil.copyfile(ref.probe, out / ref.probe.name)


def _spent(history: list[dict[str, float]]) -> float:
    """Seconds of sampling and learning in all rounds, without measuring."""
    return sum(row.get(f"time/{p}", 0.0) for row in history for p in ("sample", "reward", "policy"))


def _accuracy_fell(history: list[dict[str, float]]) -> bool:
    key = "reward/accuracy"
    return len(history) > 1 and history[-1].get(key, 0.0) < history[-2].get(key, 0.0)


def _times(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of a held-out generation only what does not repeat the training samples' keys."""
    kept = ("samples/probe_gap", "samples/tokens_per_second", "time/load", "time/generate")
    return {f"heldout/{k.split('/')[1]}": v for k, v in metrics.items() if k in kept}


def align(config: AlignConfig, setup_of: Path | None = None) -> Path:
    """Run or resume `config` under whatever launcher started this process; the run's folder.

    Args:
        setup_of: a run whose base model and SFT are taken over instead of being made again. That
            its configuration would make the same is for the caller to know; that its data are the
            same is looked at here.
    """
    generation = GenerationPhase()
    launcher = Launcher(
        inline=config.launch.inline,
        handlers={"generate": generation, "generate_heldout": generation},
    )
    path = Path(config.run_dir).resolve()
    try:
        if launcher.is_main:
            # First, so that no run directory remembers a configuration that cannot work.
            hashes = {role: report.sha256 for role, report in preflight(config).items()}
            run = RunDirectory(path).open(to_dict(config), free_keys=FREE_KEYS)
            with run:
                check_same_data(run, hashes)
                donor = None if setup_of is None else run_with_same_data(setup_of, hashes)
                Alignment(config, launcher, run, hashes, donor).train()
        else:
            launcher.follow()
    finally:
        generation.close()
        launcher.close()
    return path
