"""A model's address for tests: a server that answers every question with its text in lower case."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prill.features.asking.endpoint import EndpointSpec


class Server:
    """Answers every question with its text in lower case; `script` holds statuses to send first."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], str]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                outer.keys.append(self.headers.get("Authorization", ""))
                text = body["messages"][1]["content"].lower()
                usage = {"prompt_tokens": 7, "completion_tokens": 3}
                answer = {
                    "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
                    "usage": usage,
                }
                status, headers, content = (
                    outer.script.pop(0) if outer.script else (200, {}, json.dumps(answer))
                )
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content.encode())

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

    def spec(self, **changes: Any) -> EndpointSpec:
        port = self.http.server_address[1]
        return EndpointSpec(**{"base_url": f"http://127.0.0.1:{port}/v1", "model": "m", **changes})
