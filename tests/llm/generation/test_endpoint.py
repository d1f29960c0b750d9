"""The endpoint backend against a small real HTTP server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from irl_align.core.errors import UserError
from irl_align.llm.config import SamplingConfig
from irl_align.llm.generation import chat_endpoint
from irl_align.llm.generation.base import GenerationSettings, PromptTooLong
from irl_align.llm.generation.endpoint import EndpointGenerator

PROMPT = [{"role": "user", "content": "say red"}]
Answer = Callable[[dict[str, Any], int], tuple[int, Any]]  # (body, number of the call)


class Server:
    """Answers with what `answer` says; keeps the requests."""

    def __init__(self) -> None:
        self.answer: Answer = lambda body, number: (200, choices(*["ok"] * body["n"]))
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append({"path": self.path, **body})
                    outer.headers.append(dict(self.headers))
                    number = len(outer.requests)
                status, content = outer.answer(body, number)
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def choices(*texts: str, reason: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": t}, "finish_reason": reason} for t in texts],
        "usage": {"completion_tokens": 4 * len(texts)},
    }


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = Server()
    yield found
    found.close()


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The pauses between tries, taken as read."""
    found: list[float] = []
    monkeypatch.setattr(chat_endpoint.time, "sleep", found.append)
    return found


def generator(server: Server, **changes: Any) -> EndpointGenerator:
    settings = {"backend": "endpoint", "endpoint": server.url, "batch_size": 4} | changes
    return EndpointGenerator(SamplingConfig(**settings))


def test_completions_in_the_order_of_the_prompts(server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    server.answer = lambda body, _: (
        200,
        choices(*[f" {body['messages'][0]['content']} {k} " for k in range(body["n"])]),
    )
    prompts = [[{"role": "user", "content": f"p{i}"}] for i in range(9)]
    done: list[int] = []
    found = generator(server, endpoint_model="m", endpoint_key_env="MY_KEY").generate(
        prompts, GenerationSettings(n=2, max_new_tokens=7, seed=40, temperature=0.5), done.append
    )
    assert [[c.text for c in f] for f in found] == [[f"p{i} 0", f"p{i} 1"] for i in range(9)]
    assert sum(done) == 9
    assert all(c.finished and c.tokens == 4 for f in found for c in f)
    by_prompt = sorted(server.requests, key=lambda r: r["messages"][0]["content"])
    assert [r["seed"] for r in by_prompt] == list(range(40, 49)), "each prompt a seed of its own"
    first = by_prompt[0]
    assert (first["path"], first["model"], first["max_tokens"]) == ("/v1/chat/completions", "m", 7)
    assert first["temperature"] == 0.5
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_cut_off_answers_are_told(server):
    server.answer = lambda body, _: (200, choices("a", reason="length"))
    ((completion,),) = generator(server).generate([PROMPT], GenerationSettings())
    assert not completion.finished


def test_a_server_that_gives_one_choice_is_asked_again(server):
    server.answer = lambda body, number: (200, choices(f"t{number}"))
    (found,) = generator(server).generate([PROMPT], GenerationSettings(n=3))
    assert [c.text for c in found] == ["t1", "t2", "t3"]
    assert len({r["seed"] for r in server.requests}) == 3


def test_too_many_requests_is_waited_for(server, waits):
    server.answer = lambda body, number: (
        (429, {"error": "slow down"}) if number < 3 else (200, choices("ok"))
    )
    ((completion,),) = generator(server).generate([PROMPT], GenerationSettings())
    assert completion.text == "ok"
    assert len(waits) == 2
    assert 0 < waits[0] < waits[1]


def test_a_server_that_stays_broken_is_named(server, waits):
    server.answer = lambda body, number: (500, {"error": "boom"})
    with pytest.raises(UserError, match=r"/v1/chat/completions answered 500: .*boom"):
        generator(server).generate([PROMPT], GenerationSettings())
    assert len(server.requests) == 5


def test_a_refusal_is_not_asked_again(server, waits):
    server.answer = lambda body, number: (401, {"error": "no key"})
    with pytest.raises(UserError, match="answered 401"):
        generator(server).generate([PROMPT], GenerationSettings())
    assert (len(server.requests), waits) == (1, [])


def test_over_long_prompts_are_skipped(server, waits):
    text = "This model's maximum context length is 512 tokens"
    server.answer = lambda body, number: (
        (400, {"error": {"message": text}}) if "long" in str(body) else (200, choices("ok"))
    )
    long = [{"role": "user", "content": "long"}]
    skipped, kept = generator(server).generate([long, PROMPT], GenerationSettings())
    assert isinstance(skipped, PromptTooLong)
    assert "512 tokens" in skipped
    assert kept[0].text == "ok"


def test_another_bad_request_is_an_error(server, waits):
    server.answer = lambda body, number: (400, {"error": "temperature must be below 2"})
    with pytest.raises(UserError, match="temperature must be below 2"):
        generator(server).generate([PROMPT], GenerationSettings())


@pytest.mark.parametrize(
    "content",
    [
        b"<html>gateway</html>",
        b"\xff\xfe",
        b"[]",
        b"null",
        {"object": "error"},
        {"choices": []},
        {"choices": ["text"]},
        {"choices": {"0": 1}},
        {"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]},
        {"choices": [{"message": "hello", "finish_reason": "stop"}]},
        {"choices": [{"text": "a completions endpoint"}], "usage": []},
    ],
)
def test_a_malformed_answer_is_one_clear_error(server, waits, content):
    server.answer = lambda body, number: (200, content)
    with pytest.raises(UserError) as caught:
        generator(server).generate([PROMPT], GenerationSettings())
    assert server.url in str(caught.value)


def test_nobody_there(server, waits):
    url = server.url
    server.close()
    with pytest.raises(UserError, match="cannot be reached"):
        EndpointGenerator(SamplingConfig(backend="endpoint", endpoint=url)).generate(
            [PROMPT], GenerationSettings()
        )
    assert len(waits) == 4


def test_an_endpoint_gives_no_logprobs(server):
    with pytest.raises(UserError, match="no log probabilities"):
        generator(server).logprobs([1, 2])
