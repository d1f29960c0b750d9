"""Asking a chat server many questions: at once, never the same one twice, every failure counted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from irl_align.core.errors import UserError
from irl_align.core.loggers import ConsoleLogger
from irl_align.evaluation.judges.cache import RequestCache, request_key
from irl_align.llm.data.schema import Message
from irl_align.llm.generation.chat_endpoint import ChatEndpoint, EndpointError

__all__ = ["CachedChat", "ChatCounts", "Reply", "open_chat"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Reply:
    """What came back: `text`, or None and the reason in `error`. `finish_reason`: "stop" (the
    model ended), "length" (it was cut off) or "error"."""

    text: str | None
    finish_reason: str
    error: str | None = None


@dataclass
class ChatCounts:
    """`asked`: questions; `cached`: of these answered from disk; `failed`: without an answer."""

    asked: int = 0
    cached: int = 0
    failed: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


class CachedChat:
    """One model behind one address.

    A question that gets no answer after all tries is counted, returned as a :class:`Reply` without
    text and not cached, so that the next run asks it again. After `give_up` such questions in a row
    nobody is there: :class:`UserError`, and whatever was answered stays cached. A refusal (wrong
    key, wrong model name, a parameter that the server does not know) is an error at once.
    """

    def __init__(
        self,
        endpoint: ChatEndpoint,
        model: str,
        cache: RequestCache | None = None,
        *,
        workers: int = 8,
        give_up: int = 5,
    ) -> None:
        if workers < 1:
            raise UserError(f"workers is {workers}; at least 1 request at a time is needed")
        self.endpoint, self.model, self.cache = endpoint, model, cache
        self.workers, self.give_up = workers, give_up
        self.counts = ChatCounts()
        self._in_a_row = 0
        self._lock = threading.Lock()

    def ask(
        self,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        seed: int | None = None,
        send_seed: bool = True,
    ) -> Reply:
        """The model's answer to a conversation, stripped of outer white space.

        `send_seed=False` keeps the seed from the server (some refuse it); it then only tells
        repeated draws of one question apart in the cache.
        """
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(m) for m in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        if seed is not None and send_seed:
            body["seed"] = seed
        if self.cache is None:
            answer, error = self._request(body)
            return self._reply(answer, error, cached=False)
        request = {"url": self.endpoint.url, "body": body, "seed": seed}
        key = request_key(request)
        with self.cache.alone(key):
            kept = self.cache.get(key)
            if _message(kept) is not None:
                return self._reply(kept, None, cached=True)
            answer, error = self._request(body)
            if error is None:
                self.cache.put(key, request, answer)
        return self._reply(answer, error, cached=False)

    def map(
        self, work: Callable[[Item], Result], items: Sequence[Item], description: str
    ) -> list[Result]:
        """`work` (which asks) for all items, `workers` at a time, in order, with a progress bar."""
        stopped = threading.Event()
        with ConsoleLogger().progress(description, total=len(items)) as bar:

            def one(item: Item) -> Result:
                if stopped.is_set():  # after an error nothing more is worth asking
                    raise RuntimeError("stopped by an earlier error")
                try:
                    result = work(item)
                except BaseException:
                    stopped.set()
                    raise
                with self._lock:
                    bar.advance(1)
                return result

            pool = ThreadPoolExecutor(max_workers=self.workers)
            try:
                futures = [pool.submit(one, item) for item in items]
                return [future.result() for future in futures]
            finally:
                stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)

    def _request(self, body: dict[str, Any]) -> tuple[Any, str | None]:
        try:
            answer = self.endpoint.post(body)
        except EndpointError as error:
            if error.trouble == "refused":
                raise
            if error.trouble == "too_long":
                return None, f"too long: {error}"
            return None, self._nobody(str(error), error)
        if _message(answer) is None:
            return None, self._nobody(
                f"{self.endpoint.url} gave no chat completion: {str(answer)[:200]}"
            )
        with self._lock:
            self._in_a_row = 0
        return answer, None

    def _nobody(self, message: str, cause: Exception | None = None) -> str:
        with self._lock:
            self._in_a_row += 1
            reached = self._in_a_row >= self.give_up
        if reached:
            raise UserError(
                f"{self.give_up} questions in a row got no answer; the last: {message}. What was "
                "answered is kept; mend the server and run the same command again to go on"
            ) from cause
        return message

    def _reply(self, answer: Any, error: str | None, *, cached: bool) -> Reply:
        with self._lock:
            self.counts.asked += 1
            self.counts.cached += cached
            self.counts.failed += error is not None
        if error is not None:
            return Reply(None, "error", error)
        text, reason = _message(answer) or ("", "error")
        return Reply(text, reason)


def _message(answer: Any) -> tuple[str, str] | None:
    """Text and finish reason of a chat completion; None when it does not look like one."""
    try:
        choice = answer["choices"][0]
        content = choice["message"]["content"]
    except (TypeError, KeyError, IndexError):
        return None
    if not isinstance(content, str):
        return None
    return content.strip(), "stop" if choice.get("finish_reason") == "stop" else "length"


def open_chat(
    url: str,
    model: str | None,
    cache: Path | None,
    *,
    name_flag: str,
    key_env: str | None = "OPENAI_API_KEY",
    timeout: float = 600.0,
    workers: int = 8,
) -> CachedChat:
    """A chat with the server at `url`, once it is known to be there and to have `model`.

    Without `model` the server's only model is taken. Raises :class:`UserError` that names
    `name_flag` (the option of the model's name) when the server is away, wants another key, lacks
    the model, or has several to choose from.
    """
    endpoint = ChatEndpoint(url, key_env=key_env, timeout=timeout)
    offered = endpoint.models()
    if model is None:
        if not offered:
            raise UserError(f"{url} does not list its models; give {name_flag} NAME")
        if len(offered) > 1:
            names = ", ".join(offered[:10])
            raise UserError(f"{url} has several models ({names}); choose by {name_flag}")
        model = offered[0]
    elif offered and model not in offered:
        raise UserError(
            f"{name_flag} {model}: {url} does not have it; it has {', '.join(offered[:10])}"
        )
    kept = RequestCache(cache) if cache is not None else None
    return CachedChat(endpoint, model, kept, workers=workers)
