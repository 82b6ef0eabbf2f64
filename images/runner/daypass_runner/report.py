"""The result: what it holds, how it fits into a termination message, and where it is written."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from daypass_runner.causes import CODES
from daypass_runner.config import Run
from daypass_runner.scrub import Scrubber

# What a kubelet reads.
LIMIT = 4096
VERSION = 1
# Least important first. Score, samples, cause and the exit code stay.
_DROPPED = ("models", "log", "scrubbed", "framework", "attempt", "tokens", "retryAfterSeconds")
# As long as identifiers may be.
_LONGEST_NAME = 256


def number(value: Any) -> int | float | None:
    """A number that JSON can hold: `NaN` and infinities, which it cannot, become null."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    # The digits beyond are noise, and take space.
    return value if isinstance(value, int) else float(f"{value:.9g}")


def metric(scorer: str, name: str, value: Any, error: Any = None) -> dict[str, Any]:
    """One metric of one scorer, with its standard error where there is one."""
    row = {"scorer": str(scorer)[:_LONGEST_NAME], "metric": str(name)[:_LONGEST_NAME], "value": number(value)}
    if number(error) is not None:
        row["error"] = number(error)
    return row


def _encode(result: dict[str, Any]) -> bytes:
    return json.dumps(result, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")


def fit(result: dict[str, Any], limit: int = LIMIT) -> bytes:
    """The result as JSON of at most `limit` bytes: metrics go first, from the end, then the less important members, then
    the end of the message."""
    result = dict(result)
    data = _encode(result)
    if len(data) <= limit:
        return data
    result["truncated"] = True
    metrics = result.get("metrics", [])
    fewest, most = 0, len(metrics)
    while fewest < most:
        # The largest number that fits; one by one would take seconds for thousands.
        count = (fewest + most + 1) // 2
        result["metrics"] = metrics[:count]
        fewest, most = (count, most) if len(_encode(result)) <= limit else (fewest, count - 1)
    result["metrics"] = metrics[:fewest]
    data = _encode(result)
    for name in ("metrics", *_DROPPED):
        if len(data) <= limit:
            return data
        result.pop(name, None)
        data = _encode(result)
    for name in ("message", "task", "model"):
        value = result.get(name)
        while isinstance(value, str) and value and len(data) > limit:
            value = result[name] = value[: len(value) * 3 // 4]
            data = _encode(result)
        if len(data) > limit:
            result.pop(name, None)
            data = _encode(result)
    return data


class Report:
    """Writes the result of a run. Nothing passes that was not scrubbed."""

    def __init__(self, scrubber: Scrubber, environment: dict[str, str]):
        self._scrubber = scrubber
        self._path = environment.get("DAYPASS_TERMINATION_LOG") or "/dev/termination-log"
        self._started = time.monotonic()
        self._closed = False

    def whole(self, run: Run | None, result: dict[str, Any]) -> dict[str, Any]:
        """The result with everything that all results have, scrubbed."""
        cause = result["cause"]
        head: dict[str, Any] = {"version": VERSION, "cause": cause, "exitCode": CODES[cause]}
        if run:
            head |= {"framework": run.framework, "attempt": run.attempt, "task": run.task, "model": run.model}
        head["durationSeconds"] = round(time.monotonic() - self._started, 1)
        rest = {name: value for name, value in result.items() if name != "cause" and value is not None}
        clean = self._scrubber.value(rest)
        for name in ("task", "model"):
            if name in head:
                head[name] = self._scrubber.text(head[name])[:_LONGEST_NAME]
        return head | clean

    def last(self, result: dict[str, Any]) -> bytes:
        """Writes the termination message, once: what comes later is too late."""
        data = fit(result)
        if not self._closed:
            self._closed = True
            self._write(data, exact=True)
        return data

    def provisional(self, run: Run, progress: dict[str, Any]) -> None:
        """What the kubelet finds where this process is killed without a warning, as for using too much memory."""
        if not self._closed:
            result = {"cause": "Unknown", "message": "the run was killed before it could tell its result", **progress}
            self._write(fit(self.whole(run, result)), exact=False)

    def _write(self, data: bytes, *, exact: bool) -> None:
        # A mounted file, which cannot be renamed over. One call writes one whole document: it ends in blanks that cover
        # a longer one before it, so that there is no moment at which half of each is there.
        try:
            with open(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644), "wb", buffering=0) as file:
                file.write(data.ljust(LIMIT))
                if exact:
                    file.truncate(len(data))
        except OSError as error:
            print(f"daypass: the termination message was not written: {type(error).__name__}", flush=True)


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """The whole result beside the logs, however long."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / "result.json.tmp"
    aside.write_bytes(_encode(result))
    aside.replace(folder / "result.json")
