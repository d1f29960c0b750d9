"""Judges against a scripted server: nothing lost, nothing asked twice, nothing guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from judge_server import SLOW, JudgeServer, chat

from irl_align.core.errors import UserError
from irl_align.evaluation.judges import (
    CachedChat,
    PairwiseJudge,
    SingleGrader,
    open_chat,
    parse_score,
    parse_verdict,
)
from irl_align.evaluation.judges.cache import RequestCache
from irl_align.evaluation.judges.prompts import compare_messages, grade_messages
from irl_align.llm.generation import chat_endpoint
from irl_align.llm.generation.chat_endpoint import ChatEndpoint

PROMPT = [{"role": "user", "content": "Name a colour."}]


@pytest.fixture
def server(monkeypatch) -> Iterator[JudgeServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = JudgeServer()
    yield found
    found.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(chat_endpoint.time, "sleep", found.append)
    return found


def cached(server: JudgeServer, tmp_path, **changes) -> CachedChat:
    endpoint = ChatEndpoint(server.url, timeout=changes.pop("timeout", 5.0))
    return CachedChat(endpoint, "judge", RequestCache(tmp_path / "requests"), **changes)


@pytest.mark.parametrize(
    ("text", "score", "failure"),
    [
        ("Good.\n[[8]]", 8.0, None),
        ("[[ 7.5 ]]", 7.5, None),
        ("[[1]] and again [[1]]", 1.0, None),
        ("[[10]]", 10.0, None),
        ("no double brackets: [6]", 6.0, None),
        ("as in [3] one reads ... [[9]]", 9.0, None),  # the form asked for goes first
        ("", None, "none"),
        ("Rating: 8", None, "none"),
        ("[[8/10]]", None, "none"),
        ("[[score]]", None, "none"),
        ("[[8]", None, "none"),
        ("[[4]] ... [[6]]", None, "several"),
        ("see [1] and [2]", None, "several"),
        ("[[11]]", None, "range"),
        ("[[0]]", None, "range"),
        ("[[-3]]", None, "range"),
        ("[[11]] [5]", None, "range"),  # a bad score is not mended by a footnote
        ("[[nan]]", None, "none"),
        ("[[٨]]", None, "none"),
    ],
)
def test_scores(text, score, failure):
    parsed = parse_score(text)
    assert (parsed.value, parsed.failure) == (score, failure)


@pytest.mark.parametrize(
    ("text", "verdict", "failure"),
    [
        ("A is better.\n[[A]]", "a", None),
        ("[[ b ]]", "b", None),
        ("[[Tie]]", "tie", None),
        ("[[A]] [[A]]", "a", None),
        ("A", None, "none"),
        ("[A]", None, "none"),
        ("[[C]]", None, "none"),
        ("[[A]] or [[B]]", None, "several"),
        ("", None, "none"),
    ],
)
def test_verdicts(text, verdict, failure):
    parsed = parse_verdict(text)
    assert (parsed.value, parsed.failure) == (verdict, failure)


def test_the_four_prompts_show_what_their_protocol_says():
    turns = [("first?", "one"), ("second?", "two")]
    seen = {
        (n, bool(r)): grade_messages(turns[:n], r) for n in (1, 2) for r in (None, ["right", "yes"])
    }
    assert len({m[0]["content"] for m in seen.values()}) == 4
    for (n, reference), (_, user) in seen.items():
        text = user["content"]
        assert "[[N]]" in text.split(">>>")[-1], "what to write comes last"
        assert parse_score(text).failure == "none", "a judge that repeats its orders has no score"
        assert ("second?" in text and "two" in text) == (n == 2)
        assert "first?" in text and "one" in text
        assert ("right" in text) == reference
        assert ("yes" in text) == (reference and n == 2)
    _, user = compare_messages(PROMPT, "red", "blue")
    assert user["content"].index("red") < user["content"].index("blue")
    conversation = [*PROMPT, {"role": "assistant", "content": "red"}, *PROMPT]
    assert "ASSISTANT: red" in compare_messages(conversation, "x", "y")[1]["content"]
    with pytest.raises(ValueError, match="3 turns"):
        grade_messages(turns + turns[:1])


def test_passing_trouble_is_waited_out_and_nothing_is_lost(server, waits, tmp_path):
    """Each kind of trouble once, then the answer."""
    trouble = [(429, {}), (500, {}), (200, b'{"choices": [{"mess'), (503, b""), (200, SLOW)]
    met: dict[str, int] = {}

    def answer(body, number):
        text = body["messages"][1]["content"]
        met[text] = met.get(text, 0) + 1
        index = int(text.split("question ")[1].split("\n")[0])
        if met[text] == 1 and index < len(trouble):
            return trouble[index]
        return 200, chat(f"[[{index + 1}]]")

    server.answer = answer
    grader = SingleGrader(cached(server, tmp_path, timeout=0.3))
    grades = grader.chat.map(lambda i: grader.grade([(f"question {i}", "a")]), range(7), "")
    assert [g.score for g in grades] == [float(i + 1) for i in range(7)]
    assert grader.chat.counts.as_dict() == {"asked": 7, "cached": 0, "failed": 0}
    assert len(server.requests) == 7 + len(trouble)


def test_pauses_double_up_to_a_cap_and_follow_the_server(server, waits):
    server.answer = lambda body, number: (429, {})
    with pytest.raises(UserError, match="answered 429"):
        ChatEndpoint(server.url, tries=8, cap=10.0).post({})
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_malformed_judgements_are_counted_and_excluded(server, waits, tmp_path):
    texts = ["[[3]]", "no score", "[[2]] [[9]]", "[[77]]", "[4]"]
    server.answer = lambda body, number: (
        200,
        chat(texts[int(body["messages"][1]["content"].split("question ")[1][0])]),
    )
    grader = SingleGrader(cached(server, tmp_path))
    grades = grader.chat.map(lambda i: grader.grade([(f"question {i}", "a")]), range(5), "")
    assert [g.score for g in grades] == [3.0, None, None, None, 4.0]
    assert [g.failure for g in grades] == [None, "none", "several", "range", None]
    judge = PairwiseJudge(cached(server, tmp_path))
    assert [judge.compare([{"role": "user", "content": f"question {i}"}], "x", "y") for i in (0, 2)]
    assert judge.failures == {"none": 2}


def test_a_question_that_stays_unanswered_is_counted_and_asked_again_next_time(
    server, waits, tmp_path
):
    broken = True
    server.answer = lambda body, number: (
        (500, {"error": "boom"})
        if broken and "question 1" in body["messages"][1]["content"]
        else (200, chat("[[5]]"))
    )

    def grades():
        grader = SingleGrader(cached(server, tmp_path, workers=1))
        found = grader.chat.map(lambda i: grader.grade([(f"question {i}", "a")]), range(3), "")
        return [(g.score, g.failure) for g in found], grader.chat.counts.as_dict()

    assert grades() == (
        [(5.0, None), (None, "request"), (5.0, None)],
        {"asked": 3, "cached": 0, "failed": 1},
    )
    broken, before = False, len(server.requests)
    assert grades() == ([(5.0, None)] * 3, {"asked": 3, "cached": 2, "failed": 0})
    assert len(server.requests) == before + 1


def test_a_server_that_is_gone_ends_the_run(server, waits, tmp_path):
    server.answer = lambda body, number: (200, {"error": "overloaded"})
    grader = SingleGrader(cached(server, tmp_path, workers=1, give_up=3))
    with pytest.raises(UserError, match=r"3 questions in a row got no answer.*overloaded"):
        grader.chat.map(lambda i: grader.grade([(f"q{i}", "a")]), range(9), "")
    assert len(server.requests) == 3


def test_a_refusal_is_an_error_at_once(server, waits, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.answer = lambda body, number: (401, {"error": "wrong key sk-secret"})
    with pytest.raises(UserError, match="answered 401") as caught:
        SingleGrader(cached(server, tmp_path)).grade([("q", "a")])
    assert "sk-secret" not in str(caught.value)
    assert (len(server.requests), waits) == (1, [])


def test_too_long_for_the_judge(server, tmp_path):
    server.answer = lambda body, number: (400, {"error": "maximum context length is 512 tokens"})
    grade = SingleGrader(cached(server, tmp_path)).grade([("q", "a")])
    assert (grade.score, grade.failure) == (None, "request")
    assert "512" in (grade.text or "")


def test_the_cache_holds_whole_requests_and_no_key(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    asked = cached(server, tmp_path)
    for temperature, seed in [(0.0, None), (0.5, None), (0.5, 1), (0.5, 2), (0.5, 2)]:
        asked.ask(PROMPT, temperature=temperature, max_tokens=9, seed=seed)
    asked.ask(PROMPT, temperature=0.5, max_tokens=9, seed=2, send_seed=False)
    assert len(server.requests) == 5, "the same request is not sent twice, another one is"
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    files = sorted((tmp_path / "requests").rglob("*.json"))
    assert len(files) == 5
    assert not any("sk-secret" in f.read_text() for f in files)
    entry = json.loads(files[0].read_text())
    assert entry["request"]["body"]["messages"] == PROMPT
    files[0].write_text('{"request": {}, "ans')  # damaged by hand: asked again
    for temperature, seed in [(0.0, None), (0.5, None), (0.5, 1), (0.5, 2)]:
        cached(server, tmp_path).ask(PROMPT, temperature=temperature, max_tokens=9, seed=seed)
    assert len(server.requests) in (5, 6)


def test_the_same_question_at_once_is_asked_once(server, tmp_path):
    chat_ = cached(server, tmp_path, workers=8)
    chat_.map(lambda _: chat_.ask(PROMPT, temperature=0.0, max_tokens=9), range(16), "")
    assert len(server.requests) == 1
    assert chat_.counts.as_dict() == {"asked": 16, "cached": 15, "failed": 0}


def test_which_model(server, tmp_path, waits):
    flag = {"cache": tmp_path, "name_flag": "--judge-model"}
    assert open_chat(server.url, None, **flag).model == "judge"
    assert open_chat(server.url + "/chat/completions", "judge", **flag).endpoint.base == server.url
    with pytest.raises(UserError, match=r"--judge-model other: .* does not have it; it has judge"):
        open_chat(server.url, "other", **flag)
    server.models = ("x", "y")
    with pytest.raises(UserError, match=r"several models \(x, y\); choose by --judge-model"):
        open_chat(server.url, None, **flag)
    server.models = ()
    with pytest.raises(UserError, match="does not list its models; give --judge-model NAME"):
        open_chat(server.url, None, **flag)
    assert open_chat(server.url, "any", **flag).model == "any"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:8000", "no address of a server"),
        ("ftp://host/v1", "no address of a server"),
        ("https://me:pw@host/v1", "holds a user name"),
        ("https://host/v1?api_key=x", "holds a user name, password or query"),
    ],
)
def test_addresses(url, message):
    with pytest.raises(UserError, match=message) as caught:
        ChatEndpoint(url)
    assert "pw" not in str(caught.value)


def test_a_key_with_odd_characters_is_not_shown(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-é\x07secret")
    with pytest.raises(UserError, match="OPENAI_API_KEY holds no key") as caught:
        ChatEndpoint(server.url).post({})
    assert "secret" not in str(caught.value)


def test_nobody_there(server, waits, tmp_path):
    server.close()
    with pytest.raises(UserError, match="cannot be reached"):
        open_chat(server.url, None, tmp_path, name_flag="--judge-model")
