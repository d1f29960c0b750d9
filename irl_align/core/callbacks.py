"""Hooks into the round loop."""

from __future__ import annotations

from typing import Any, Protocol

from irl_align.core.protocols import Metrics, PhaseContext


class Callback(Protocol):
    """Called by the trainer; derive from it and override what is needed.

    Phases that were committed before a restart are not reported again. A callback observes: what it
    changes in an artefact would be missing after a restart.
    """

    def on_round_start(self, round: int) -> None:
        return None

    def on_phase_end(self, ctx: PhaseContext, metrics: Metrics) -> None:
        return None

    def on_round_end(self, round: int, policy: Any, reward: Any, metrics: Metrics) -> None:
        return None
