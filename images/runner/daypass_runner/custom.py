"""Runs a program of somebody's own, which leaves its result in a file."""

import json
import tempfile
from pathlib import Path
from typing import Any

from daypass_runner import child
from daypass_runner.causes import CODES, Failure, first_known, sentence
from daypass_runner.config import Run
from daypass_runner.progress import Progress
from daypass_runner.report import metric, number
from daypass_runner.scrub import Scrubber
from daypass_runner.stop import Stop

_LARGEST = 1_048_576
_MOST_METRICS = 1000


def evaluate(run: Run, progress: Progress, scrubber: Scrubber, stop: Stop) -> dict[str, Any]:
    """Calls the command, and takes what it says."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result.json")
        environment = child.environment_for(DAYPASS_RESULT_FILE=str(file), DAYPASS_RESULTS=str(run.folder))
        progress.phase("Running")
        try:
            code, errors = child.call(run.command, environment, stop)
        except OSError as error:
            raise Failure("InvalidRun", f"the command cannot be started: {type(error).__name__}") from None
        result = read(file) if file.exists() else {}
    by_code = next((cause for cause, known in CODES.items() if known == code), None)
    if code == 0:
        value = (result.get("score") or {}).get("value")
        return {"cause": "Succeeded", **result} if value is not None else {"cause": "Unscored", **result}
    message = result.pop("message", None) or f"exit code {code}: {errors.strip()[-2000:]}"
    cause = by_code or first_known([errors])
    return {"cause": cause, "message": sentence(scrubber.text(message)), **result}


def read(file: Path) -> dict[str, Any]:
    """The parts of a result that are as they should be; the rest is left out."""
    data = file.read_bytes()[: _LARGEST + 1]
    try:
        document = json.loads(data) if len(data) <= _LARGEST else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Failure("Unscored", "the result file holds no JSON object, or too large a one")
    result: dict[str, Any] = {}
    items = document.get("metrics")
    rows = [_row(item) for item in (items if isinstance(items, list) else [])[:_MOST_METRICS] if isinstance(item, dict)]
    score = document.get("score")
    if isinstance(score, dict):
        result["score"] = _row(score)
    elif number(score) is not None:
        result["score"] = metric("score", "score", score)
    elif rows:
        result["score"] = rows[0]
    if rows:
        result["metrics"] = rows
    for name, members in (("samples", ("done", "total")), ("tokens", ("input", "output"))):
        value = document.get(name)
        if isinstance(value, dict) and all(type(value.get(member)) is int for member in members):
            result[name] = {member: max(value[member], 0) for member in members}
    if isinstance(document.get("message"), str):
        result["message"] = document["message"]
    return result


def _row(item: dict[str, Any]) -> dict[str, Any]:
    return metric(item.get("scorer", ""), item.get("metric", ""), item.get("value"), item.get("error"))
