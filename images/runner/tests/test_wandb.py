"""W&B: asked before the run, told after it, and never in the way of the score."""

import json
import subprocess
import sys
from typing import Any

import pytest

from conftest import WANDB_KEY, WRONG_KEY, Runners, contents, find
from daypass_runner.report import metric


def _configuration(runners: Runners, **changes: str) -> dict[str, Any]:
    configuration = runners.configuration(sampleLimit=2)
    configuration["results"]["wandb"] = {"entity": "our-team", "project": "evaluations", **changes}
    return configuration


@pytest.mark.parametrize(
    ("changes", "key", "cause"),
    [
        ({}, None, "EnvMissing"),
        ({}, WRONG_KEY, "ResultsDenied"),
        ({"entity": "another-team"}, WANDB_KEY, "ResultsDenied"),
        ({"project": "a/b"}, WANDB_KEY, "ResultsDenied"),
    ],
)
def test_what_cannot_be_stored_is_not_started(
    runners: Runners, changes: dict[str, str], key: str | None, cause: str
) -> None:
    ended = runners.run(_configuration(runners, **changes), WANDB_API_KEY=key, WANDB_BASE_URL=runners.server.url)
    assert ended.cause == cause, ended.output
    assert not runners.server.calls


def test_a_server_that_is_not_there_may_come_back(runners: Runners) -> None:
    ended = runners.run(_configuration(runners), WANDB_API_KEY=WANDB_KEY, WANDB_BASE_URL="http://127.0.0.1:9")
    assert ended.cause == "ResultsNotStored"
    assert not runners.server.calls


def test_a_failed_upload_does_not_lose_the_score(runners: Runners) -> None:
    """The server knows the key, and nothing of runs: what the client of W&B sends next fails."""
    environment = {"WANDB_API_KEY": WANDB_KEY, "WANDB_BASE_URL": runners.server.url}
    ended = runners.run(_configuration(runners), **environment)
    assert ended.cause == "ResultsNotStored", ended.output
    assert ended.result["score"]["value"] == 1
    assert ended.result["samples"] == {"done": 2, "total": 2}
    assert find(ended.folder, WANDB_KEY) == []
    # The next attempt evaluates nothing again.
    asked = runners.server.calls["right"]
    again = runners.run(_configuration(runners), **environment)
    assert again.result["score"] == ended.result["score"]
    assert runners.server.calls["right"] == asked


def test_what_is_uploaded(runners: Runners) -> None:
    """The client of W&B without its server: it writes into a file what it would send."""
    (runners.folder / "home").mkdir()
    row = metric("match", "accuracy", 0.8, 0.1)
    result = {"task": "gsm8k", "score": row, "metrics": [row], "samples": {"done": 1, "total": 1}, "durationSeconds": 1}
    environment = runners.environment(WANDB_API_KEY=WANDB_KEY, WANDB_MODE="offline", TMPDIR=str(runners.folder))
    subprocess.run(
        [sys.executable, "-m", "daypass_runner.wandb_upload", "our-team", "evaluations"],
        input=json.dumps({"name": "gsm8k", "group": "nightly", "id": "a-gsm8k", "result": result}).encode(),
        env=environment,
        check=True,
    )
    written = b"".join(data for name, data in contents(runners.folder) if name.endswith(".wandb"))
    for text in (b"match/accuracy", b"match/accuracy_error", b"samples/done", b"our-team", b"evaluations", b"a-gsm8k"):
        assert text in written
    assert find(runners.folder, WANDB_KEY) == []
