"""Win rate of A against B: how often is A's answer to the same prompt preferred?

    python eval/win_rate.py a.jsonl b.jsonl --judge http://localhost:8000/v1
    python eval/win_rate.py runs/x/rounds/0001/policy runs/x/setup/sft --prompts held_out.jsonl \\
        --reward REWARD_DIR
    python eval/win_rate.py POLICY answers.jsonl --rule vader

A and B are files of answers (rows of prompt and response, matched by prompt), folders of policies,
or URLs of OpenAI-compatible servers. The referee is a judge, a reward model or a rule. A judge sees
each pair in both orders; a tie is half a win, and a prompt without two clear verdicts is left out
and counted. Beside the win rate stands its length-controlled form: a logistic regression of the
outcome on the difference in length, read off at equal length.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from irl_align.core.errors import exit_with_clear_errors
from irl_align.evaluation.options import (
    add_judge_arguments,
    add_player_arguments,
    player_options,
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="eval/win_rate.py",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="a file of answers, a policy's folder, or a URL")
    parser.add_argument("b", metavar="B", help="the same")
    add_judge_arguments(parser, required=False)
    referee = parser.add_argument_group("other referees")
    referee.add_argument("--reward", metavar="FOLDER", help="a reward model's folder")
    referee.add_argument(
        "--rule", metavar="NAME", help="length (characters), vader (sentiment) or module:function"
    )
    add_player_arguments(parser, max_new_tokens=256)
    parser.add_argument("--temperature", type=float, default=1.0, help="of sampled answers")
    parser.add_argument("--prompts", metavar="FILE", help="for two policies: what they answer")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N prompts only")
    parser.add_argument("--seed", type=int, default=0, help="of the answers and the bootstrap")
    parser.add_argument("--out", type=Path, help="folder of results (default: the run's)")
    arguments = parser.parse_args()

    from irl_align.evaluation.win_rate import WinRateOptions, run_win_rate

    names = ("a", "b", "judge", "reward", "rule", "judge_model", "judge_key_env", "workers")
    names += ("judge_max_tokens", "judge_timeout", "prompts", "limit", "temperature", "seed", "out")
    chosen = {name: getattr(arguments, name) for name in names}
    _, text = run_win_rate(WinRateOptions(**chosen, player=player_options(arguments)))
    print(text)
    return 0


if __name__ == "__main__":
    exit_with_clear_errors(main)
