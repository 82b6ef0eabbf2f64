"""W&B: asked before the run, told after it, and never in the way of the score."""

from typing import Any

import pytest

from conftest import WANDB_KEY, WRONG_KEY, Runners, find


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
