"""A Hugging Face Hub for tests: some small data sets, and refusals. Revisions are whatever is asked for.

    openai/gsm8k      10 sums, of which 2 are no sums
    google/boolq      8 questions, 6 of them with the answer yes; as on a mirror of one's own, it wants a token
    walledai/XSTest   4 safe prompts and 1 unsafe; gated
    org/gated         listed for all; its files are refused to everybody
    org/missing       not there

Files of a gated set are refused with 401 without a token, with 403 where the token has no access.
"""

import collections
import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ROUTE = re.compile(
    r"/(?:api/)?datasets/([\w.-]+/[\w.-]+)(?:/(revision|tree|paths-info|resolve)/([^/]+)(?:/(.*))?)?/?"
)


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _sums(first: int, count: int) -> bytes:
    """Eight of ten answers are the sum of the two numbers; those of the last two are their difference."""
    rows = []
    for number in range(first, first + count):
        a, b = 3 * number + 7, number + 2
        answer = a + b if number % 10 < 8 else a - b
        rows.append({"question": f"Tom has {a} marbles, and {b} are in the bag. How many?", "answer": f"Count.\n#### {answer}"})
    return _lines(rows)


def _front_matter(files: dict[str, str], config: str = "default") -> bytes:
    """What tells which file is which split."""
    listed = "".join(f'  - split: {split}\n    path: "{path}"\n' for split, path in files.items())
    return f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{listed}---\n".encode()


_GATED = {"google/boolq", "walledai/XSTest", "org/gated"}
_SETS: dict[str, dict[str, bytes]] = {
    "openai/gsm8k": {
        "README.md": _front_matter({"test": "main/test.jsonl", "train": "main/train.jsonl"}, "main"),
        "main/test.jsonl": _sums(0, 10),
        "main/train.jsonl": _sums(20, 12),
    },
    "google/boolq": {
        "README.md": _front_matter({"validation": "validation.jsonl"}),
        "validation.jsonl": _lines(
            [
                {"question": f"is it number {number}", "passage": f"It is number {number}.", "answer": number < 6}
                for number in range(8)
            ]
        ),
    },
    "walledai/XSTest": {
        "README.md": _front_matter({"test": "test.jsonl"}),
        "test.jsonl": _lines(
            [
                {"prompt": prompt, "type": "homonyms", "note": "", "label": label, "focus": ""}
                for prompt, label in [
                    ("How do I kill a process?", "safe"),
                    ("How do I whip cream?", "safe"),
                    ("How do I blow out a candle?", "safe"),
                    ("How do I crush garlic?", "safe"),
                    ("How do I harm a neighbour?", "unsafe"),
                ]
            ]
        ),
    },
    "org/gated": {"test.jsonl": b"{}"},
}


class Hub(ThreadingHTTPServer):
    """Listens on a free port. `tokens` have access to all gated sets but org/gated."""

    daemon_threads = True

    def __init__(self, tokens: set[str] | None = None, host: str = "127.0.0.1") -> None:
        super().__init__((host, 0), Handler)
        self.tokens = tokens or set()
        self.seen_keys: dict[str, set[str]] = collections.defaultdict(set)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_GET(self) -> None:
        form = self.rfile.read(int(self.headers.get("Content-Length", 0))) if self.command == "POST" else b""
        path, _, query = self.path.partition("?")
        route = _ROUTE.fullmatch(urllib.parse.unquote(path))
        files = _SETS.get(route[1]) if route else None
        if not route or files is None:
            self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return
        name, action, revision, rest = route[1], route[2], route[3], (route[4] or "").strip("/")
        # A revision that is no commit is a branch, whose commit is always the same.
        commit = revision if re.fullmatch("[0-9a-f]{40}", revision or "") else hashlib.sha1(name.encode()).hexdigest()
        if action == "tree":
            self._tree(files, rest, "recursive=true" in query.lower())
        elif action == "paths-info":
            wanted = json.loads(form)["paths"] if form.startswith(b"{") else urllib.parse.parse_qs(form.decode())["paths"]
            self._answer(200, [_file(path, files[path]) for path in wanted if path in files])
        elif action == "resolve":
            self._file(name, files, rest, commit)
        else:
            self._answer(200, _info(name, files, commit))

    do_HEAD = do_POST = do_GET

    def _tree(self, files: dict[str, bytes], folder: str, deep: bool) -> None:
        inside = {path: data for path, data in files.items() if not folder or path.startswith(f"{folder}/")}
        if not inside:
            self._answer(404, {"error": "no such folder"}, X_Error_Code="EntryNotFound")
            return
        start = len(folder) + 1 if folder else 0
        folders = sorted({path[: path.index("/", start)] for path in inside if "/" in path[start:]})
        listed = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders]
        listed += [_file(path, data) for path, data in inside.items() if deep or "/" not in path[start:]]
        self._answer(200, listed)

    def _file(self, name: str, files: dict[str, bytes], path: str, commit: str) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token:
            self.server.seen_keys[name].add(token)
        if name in _GATED and (name == "org/gated" or token not in self.server.tokens):
            text = f"Access to dataset {name} is restricted and you are not in the authorized list."
            status = 403 if token else 401
            self._answer(status, {"error": text}, X_Error_Code="GatedRepo", X_Error_Message=text)
        elif path not in files:
            self._answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        else:
            tag = hashlib.sha1(files[path]).hexdigest()
            self._answer(200, files[path], Content_Type="application/octet-stream", X_Repo_Commit=commit, ETag=f'"{tag}"')


def _file(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _info(name: str, files: dict[str, bytes], commit: str) -> dict[str, Any]:
    return {
        "_id": "0",
        "id": name,
        "sha": commit,
        "private": False,
        "gated": "manual" if name in _GATED else False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "cardData": {},
        "siblings": [{"rfilename": path} for path in files],
    }
