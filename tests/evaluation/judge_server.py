"""A chat server that answers as it is told, in a thread (or, run as a program, in a process)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# (body, number of the request) -> (status, content); content that is bytes is sent as it stands.
Answer = Callable[[dict[str, Any], int], tuple[int, Any]]
SLOW = object()  # as content: no answer for a while, so that the client gives up waiting


def chat(text: str | None, reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": reason}]}


class JudgeServer:
    """Answers what `answer` says and keeps the requests."""

    def __init__(self, answer: Answer | None = None, models: tuple[str, ...] = ("judge",)) -> None:
        self.answer: Answer = answer or (lambda body, number: (200, chat("Fine.\n[[7]]")))
        self.models = models
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if outer.models:
                    self._send(200, {"data": [{"id": name} for name in outer.models]})
                else:
                    self._send(404, {})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.requests.append(body)
                    outer.headers.append(dict(self.headers))
                    number = len(outer.requests)
                self._send(*outer.answer(body, number))

            def _send(self, status: int, content: Any) -> None:
                if content is SLOW:
                    threading.Event().wait(1.0)  # tests take the place of time.sleep
                    content = {}
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client is gone already

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()
