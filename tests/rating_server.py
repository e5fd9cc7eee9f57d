"""A model's address for tests of raters: a real server on this machine that does what it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prill.features.rater.spec import EndpointRaterSpec


@dataclass
class Reply:
    """What one request gets: after `wait_s`, a status, and an answer or other content."""

    text: str = ""
    status: int = 200
    wait_s: float = 0.0
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: int = 1
    slow_head: bool = False


class RatingServer:
    """Answers with `answer(document)`, but first with what stands in `script`."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer
        self.script: list[Reply] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.keys.append(self.headers.get("Authorization", ""))
                outer._serve(self, body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def _serve(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        with self._lock:
            self.requests.append(body)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            reply = self.script.pop(0) if self.script else None
        try:
            if reply is None:
                reply = Reply(self.answer(body["messages"][1]["content"]))
            time.sleep(reply.wait_s)
            self._send(handler, reply)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who asked has given up
        finally:
            with self._lock:
                self._now -= 1

    def _send(self, handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        said = {
            "choices": [{"message": {"content": reply.text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 5},
        }
        content = json.dumps(said).encode() if reply.content is None else reply.content
        if reply.slow_head:
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 100:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(0.05)
        handler.send_response(reply.status)
        length = {"Content-Length": str(len(content))}
        for name, value in (length | reply.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        step = max(1, len(content) // reply.pieces)
        for start in range(0, len(content), step):
            handler.wfile.write(content[start : start + step])
            handler.wfile.flush()
            if reply.pieces > 1:
                time.sleep(0.05)

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def spec(self, **changes: Any) -> EndpointRaterSpec:
        """A rater that asks this server; `changes` of the endpoint and of the rater alike."""
        own = {"max_requests", "max_tokens", "n_parallel"}
        address = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        endpoint = {k: v for k, v in changes.items() if k not in own}
        return EndpointRaterSpec.model_validate(
            {
                "endpoint": {"base_url": address, "model": "m", "max_answer_tokens": 64, **endpoint},
                **{k: v for k, v in changes.items() if k in own},
            }
        )


def dataman_answer(domain: str = "D", grades: Sequence[int] = (4,) * 14) -> str:
    """An answer to DataMan's rubric."""
    return "\n".join([domain, *map(str, grades)])
