"""A Hugging Face Hub for tests, as far as refusals go. The data set's name says how it answers.

    org/gated     listed for all; its files are refused: 401 without a token, 403 with one
    org/missing   not there
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: Any, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        if self.command == "POST":
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "org/gated" not in self.path:
            self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        elif "/resolve/" in self.path:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            text = "Access to dataset org/gated is restricted and you are not in the authorized list."
            status = 403 if token else 401
            self._answer(status, {"error": text}, X_Error_Code="GatedRepo", X_Error_Message=text)
        elif "/paths-info/" in self.path:
            self._answer(200, [])
        elif "/tree/" in self.path:
            self._answer(200, [{"type": "file", "path": "test.jsonl", "size": 2, "oid": "0" * 40}])
        else:
            info = {"_id": "0", "id": "org/gated", "sha": _COMMIT, "private": False, "gated": "manual", "tags": []}
            times = {"lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z"}
            counts = {"downloads": 0, "likes": 0, "siblings": [{"rfilename": "test.jsonl"}], "cardData": {}}
            self._answer(200, {**info, **times, **counts})

    do_HEAD = do_POST = do_GET
