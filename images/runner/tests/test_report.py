"""The termination message: always whole JSON, never too long, and there from the start."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from conftest import KEY
from daypass_runner.config import Run
from daypass_runner.report import LIMIT, Report, fit, metric
from daypass_runner.scrub import Scrubber

RUN = Run(task="inspect_evals/gsm8k", model="openai-api/target/m")


def _result(metrics: int, message: str = "") -> dict[str, Any]:
    rows = [metric("scorer", f"metric-{i}", i / 7, 0.1) for i in range(metrics)]
    score = {"score": rows[0]} if rows else {}
    return {"cause": "Succeeded", "exitCode": 0, "message": message, **score, "samples": {"done": 1, "total": 2}, "metrics": rows}


@pytest.mark.parametrize("message", ["short", "x" * 9000, "\U0001f600" * 3000, "\"\\\n" * 3000, "\ud800" * 5000])
@pytest.mark.parametrize("metrics", [0, 1, 60, 3000])
def test_it_fits(metrics: int, message: str) -> None:
    data = fit(_result(metrics, message))
    assert len(data) <= LIMIT
    result = json.loads(data)
    assert result["cause"] == "Succeeded"
    assert result["samples"] == {"done": 1, "total": 2}
    assert result.get("truncated", False) == (len(json.dumps(_result(metrics, message))) > LIMIT)
    if metrics:
        assert result["score"]["metric"] == "metric-0"
    if metrics == 60:
        # The message is cut only after everything else is gone.
        assert result["message"] == message or not result.get("metrics")


def test_no_number_is_no_json() -> None:
    rows = [metric("s", "m", value, math.nan) for value in (math.nan, math.inf, True, "1", 0.1 + 0.2)]
    assert [row["value"] for row in rows] == [None, None, None, None, 0.3]
    assert all("error" not in row for row in rows)


def test_every_text_of_it_is_scrubbed(tmp_path: Path) -> None:
    report = Report(Scrubber([KEY]), {"DAYPASS_TERMINATION_LOG": str(tmp_path / "message")})
    run = Run(task=f"a/{KEY}", model=KEY)
    whole = report.whole(run, {"cause": "Succeeded", "message": KEY, "models": {KEY: {"input": 1}}, "metrics": [metric(KEY, KEY, 1)]})
    report.last(whole)
    text = (tmp_path / "message").read_text()
    assert KEY[:12] not in json.dumps(json.loads(text), ensure_ascii=False)
    assert json.loads(text)["exitCode"] == 0


def test_what_stands_there_is_always_one_document(tmp_path: Path) -> None:
    file = tmp_path / "message"
    report = Report(Scrubber([]), {"DAYPASS_TERMINATION_LOG": str(file)})
    for done in (1, 1000):
        report.provisional(RUN, {"samples": {"done": done, "total": 1000}})
        assert json.loads(file.read_bytes())["samples"]["done"] == done
        assert len(file.read_bytes()) == LIMIT
    report.last(report.whole(RUN, {"cause": "Succeeded"}))
    data = file.read_bytes()
    assert data == data.strip()
    # What comes later is too late.
    report.last(report.whole(RUN, {"cause": "Cancelled"}))
    report.provisional(RUN, {})
    assert file.read_bytes() == data


def test_without_a_place_for_it_the_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(Scrubber([]), {"DAYPASS_TERMINATION_LOG": str(tmp_path / "no/folder")})
    assert report.last(report.whole(RUN, {"cause": "Succeeded"}))
    assert "not written" in capsys.readouterr().out
