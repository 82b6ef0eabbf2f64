"""Runs a task of the LM Evaluation Harness, against a server that speaks OpenAI's chat API."""

import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from daypass_runner import child
from daypass_runner.causes import Failure, classify, sentence
from daypass_runner.config import Run
from daypass_runner.progress import Progress
from daypass_runner.report import metric
from daypass_runner.scrub import Scrubber
from daypass_runner.stop import Stop

# The same name of a model as with Inspect; the server's address and key are TARGET_BASE_URL and TARGET_API_KEY there too.
_TARGET = "openai-api/target/"
_MODEL_ARGS: dict[str, Any] = {"max_retries": 2, "num_concurrent": 4, "tokenized_requests": False}


def evaluate(run: Run, progress: Progress, scrubber: Scrubber, stop: Stop) -> dict[str, Any]:
    """Calls the harness, and reads the file in which it leaves its results."""
    if not run.model.startswith(_TARGET):
        raise Failure("InvalidRun", f"model.name must begin with {_TARGET} for LMEval")
    if run.roles or run.refuse_roles or run.epochs not in (None, 1):
        raise Failure("InvalidRun", "LMEval knows no roles and no epochs")
    for name in ("TARGET_BASE_URL", "TARGET_API_KEY"):
        if not os.environ.get(name):
            raise Failure("EnvMissing", f"not set, or empty: {name}")
    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.folder) as output:
        # The harness sends this variable's key to whatever server it is told to ask.
        environment = child.environment_for(OPENAI_API_KEY=os.environ["TARGET_API_KEY"])
        progress.phase("Running", run.sample_limit)
        code, errors = child.call(command(run, output), environment, stop)
        files = sorted(Path(output).rglob("results_*.json"))
        if code == 0 and files:
            document = json.loads(files[-1].read_bytes())
            files[-1].replace(run.folder / "results.json")
            return read(document)
    if stop.asked:
        return {"cause": "Cancelled"}
    text = scrubber.text(errors)
    return {"cause": classify(text), "message": sentence(_last_line(text) or f"exit code {code}")}


def command(run: Run, output: str) -> list[str]:
    """The call of the harness: one argument a word, none of them a key."""
    base = os.environ["TARGET_BASE_URL"].rstrip("/")
    model_args = {
        **_MODEL_ARGS,
        **run.model_args,
        "model": run.model.removeprefix(_TARGET),
        "base_url": f"{base}/chat/completions",
    }
    words = [sys.executable, "-m", "lm_eval", "run", "--model", "local-chat-completions"]
    words += ["--model_args", json.dumps(model_args), "--tasks", run.task, "--apply_chat_template"]
    words += ["--output_path", output]
    if run.generation:
        words += ["--gen_kwargs", json.dumps(run.generation)]
    if run.sample_limit:
        words += ["--limit", str(run.sample_limit)]
    allowed = {"num_fewshot": int, "fewshot_as_multiturn": bool, "include_path": str, "system_instruction": str}
    for name, value in sorted(run.args.items()):
        if name not in allowed or type(value) is not allowed[name]:
            raise Failure("InvalidRun", f"the task has no argument {name}, or not of that type")
        words += [f"--{name}"] if value is True else [] if value is False else [f"--{name}", str(value)]
    return words


def read(document: dict[str, Any]) -> dict[str, Any]:
    """The result from the harness' own document."""
    rows = [row for task, values in sorted(document["results"].items()) for row in _rows(task, values)]
    counts = document.get("n-samples", {}).values()
    count = sum(item.get("effective", 0) for item in counts)
    result: dict[str, Any] = {"samples": {"done": count, "total": count}, "log": "results.json", "metrics": rows}
    scored = [row for row in rows if row["value"] is not None]
    if not scored:
        return {"cause": "Unscored", "message": "the run ended without a score that is a number", **result}
    return {"cause": "Succeeded", "score": scored[0], **result}


def _rows(task: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Names are `metric,filter`; the error of each is under `metric_stderr,filter`."""
    rows = []
    for name, value in values.items():
        measure, _, kind = name.partition(",")
        if not kind or measure.endswith("_stderr") or isinstance(value, str):
            continue
        error = values.get(f"{measure}_stderr,{kind}")
        rows.append(metric(f"{task}/{kind}", measure, value, error if not isinstance(error, str) else math.nan))
    return rows


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
