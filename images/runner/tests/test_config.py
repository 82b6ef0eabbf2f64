"""The configuration: what is wrong is refused before anything starts, and told without being quoted."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Runners
from daypass_runner.causes import Failure
from daypass_runner.config import load, parse

GOOD = {"version": 1, "task": "inspect_evals/gsm8k", "model": {"name": "openai-api/target/m"}}


def test_the_least_and_the_most() -> None:
    assert parse(GOOD).folder == Path("/results/job/local/benchmark")
    run = parse(
        {
            **GOOD,
            "job": "nightly",
            "uid": "0f1e-2d",
            "benchmark": "gsm8k",
            "attempt": 2,
            "args": {"fewshot": 0},
            "model": {"name": "m", "args": {"timeout": 3}, "generation": {"temperature": 0}},
            "roles": {"grader": "openai-api/judge/m"},
            "refuseRoles": ["monitor"],
            "sampleLimit": 10,
            "epochs": 2,
            "retryOnError": 0,
            "failOnError": False,
            "requires": ["HF_TOKEN"],
            "secretEnv": ["HF_TOKEN"],
            "terminationGracePeriodSeconds": 30,
            "results": {"folder": "/data", "wandb": {"entity": "e", "project": "p"}},
        }
    )
    assert run.folder == Path("/data/nightly/0f1e-2d/gsm8k")
    assert (run.retry_on_error, run.fail_on_error, run.wandb) == (0, False, ("e", "p"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"version": 2}, "version"),
        ({"limit": 3}, "limit"),
        ({"model": {"name": "m", "key": "x"}}, "model.key"),
        ({"model": {"name": "m", "args": {"api_key": "x"}}}, "api_key"),
        ({"model": {"name": "m", "args": {"base-url": "x"}}}, "base-url"),
        ({"task": ""}, "task"),
        ({"sampleLimit": 0}, "sampleLimit"),
        ({"sampleLimit": True}, "sampleLimit"),
        ({"job": "../other"}, "job"),
        ({"uid": ".."}, "uid"),
        ({"benchmark": "a/b"}, "benchmark"),
        ({"requires": ["A=B"]}, "requires"),
        ({"framework": "Other"}, "framework"),
        ({"framework": "Custom"}, "command"),
        ({"roles": {"grader": "m"}, "refuseRoles": ["grader"]}, "grader"),
        ({"roles": {"grader": ""}}, "roles"),
        ({"results": {"folder": "relative"}}, "results.folder"),
        ({"results": {"wandb": {"entity": "e"}}}, "results.wandb"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(Failure, match=named) as refused:
        parse({**GOOD, **changes})
    assert refused.value.cause == "InvalidRun"


def test_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("version: 1\ntask: a\nmodel: {name: from-file}\n")
    assert load({"DAYPASS_RUN_FILE": str(file)}).model == "from-file"
    assert load({"DAYPASS_RUN_FILE": str(file), "DAYPASS_RUN": json.dumps(GOOD)}).model == "openai-api/target/m"
    file.write_text("a: [b: !!python/object/apply:os.abort []")
    for environment in ({"DAYPASS_RUN_FILE": str(file)}, {"DAYPASS_RUN_FILE": str(tmp_path / "absent")}, {"DAYPASS_RUN": "[1]"}):
        with pytest.raises(Failure):
            load(environment)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1, "unknown": 1}'])
def test_a_runner_says_so(runners: Runners, text: str) -> None:
    ended = runners.run(text)
    assert (ended.code, ended.cause) == (20, "InvalidRun")
