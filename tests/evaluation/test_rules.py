"""The rule's four values, what counts as the right form, and files of right answers."""

from __future__ import annotations

import gzip
import json
import threading

import pytest

from irl_align.core.errors import UserError
from irl_align.evaluation.answer_keys import load_answer_keys
from irl_align.evaluation.hidden_reward import load_hidden_reward
from irl_align.evaluation.rules import RuleReward, answer_in, read_math, same_answer


def said(answer: str, thought: str = "6 times 7") -> str:
    return f"<think>{thought}</think>\n<answer> {answer} </answer>"


PROMPT = "What is 6 times 7?"


@pytest.fixture(scope="module")
def reward() -> RuleReward:
    return RuleReward({PROMPT: "42"})


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (said("42"), 3.0),
        (said("$42.0$"), 3.0),
        (said("84/2"), 3.0),
        ("Well. " + said("42") + " Done.", 3.0),  # what stands around is not looked at
        (said("41"), -0.5),
        (said("40 or maybe 41"), -0.5),
        (said("forty-two"), -1.0),
        (said(""), -1.0),
        (said("\\frac{"), -1.0),
        ("42", -3.0),
        ("<answer>42</answer>", -3.0),
        ("<think>6 times 7</think> 42", -3.0),
        ("<answer>42</answer><think>6 times 7</think>", -3.0),
        (said("42") + said("42"), -3.0),
        ("<think>is it <answer>42</answer>?</think>", -3.0),
        ("<think>a<think>b</think></think><answer>42</answer>", -3.0),
        (said("42").removesuffix("</answer>"), -3.0),
        ("", -3.0),
    ],
)
def test_values(reward, response, value):
    assert reward(PROMPT, response) == value


def test_form_and_answer_are_told_apart(reward):
    wrong = reward.score(PROMPT, said("41"))
    assert (wrong.format, wrong.answer, wrong.right) == (1.0, -1.5, False)
    assert reward.score(PROMPT, said("42")).right
    assert reward.score(PROMPT, "42").format == -1.0


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("1/2", "\\frac{1}{2}", True),
        ("\\frac{1}{2}", "0.5", True),
        ("1000", "1,000", True),
        ("1000", "$1,000", True),
        ("18", "18 dollars", True),
        ("x+1", "1 + x", True),
        ("3", "x = 3", True),
        ("42", "**42**", True),
        ("-3", "3", False),
        ("1/3", "0.33", False),
        ("2", "(1, 2)", False),
        ("x+1", "1", False),
    ],
)
def test_answers_are_compared_as_mathematics(gold, answer, same):
    assert same_answer(read_math(gold), read_math(answer)) is same


def test_a_thread_may_ask(reward):
    """math-verify's own time limit is a signal, which raises outside the main thread."""
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(reward(PROMPT, said("42"))))
    thread.start()
    thread.join()
    assert found == [3.0]


def test_prompts_are_known_by_their_words(reward):
    assert reward.knows("  What is 6\ntimes 7?") and not reward.knows("What is 6 times 8?")
    with pytest.raises(UserError, match="no answer to 'What is 6 times 8"):
        reward("What is 6 times 8?", said("48"))


def test_the_answer_is_what_the_element_holds():
    assert answer_in(said("a\nb")) == "a\nb"
    assert answer_in("a") is None


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


ROWS = (
    {"prompt": "a", "answer": 7},
    {"question": "b", "answer": "3 + 4 = 7.\n#### 1,007"},
    {"prompt": [{"role": "user", "content": "c"}], "answer": "7"},
    {
        "system": "think first",
        "messages": [{"role": "user", "content": "d"}, {"role": "assistant", "content": "x"}],
        "answer": "8",
    },
)


def test_files_of_answers(tmp_path):
    plain = write(tmp_path / "answers.jsonl", *ROWS)
    packed = tmp_path / "answers.jsonl.gz"
    packed.write_bytes(gzip.compress((tmp_path / "answers.jsonl").read_bytes()))
    for path in (plain, str(packed)):
        found = load_answer_keys(path, "key")
        assert found == {"a": "7", "b": "1,007", "c": "7", "think first\n\nd": "8"}


def test_the_rule_is_a_gold_reward(tmp_path):
    gold = load_hidden_reward(f"rules:{write(tmp_path / 'answers.jsonl', *ROWS)}")
    assert gold("b", said("1007")) == 3.0
    assert gold("think first\n\nd", said("7")) == -0.5


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt": "a"}], "row 1: 'answer'"),
        ([{"prompt": "a", "answer": "7"}, {"answer": "7"}], "row 2: 'prompt'"),
        ([{"prompt": "a", "answer": "7"}, {"prompt": "a", "answer": "8"}], "row 2.*another answer"),
        ([{"prompt": [{"text": "a"}], "answer": "7"}], "role and content"),
        ([["a"]], "row 1: must be an object"),
        ([], "no rows"),
        ([{"prompt": "a", "answer": "no number"}], "'no number'.*cannot be read"),
    ],
)
def test_a_wrong_file_is_a_clear_error(tmp_path, rows, message):
    path = write(tmp_path / "answers.jsonl", *rows)
    with pytest.raises(UserError, match=message):
        load_hidden_reward(f"rules:{path}")


def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path):
    with pytest.raises(UserError, match=r"evaluation\.hidden_reward: .*no such file"):
        load_hidden_reward(f"rules:{tmp_path}/none.jsonl")
    (tmp_path / "broken.jsonl").write_text("{\n")
    with pytest.raises(UserError, match="row 1: no JSON"):
        load_hidden_reward(f"rules:{tmp_path}/broken.jsonl")
