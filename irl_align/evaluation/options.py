"""Command-line options that evaluation programs share; light to import, so `--help` is quick."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irl_align.evaluation.players import PlayerOptions

__all__ = ["add_judge_arguments", "add_player_arguments", "player_options"]


def add_judge_arguments(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """`--judge`, `--judge-model`, `--judge-key-env`, `--judge-max-tokens`, `--judge-timeout`,
    `--workers`."""
    group = parser.add_argument_group("judge")
    group.add_argument(
        "--judge", required=required, metavar="URL", help="an OpenAI-compatible server"
    )
    group.add_argument(
        "--judge-model", metavar="NAME", help="model of the judge (default: the server's only one)"
    )
    group.add_argument(
        "--judge-key-env",
        default="OPENAI_API_KEY",
        metavar="VARIABLE",
        help="environment variable with the judge's key (default OPENAI_API_KEY)",
    )
    group.add_argument(
        "--judge-max-tokens", type=int, default=2048, metavar="N", help="of a judgement"
    )
    group.add_argument(
        "--judge-timeout", type=float, default=600.0, metavar="SECONDS", help="of one request"
    )
    group.add_argument("--workers", type=int, default=8, metavar="N", help="requests at a time")


def add_player_arguments(parser: argparse.ArgumentParser, *, max_new_tokens: int) -> None:
    """How answers are made; read back by :func:`player_options`."""
    group = parser.add_argument_group("answers")
    group.add_argument(
        "--max-new-tokens",
        type=int,
        default=max_new_tokens,
        metavar="N",
        help=f"longest answer (default {max_new_tokens})",
    )
    group.add_argument(
        "--model-name", metavar="NAME", help="model of a URL (default: the server's only one)"
    )
    group.add_argument(
        "--model-key-env",
        metavar="VARIABLE",
        help="environment variable with a URL's key (default: none is sent)",
    )
    group.add_argument(
        "--no-seed", action="store_true", help="send no seeds to a URL (some servers refuse them)"
    )
    group.add_argument("--backend", choices=("auto", "vllm", "hf"), default="auto")
    group.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    group.add_argument("--batch-size", type=int, default=32, metavar="N", help="answers at once")
    group.add_argument(
        "--max-prompt-tokens",
        type=int,
        default=3072,
        metavar="N",
        help="longer prompts get no answer, and are counted (default 3072)",
    )


def player_options(arguments: argparse.Namespace) -> PlayerOptions:
    """Raises UserError for numbers that make no sense."""
    from irl_align.evaluation.players import PlayerOptions

    return PlayerOptions(
        max_new_tokens=arguments.max_new_tokens,
        model_name=arguments.model_name,
        key_env=arguments.model_key_env,
        send_seed=not arguments.no_seed,
        workers=getattr(arguments, "workers", 8),
        backend=arguments.backend,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
        max_prompt_tokens=arguments.max_prompt_tokens,
    )
