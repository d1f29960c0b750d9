"""`irl-align show-config CONFIG [key=value ...]`: the configuration as a run would use it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "show-config",
        help="print the resolved configuration and stop",
        description="Merges defaults, the YAML and the overrides exactly as a run does, checks "
        "every key and prints the result.",
    )
    parser.add_argument("config", help="a YAML file, e.g. configs/llm/quickstart.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. reward.beta=0.5")
    parser.add_argument("--json", action="store_true", help="print JSON instead of YAML")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from irl_align.core.config import load_config, to_dict
    from irl_align.llm.config import AlignConfig

    config = load_config(AlignConfig, Path(options.config), options.overrides)
    plain = to_dict(config)
    if options.json:
        print(json.dumps(plain, indent=2, ensure_ascii=False))
    else:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(OmegaConf.create(plain)), end="")
    return 0
