"""Programs that evaluate: somebody's own, and the harness, whose place a stand-in takes here (test_lmeval.py has it)."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import KEY, WRONG_KEY, Runners, find
from daypass_runner.lmeval import read


def _custom(runners: Runners, script: str, **changes: Any) -> dict[str, Any]:
    return {**runners.configuration(), "framework": "Custom", "command": [sys.executable, "-c", script], **changes}


def test_a_program_of_ones_own(runners: Runners) -> None:
    script = """
import json, os
result = {
    "score": {"scorer": "s", "metric": "m", "value": 0.5, "error": 0.1, "else": 1}, "metrics": [{"metric": "m", "value": 0.5}, 7],
    "samples": {"done": 3, "total": 4}, "tokens": {"input": "many"}, "exitCode": 0, "cause": "Unknown",
}
open(os.path.join(os.environ["DAYPASS_RESULTS"], "log.txt"), "w").write(os.environ["TARGET_API_KEY"])
json.dump(result, open(os.environ["DAYPASS_RESULT_FILE"], "w"))
"""
    ended = runners.run(_custom(runners, script))
    result = ended.result
    assert ended.cause == "Succeeded", ended.output
    assert result["score"] == {"scorer": "s", "metric": "m", "value": 0.5, "error": 0.1}
    assert result["metrics"] == [{"scorer": "", "metric": "m", "value": 0.5}]
    assert result["samples"] == {"done": 3, "total": 4}
    assert "tokens" not in result
    assert result["scrubbed"] == 1
    assert find(ended.folder, KEY) == []


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("pass", "Unscored"),
        ("import os; open(os.environ['DAYPASS_RESULT_FILE'], 'w').write('{')", "Unscored"),
        ("import sys; sys.exit(13)", "DatasetUnavailable"),
        ("import os, sys; sys.exit('Error code: 401 - ' + os.environ['TARGET_API_KEY'])", "ModelAuthFailed"),
        ("import sys; sys.exit('whatever')", "Unknown"),
    ],
)
def test_how_it_may_fail(runners: Runners, script: str, cause: str) -> None:
    ended = runners.run(_custom(runners, script), TARGET_API_KEY=WRONG_KEY)
    assert ended.cause == cause, ended.output
    assert find(ended.folder, WRONG_KEY) == []


def test_a_command_that_is_not_there(runners: Runners) -> None:
    ended = runners.run(_custom(runners, "", command=["/no/such/program"]))
    assert ended.cause == "InvalidRun"


def test_sigterm_reaches_it(runners: Runners) -> None:
    script = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: exit(9)); print('here', flush=True); time.sleep(60)"
    started = runners.start(_custom(runners, script))
    started.wait_for(lambda: "here" in started.output())
    os.kill(started.process, signal.SIGTERM)
    ended = started.end()
    assert (ended.code, ended.cause) == (143, "Cancelled"), ended.output
    assert ended.seconds < 30


HARNESS = {
    "results": {
        "gsm8k": {
            "alias": "gsm8k",
            "exact_match,strict-match": 0.75,
            "exact_match_stderr,strict-match": 0.05,
            "exact_match,flexible-extract": 0.8,
            "exact_match_stderr,flexible-extract": "N/A",
        }
    },
    "n-samples": {"gsm8k": {"original": 1319, "effective": 5}},
}


def test_what_the_harness_writes() -> None:
    result = read(HARNESS)
    assert result["cause"] == "Succeeded"
    assert result["samples"] == {"done": 5, "total": 5}
    assert result["score"] == {"scorer": "gsm8k/strict-match", "metric": "exact_match", "value": 0.75, "error": 0.05}
    assert result["metrics"][1] == {"scorer": "gsm8k/flexible-extract", "metric": "exact_match", "value": 0.8}
    HARNESS_WITHOUT = {"results": {"gsm8k": {"exact_match,none": float("nan")}}}
    assert read(HARNESS_WITHOUT)["cause"] == "Unscored"


def _harness(runners: Runners, **changes: Any) -> dict[str, Any]:
    model = {"name": "openai-api/target/m", "args": {"num_concurrent": 1}, "generation": {"temperature": 0}}
    return {**runners.configuration(), "framework": "LMEval", "task": "gsm8k", "model": model, **changes}


def _stand_in(folder: Path, body: str) -> str:
    package = folder / "stand-in/lm_eval"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(body)
    return os.pathsep.join([str(folder / "stand-in"), str(Path(__file__).parents[1])])


def test_how_the_harness_is_called(runners: Runners) -> None:
    body = f"""
import json, os, sys
arguments = sys.argv[1:]
assert os.environ["OPENAI_API_KEY"] == os.environ["TARGET_API_KEY"]
assert not any(os.environ["TARGET_API_KEY"] in argument for argument in arguments)
folder = arguments[arguments.index("--output_path") + 1]
os.makedirs(folder + "/m")
json.dump({HARNESS!r}, open(folder + "/m/results_2026.json", "w"))
print(json.dumps(arguments))
"""
    path = _stand_in(runners.folder, body)
    ended = runners.run(_harness(runners, sampleLimit=5, args={"num_fewshot": 2}), PYTHONPATH=path)
    assert ended.cause == "Succeeded", ended.output
    line = next(line for line in ended.output.splitlines() if line.startswith('["run"'))
    arguments = json.loads(line)
    model_args = json.loads(arguments[arguments.index("--model_args") + 1])
    assert model_args["base_url"] == f"{runners.server.url}/v1/chat/completions"
    assert (model_args["model"], model_args["num_concurrent"], model_args["max_retries"]) == ("m", 1, 2)
    for name, value in {"--tasks": "gsm8k", "--limit": "5", "--num_fewshot": "2"}.items():
        assert arguments[arguments.index(name) + 1] == value
    assert (ended.folder / "results/nightly/1b2c/sums/results.json").is_file()


def test_how_the_harness_fails(runners: Runners) -> None:
    body = """
import os, sys
sys.exit("requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: http://m/v1?key=" + os.environ["OPENAI_API_KEY"])
"""
    path = _stand_in(runners.folder, body)
    ended = runners.run(_harness(runners), PYTHONPATH=path, TARGET_API_KEY=WRONG_KEY)
    assert ended.cause == "ModelAuthFailed", ended.output
    assert find(ended.folder, WRONG_KEY) == []
    assert runners.run(_harness(runners, args={"fewshot": 2}), PYTHONPATH=path).cause == "InvalidRun"
    assert runners.run(_harness(runners, roles={"grader": "m"}), PYTHONPATH=path).cause == "InvalidRun"
