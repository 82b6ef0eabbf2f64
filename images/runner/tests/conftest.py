"""What the tests share: servers, runners, and the search for keys."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from archives import contents
from hub_server import Hub
from model_server import Server

HERE = Path(__file__).parent
TASKS = HERE / "tasks.py"
# Has what is written otherwise in JSON, in URLs and in base64.
KEY = 'sk-test+/7Qf"2vX9\\aKq81LmZ'
JUDGE_KEY = "sk-judge-5fT20xWb77Rk"
# As long as some are, so that whoever breaks lines breaks it.
WRONG_KEY = "sk-wrong/Hq3+81LzPc0d-" + "".join(f"{(i * 7919 + 104729) % 99991:05d}xQ" for i in range(22))
HUB_TOKEN = "hf_TkNs83bWq0PzLm5Xr2Yv"
WANDB_KEY = "a" * 8 + "0f3c7e9b25d1480a6b7c9e2f1d3a5b7c"


@pytest.fixture(scope="session")
def server() -> Server:
    return Server({KEY, JUDGE_KEY}, WANDB_KEY)


@pytest.fixture(scope="session")
def hub() -> Hub:
    return Hub({HUB_TOKEN})


@dataclass
class Ended:
    """What a runner has left."""

    code: int
    output: str
    message: bytes
    folder: Path
    seconds: float

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.message)

    @property
    def cause(self) -> str:
        return self.result["cause"]


@dataclass
class Started:
    """A runner at work."""

    process: int
    answers: Any
    out: Path
    message: Path
    folder: Path
    begun: float = field(default_factory=time.monotonic)
    ended: bool = False

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)

    def output(self) -> str:
        return self.out.read_text() if self.out.exists() else ""

    def end(self) -> Ended:
        code = int(self.answers.readline())
        self.ended = True
        message = self.message.read_bytes() if self.message.exists() else b""
        return Ended(code, self.output(), message, self.folder, time.monotonic() - self.begun)


class Runners:
    """Starts runners with a folder of their own."""

    def __init__(self, zygote: subprocess.Popen, server: Server, hub: Hub, folder: Path):
        self.zygote, self.server, self.hub, self.folder = zygote, server, hub, folder
        self.started: list[Started] = []

    def environment(self, **changes: str | None) -> dict[str, str]:
        values: dict[str, str | None] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(HERE.parent),
            "HOME": str(self.folder / "home"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "HF_ENDPOINT": self.hub.url,
            "TARGET_BASE_URL": f"{self.server.url}/v1",
            "TARGET_API_KEY": KEY,
            "DAYPASS_TERMINATION_LOG": str(self.folder / "message"),
            **changes,
        }
        return {name: value for name, value in values.items() if value is not None}

    def configuration(self, task: str = "sums", model: str = "right", **changes: Any) -> dict[str, Any]:
        document = {
            "version": 1,
            "job": "nightly",
            "uid": "1b2c",
            "benchmark": "sums",
            "task": task if "/" in task else f"{TASKS}@{task}",
            # The client's own tries would each wait, too.
            "model": {
                "name": f"openai-api/target/{model}",
                "args": {"max_retries": 0},
                "generation": {"max_retries": 0},
            },
            "retryOnError": 0,
            "results": {"folder": str(self.folder / "results")},
        }
        return {**document, **changes}

    def start(self, configuration: dict[str, Any] | str, **environment: str | None) -> Started:
        text = configuration if isinstance(configuration, str) else json.dumps(configuration)
        file = self.folder / "run.json"
        file.write_text(text)
        (self.folder / "message").unlink(missing_ok=True)
        (self.folder / "home").mkdir(exist_ok=True)
        out = self.folder / "out"
        out.unlink(missing_ok=True)
        request = {"env": self.environment(DAYPASS_RUN_FILE=str(file), **environment), "out": str(out)}
        assert self.zygote.stdin and self.zygote.stdout
        self.zygote.stdin.write(json.dumps(request) + "\n")
        self.zygote.stdin.flush()
        process = int(self.zygote.stdout.readline())
        self.started.append(Started(process, self.zygote.stdout, out, self.folder / "message", self.folder))
        return self.started[-1]

    def run(self, configuration: dict[str, Any] | str, **environment: str | None) -> Ended:
        ended = self.start(configuration, **environment).end()
        assert ended.message, ended.output
        assert len(ended.message) <= 4096
        assert ended.result["exitCode"] == ended.code, ended.output
        return ended


@pytest.fixture(scope="session")
def zygote(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen]:
    home = tmp_path_factory.mktemp("zygote")
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "HOME": str(home),
        "HF_HOME": str(home / "hub"),
        # Read when the library is imported.
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    process = subprocess.Popen(
        [sys.executable, str(HERE / "zygote.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    assert process.stdin
    process.stdin.close()
    assert process.wait(60) == 0


@pytest.fixture
def runners(zygote: subprocess.Popen, server: Server, hub: Hub, tmp_path: Path) -> Iterator[Runners]:
    server.calls.clear()
    server.seen_keys.clear()
    server.mended = False
    runners = Runners(zygote, server, hub, tmp_path)
    yield runners
    for started in runners.started:
        if not started.ended:
            # Its test has failed; the next one needs the zygote.
            os.kill(started.process, signal.SIGKILL)
            started.end()


def find(folder: Path, key: str) -> list[str]:
    """Where a key stands, in whatever form."""
    forms = {key, json.dumps(key)[1:-1], urllib.parse.quote(key, safe=""), urllib.parse.quote(key), key.encode().hex()}
    forms |= {json.dumps(form)[1:-1] for form in forms}
    needles = [form.encode() for form in forms]
    for before in ("", "x", "xy"):
        # The middle of it, whatever its neighbours are.
        middle = base64.b64encode((before + key).encode()).decode().rstrip("=")[4:-2]
        needles += [middle.encode(), middle.replace("+", "-").replace("/", "_").encode()]
    # Of a long key, a part is too much already: lines are broken, texts are cut.
    needles += [key[at : at + 24].encode() for at in range(0, len(key) - 24, 24)]
    return [name for name, data in contents(folder) if any(needle in data for needle in needles)]
