"""One request to an OpenAI-compatible chat server, repeated while the trouble may pass."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any, Literal

from irl_align.core.errors import UserError

__all__ = ["ChatEndpoint", "EndpointError"]

_PASSING = (408, 409, 425, 429, 500, 502, 503, 504)
_PATH = "/chat/completions"

Trouble = Literal["unavailable", "too_long", "refused"]


class EndpointError(UserError):
    """A request that got no answer.

    Attributes:
        trouble: "unavailable" (overloaded, broken or away after all tries), "too_long" (the
            request does not fit the model's context) or "refused" (any other no).
    """

    def __init__(self, message: str, trouble: Trouble) -> None:
        super().__init__(message)
        self.trouble: Trouble = trouble


class ChatEndpoint:
    """The server at `url`: its base (".../v1") or the full address of chat completions.

    Time-outs, lost connections, answers that are cut off and the statuses that say "later" are
    tried `tries` times in all, 1, 2, 4, ... seconds apart and never more than `cap` seconds; a
    server's own Retry-After (seconds) takes the place of the pause, under the same cap. The key
    comes from the environment variable `key_env` (None: no key), is sent as a bearer token and kept
    nowhere. Thread-safe.
    """

    def __init__(
        self,
        url: str,
        *,
        key_env: str | None = "OPENAI_API_KEY",
        timeout: float = 600.0,
        tries: int = 5,
        cap: float = 30.0,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"{url!r} is no address of a server; give a base URL such as http://HOST:8000/v1"
            )
        if parts.username or parts.password or parts.query:
            # Addresses are written into results: a key in one would be, too.
            raise UserError(
                f"the address of {parts.hostname} holds a user name, password or query; give the "
                f"plain URL, and keys by the environment ({key_env or 'OPENAI_API_KEY'})"
            )
        base = url.rstrip("/").removesuffix(_PATH)
        self.base, self.url = base, base + _PATH
        self.key_env, self.timeout, self.tries, self.cap = key_env, timeout, tries, cap

    def post(self, body: Mapping[str, Any]) -> Any:
        """The JSON of the answer to a chat completion request. Raises :class:`EndpointError`."""
        return self._send(self.url, json.dumps(body).encode())

    def models(self) -> list[str] | None:
        """Names of the models that the server offers; None when it does not tell.

        Raises :class:`EndpointError` when the server is away or wants another key.
        """
        try:
            answer = self._send(f"{self.base}/models", None, tries=2)
        except EndpointError as error:
            if error.trouble == "refused" and isinstance(error.__cause__, urllib.error.HTTPError):
                if error.__cause__.code in (401, 403):
                    raise
                return None
            raise
        try:
            return [str(model["id"]) for model in answer["data"]]
        except (TypeError, KeyError):
            return None

    def _send(self, url: str, data: bytes | None, tries: int | None = None) -> Any:
        headers = {"Content-Type": "application/json"}
        key = self._key()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        last = (tries or self.tries) - 1
        for attempt in range(last + 1):
            pause = 2.0**attempt
            try:
                request = urllib.request.Request(url, data=data, headers=headers)
                with urllib.request.urlopen(request, timeout=self.timeout) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                detail = _detail(error)
                if key:
                    detail = detail.replace(key, "***")  # some servers repeat it
                if error.code == 400 and "context length" in detail:
                    raise EndpointError(detail, "too_long") from error
                if error.code not in _PASSING or attempt == last:
                    raise EndpointError(
                        f"{url} answered {error.code}: {detail}",
                        "unavailable" if error.code in _PASSING else "refused",
                    ) from error
                pause = _asked_pause(error, pause)
            # A cut connection is an OSError or an HTTPException, a cut body bad JSON.
            except (OSError, http.client.HTTPException, ValueError) as error:
                if attempt == last:
                    raise EndpointError(
                        f"{url} cannot be reached ({error}); is the server running?", "unavailable"
                    ) from error
            time.sleep(min(pause, self.cap))
        raise AssertionError("unreachable")

    def _key(self) -> str:
        key = os.environ.get(self.key_env, "").strip() if self.key_env else ""
        if not (key.isascii() and key.isprintable()):
            # The HTTP library would refuse it with a message that shows it.
            raise UserError(f"the environment variable {self.key_env} holds no key: odd characters")
        return key


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return error.read().decode("utf-8", "replace")[:300]
    except (OSError, http.client.HTTPException):
        return str(error.reason)


def _asked_pause(error: urllib.error.HTTPError, otherwise: float) -> float:
    """Seconds of a Retry-After header; dates and nonsense are not followed."""
    try:
        return max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return otherwise
