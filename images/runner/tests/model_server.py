"""A model server for tests that speaks OpenAI's chat API and W&B's first question. The model's name says how it behaves.

    right         the sum of the last two numbers of the question
    wrong         something else
    echo-key      401, with the key in the answer
    echo-key-400  400, with the key in the answer, written in base64
    forbidden     403
    busy          429 for ever, with Retry-After: 7
    busy-N        429 for the first N calls, then `right`
    later-N       429 for the first N calls, with Retry-After: 15, then `right`
    slow-N        N seconds, then `right`
    fails-N       `right`, but 500 for questions that hold the number N until /mend is asked
    gone          404
    broken        500
    half-json     half a document

What has another name is `right`: it says yes to whatever asks for yes or no, and as a judge it finds everything right but
what is about killing. GET /stats tells how often each model was asked, and the SHA-256 of the
keys that it was asked with.
"""

import base64
import collections
import hashlib
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Listens on a free port."""

    daemon_threads = True

    def __init__(self, keys: set[str], wandb_key: str = "", host: str = "127.0.0.1"):
        super().__init__((host, 0), Handler)
        self.keys = keys
        self.wandb_key = wandb_key
        self.mended = False
        self.calls: collections.Counter[str] = collections.Counter()
        self.seen_keys: dict[str, set[str]] = collections.defaultdict(set)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/graphql":
            self._graphql(json.loads(data).get("query", ""))
        elif self.path == "/v1/chat/completions":
            self._chat(json.loads(data))
        else:
            self._answer(404, {})

    def do_GET(self) -> None:
        if self.path != "/stats":
            self._answer(404, {})
            return
        seen = {
            model: sorted(hashlib.sha256(key.encode()).hexdigest() for key in list(keys))
            for model, keys in list(self.server.seen_keys.items())
        }
        self._answer(200, {"calls": dict(self.server.calls), "keys": seen})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _error(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        self._answer(status, {"error": {"message": text, "type": "error", "code": None}}, headers)

    def _graphql(self, query: str) -> None:
        expected = base64.b64encode(f"api:{self.server.wandb_key}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self._error(401, "no")
        elif not query.startswith("query Viewer { viewer { username entity"):
            # What W&B's own client asks, to make a run.
            self._error(403, "no")
        else:
            teams = {"edges": [{"node": {"name": "our-team"}}]}
            self._answer(200, {"data": {"viewer": {"username": "somebody", "entity": "our-team", "teams": teams}}})

    def _chat(self, body: dict[str, Any]) -> None:
        model = body.get("model", "")
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.calls[model] += 1
        self.server.seen_keys[model].add(key)
        question = " ".join(str(message.get("content")) for message in body.get("messages", []))
        kind, _, number = model.partition("-")
        if model == "echo-key":
            self._error(401, f"Incorrect API key provided: {key}.")
        elif model == "echo-key-400":
            self._error(400, "Bad header: " + base64.b64encode(f"Bearer {key}".encode()).decode())
        elif key not in self.server.keys:
            self._error(401, "Incorrect API key provided.")
        elif model == "forbidden":
            self._error(403, "This key may not use the model.")
        elif model == "busy" or (kind == "busy" and self.server.calls[model] <= int(number)):
            self._error(429, "Rate limit reached.", {"Retry-After": "7" if model == "busy" else "0.1"})
        elif kind == "later" and self.server.calls[model] <= int(number):
            self._error(429, "Rate limit reached.", {"Retry-After": "15"})
        elif model == "gone":
            self._error(404, "The model does not exist.")
        elif model == "broken" or (kind == "fails" and not self.server.mended and re.search(rf"\b{number}\b", question)):
            self._error(500, "internal error")
        elif model == "half-json":
            self._answer(200, b'{"id": "x", "choices": [')
        else:
            if kind == "slow":
                time.sleep(float(number))
            self._answer(200, _completion(model, question))


def _completion(model: str, question: str) -> dict[str, Any]:
    numbers = [int(number) for number in re.findall(r"\b\d+\b", question)]
    if model == "wrong":
        text = "I do not know."
    elif "[BEGIN DATA]" in question:
        text = "GRADE: I" if "kill" in question.partition("[BEGIN DATA]")[2] else "GRADE: C"
    else:
        text = "Yes" if "either Yes or No" in question else str(sum(numbers[-2:]))
    return {
        "id": "completion",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
