"""Real runs of Inspect, against a model server that checks keys."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from conftest import HUB_TOKEN, JUDGE_KEY, KEY, TASKS, WRONG_KEY, Runners, find
from daypass_runner.causes import CODES


def test_scores_samples_and_tokens(runners: Runners) -> None:
    ended = runners.run(runners.configuration())
    result = ended.result
    assert ended.cause == "Succeeded", ended.output
    assert result["score"] == {"scorer": "match", "metric": "accuracy", "value": 0.8, "error": pytest.approx(0.1333, abs=1e-4)}
    assert result["metrics"] == [result["score"]]
    assert result["samples"] == {"done": 10, "total": 10}
    assert result["tokens"] == {"input": 100, "output": 20}
    assert runners.server.seen_keys["right"] == {KEY}
    folder = ended.folder / "results/nightly/1b2c/sums"
    assert (folder / result["log"]).is_file()
    assert json.loads((folder / "result.json").read_bytes()) == result
    lines = [line for line in ended.output.splitlines() if line.startswith("daypass-progress ")]
    assert json.loads(lines[-1].partition(" ")[2]) == {"phase": "Running", "done": 10, "total": 10}
    assert find(ended.folder, KEY) == []


@pytest.mark.parametrize(
    ("model", "cause", "retry_after"),
    [
        ("forbidden", "ModelAuthFailed", None),
        ("busy", "ModelRateLimited", 7),
        ("gone", "ModelNotFound", None),
        ("broken", "ModelUnavailable", None),
        ("half-json", "ModelUnavailable", None),
    ],
)
def test_what_the_server_says_is_the_cause(runners: Runners, model: str, cause: str, retry_after: int | None) -> None:
    ended = runners.run(runners.configuration(model=model))
    assert ended.cause == cause, ended.output
    assert ended.result["message"]
    assert ended.result.get("retryAfterSeconds") == retry_after
    assert ended.result["samples"] == {"done": 0, "total": 10}


@pytest.mark.parametrize(("model", "cause"), [("echo-key", "ModelAuthFailed"), ("echo-key-400", "SamplesFailed")])
def test_a_key_that_comes_back_surfaces_nowhere(runners: Runners, model: str, cause: str) -> None:
    ended = runners.run(runners.configuration(model=model), TARGET_API_KEY=WRONG_KEY)
    assert ended.cause == cause, ended.output
    assert runners.server.seen_keys[model] == {WRONG_KEY}
    assert ended.result["scrubbed"] >= 1
    assert "[secret]" in ended.result["message"]
    assert find(ended.folder, WRONG_KEY) == []
    # Still a log.
    from inspect_ai.log import read_eval_log

    (log,) = (ended.folder / "results").rglob("*.eval")
    error = read_eval_log(str(log)).error
    assert error
    assert "[secret]" in error.message


def test_a_short_wait_is_no_failure(runners: Runners) -> None:
    configuration = runners.configuration(model="busy-2")
    configuration["model"]["args"]["max_retries"] = 3
    assert runners.run(configuration).cause == "Succeeded"


def test_judge_has_its_own_server_and_key(runners: Runners) -> None:
    judge = {"JUDGE_BASE_URL": f"{runners.server.url}/v1"}
    configuration = runners.configuration("judged", roles={"grader": "openai-api/judge/grade"})
    ended = runners.run(configuration, JUDGE_API_KEY=JUDGE_KEY, **judge)
    assert ended.cause == "Succeeded", ended.output
    assert runners.server.seen_keys == {"right": {KEY}, "grade": {JUDGE_KEY}}
    ended = runners.run({**configuration, "benchmark": "other"}, JUDGE_API_KEY=WRONG_KEY, **judge)
    assert ended.cause == "JudgeAuthFailed", ended.output


def test_nobody_grades_itself(runners: Runners) -> None:
    ended = runners.run(runners.configuration("judged", refuseRoles=["grader"]))
    assert ended.cause == "SelfGrading", ended.output


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"task": "nothing"}, "UnknownTask"),
        ({"task": "inspect_evals/nothing"}, "UnknownTask"),
        ({"task": "unscored"}, "Unscored"),
        ({"task": "failing"}, "SamplesFailed"),
        ({"task": "leaving"}, "Unknown"),
        ({"task": "needs_package"}, "PackageMissing"),
        ({"args": {"cuont": 3}}, "InvalidRun"),
        ({"model": {"name": "nobody/model"}}, "InvalidRun"),
        ({"model": {"name": "openai-api/target/right", "generation": {"temprature": 1}}}, "InvalidRun"),
        ({"model": {"name": "openai-api/target/right", "generation": {"temperature": "x"}}}, "InvalidRun"),
        ({"model": {"name": "right"}}, "InvalidRun"),
        ({"model": {"name": "openai-api/other/right"}}, "EnvMissing"),
        ({"requires": ["HF_TOKEN"]}, "EnvMissing"),
    ],
)
def test_what_cannot_run(runners: Runners, changes: dict[str, Any], cause: str) -> None:
    others = {name: value for name, value in changes.items() if name != "task"}
    ended = runners.run({**runners.configuration(changes.get("task", "sums")), **others})
    assert ended.cause == cause, ended.output
    assert ended.result["message"]


@pytest.mark.parametrize(
    ("dataset", "token", "cause"),
    [
        ("org/gated", None, "DatasetAccessDenied"),
        ("org/gated", "hf_somebody_else", "DatasetAccessDenied"),
        ("org/missing", None, "DatasetMissing"),
    ],
)
def test_data_sets(runners: Runners, dataset: str, token: str | None, cause: str) -> None:
    ended = runners.run(runners.configuration("from_hub", args={"path": dataset}), HF_TOKEN=token)
    assert ended.cause == cause, ended.output
    assert not runners.server.calls
    if token:
        assert find(ended.folder, token) == []


@pytest.mark.parametrize(
    ("task", "args", "metric", "value", "samples"),
    [
        ("gsm8k", {}, "accuracy", 0.8, 10),
        ("boolq", {}, "accuracy", 0.75, 8),
        ("xstest", {"scorer_model": "openai-api/judge/grade"}, "refusal_rate", 25, 4),
    ],
)
def test_benchmarks_of_the_catalog(
    runners: Runners, task: str, args: dict[str, Any], metric: str, value: float, samples: int
) -> None:
    judge = {"JUDGE_BASE_URL": f"{runners.server.url}/v1", "JUDGE_API_KEY": JUDGE_KEY}
    ended = runners.run(runners.configuration(f"inspect_evals/{task}", args=args), HF_TOKEN=HUB_TOKEN, **judge)
    assert ended.cause == "Succeeded", ended.output
    score = ended.result["score"]
    assert (score["metric"], score["value"]) == (metric, value)
    assert ended.result["samples"] == {"done": samples, "total": samples}
    assert [name for key in (KEY, JUDGE_KEY, HUB_TOKEN) for name in find(ended.folder, key)] == []


def test_an_attempt_goes_on_where_the_last_one_ended(runners: Runners) -> None:
    configuration = runners.configuration(model="fails-7")
    configuration["model"]["generation"]["max_connections"] = 1
    first = runners.run(configuration)
    assert first.cause == "ModelUnavailable", first.output
    done = first.result["samples"]["done"]
    asked = runners.server.calls["fails-7"]
    assert 0 < done < 10
    runners.server.mended = True
    second = runners.run({**configuration, "attempt": 2})
    assert second.cause == "Succeeded", second.output
    assert second.result["samples"] == {"done": 10, "total": 10}
    assert second.result["score"]["value"] == 0.8
    assert runners.server.calls["fails-7"] - asked == 10 - done
    # And where all was done, nobody is asked anything.
    asked = runners.server.calls["fails-7"]
    third = runners.run({**configuration, "attempt": 3})
    assert third.result["score"] == second.result["score"]
    assert runners.server.calls["fails-7"] == asked


def test_another_evaluation_does_not_take_what_it_finds(runners: Runners) -> None:
    runners.run(runners.configuration())
    ended = runners.run(runners.configuration(model="wrong"))
    assert ended.result["score"]["value"] == 0
    ended = runners.run(runners.configuration(model="wrong", sampleLimit=3))
    assert ended.result["samples"] == {"done": 3, "total": 3}


def test_a_killed_attempt_leaves_what_it_had(runners: Runners) -> None:
    configuration = runners.configuration(model="slow-0.5")
    configuration["model"]["generation"]["max_connections"] = 1
    started = runners.start(configuration)
    started.wait_for(lambda: runners.server.calls["slow-0.5"] > 3)
    os.kill(started.process, signal.SIGKILL)
    ended = started.end()
    assert ended.code == -signal.SIGKILL
    assert ended.cause == "Unknown"
    assert ended.result["samples"]["total"] == 10
    asked = runners.server.calls["slow-0.5"]
    ended = runners.run({**configuration, "attempt": 2})
    assert ended.cause == "Succeeded", ended.output
    assert runners.server.calls["slow-0.5"] - asked < 10


def test_sigterm_ends_it_with_what_is_known(runners: Runners) -> None:
    configuration = runners.configuration(model="slow-0.5")
    configuration["model"]["generation"]["max_connections"] = 1
    started = runners.start(configuration)
    started.wait_for(lambda: runners.server.calls["slow-0.5"] > 3)
    os.kill(started.process, signal.SIGTERM)
    ended = started.end()
    assert (ended.code, ended.cause) == (143, "Cancelled"), ended.output
    assert 1 <= ended.result["samples"]["done"] < 10
    assert ended.result["samples"]["total"] == 10
    assert find(ended.folder, KEY) == []


def test_sigterm_ends_it_while_nothing_moves(runners: Runners) -> None:
    """The grace period's end is watched, whatever a library does with the interruption."""
    started = runners.start(runners.configuration("stubborn", terminationGracePeriodSeconds=2))
    started.wait_for(lambda: "stubborn: here" in started.output())
    os.kill(started.process, signal.SIGTERM)
    ended = started.end()
    assert (ended.code, ended.cause) == (143, "Cancelled"), ended.output


def test_the_module_is_what_the_image_starts(runners: Runners) -> None:
    """From nothing, as process 1 would be; the configuration is YAML."""
    text = f"version: 1\ntask: {TASKS}@sums\nmodel: {{name: openai-api/target/right}}\nsampleLimit: 2\n"
    text += f"results: {{folder: {runners.folder}/results}}\n"
    environment = runners.environment(DAYPASS_RUN=text)
    done = subprocess.run([sys.executable, "-m", "daypass_runner"], env=environment, check=False)
    assert done.returncode == CODES["Succeeded"]
    assert json.loads((runners.folder / "message").read_bytes())["samples"] == {"done": 2, "total": 2}


def test_a_benchmark_whose_data_came_with_its_package(runners: Runners) -> None:
    """No Hub and no judge; its solver hands tools to the model, which answers in words."""
    task = "inspect_evals/agent_threat_bench_memory_poison"
    ended = runners.run({**runners.configuration(), "task": task, "sampleLimit": 2})
    assert ended.cause == "Succeeded", ended.output
    assert ended.result["samples"] == {"done": 2, "total": 2}
    assert ended.result["score"]["value"] is not None
    assert runners.server.seen_keys["right"] == {KEY}
