"""From the configuration to the exit code."""

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from daypass_runner import config, custom, inspect_run, lmeval, wandb_check, wandb_upload
from daypass_runner.causes import Failure, chain, classify, sentence
from daypass_runner.config import Run
from daypass_runner.progress import Progress
from daypass_runner.report import Report, write_result
from daypass_runner.scrub import Guard, Scrubber, clean_folder, values_in
from daypass_runner.stop import Stop

Evaluate = Callable[[Run, Progress, Scrubber, Stop], dict[str, Any]]
_FRAMEWORKS: dict[str, Evaluate] = {
    "Inspect": inspect_run.evaluate,
    "LMEval": lmeval.evaluate,
    "Custom": custom.evaluate,
}


def main() -> NoReturn:
    """Runs what the configuration says. Does not return, and does not wait for threads that libraries left behind."""
    # First, as SIGTERM may come at any time.
    stop = Stop()
    environment = config.environment_of_process()
    try:
        run, problem = config.load(environment), None
    except Failure as failure:
        run, problem = None, failure
    scrubber = Scrubber(values_in(environment, run.secret_env if run else ()))
    guard = Guard(scrubber)
    report = Report(scrubber, environment)
    if run:
        result = _run(run, report, scrubber, stop, environment)
    else:
        assert problem
        result = report.whole(None, {"cause": problem.cause, "message": problem.message})
    data = report.last(result)
    print(data.decode(), flush=True)
    sys.stderr.flush()
    guard.finish()
    os._exit(result["exitCode"])


def _run(run: Run, report: Report, scrubber: Scrubber, stop: Stop, environment: dict[str, str]) -> dict[str, Any]:
    progress = Progress(lambda samples: report.provisional(run, samples))
    stop.grace_seconds = run.grace_seconds
    stop.at_the_latest = lambda: _too_late(run, report, progress, scrubber)
    scrubbed = 0
    try:
        with stop.interruptible():
            config.check_environment(run, environment)
            progress.phase("Starting")
            if run.wandb:
                wandb_check.check(*run.wandb, environment)
            # What an attempt that was killed has left was not cleaned by it.
            scrubbed = clean_folder(run.folder, scrubber)
            result = _FRAMEWORKS[run.framework](run, progress, scrubber, stop)
    except Failure as failure:
        result = {"cause": failure.cause, "message": scrubber.text(failure.message)}
    except KeyboardInterrupt:
        result = {"cause": "Cancelled"}
    except BaseException as error:  # SystemExit too: libraries call sys.exit.
        text = scrubber.text(chain(error))
        print(f"daypass: {text}", file=sys.stderr, flush=True)
        result = {"cause": classify(text), "message": sentence(text)}
    if stop.asked and result["cause"] != "Succeeded":
        result = {**progress.samples(), **result, "cause": "Cancelled", "message": "the run was told to end"}
    result["scrubbed"] = scrubbed + clean_folder(run.folder, scrubber)
    return _store(run, report, progress, result)


def _store(run: Run, report: Report, progress: Progress, result: dict[str, Any]) -> dict[str, Any]:
    """Puts the result where it is wanted. It is the same result if that fails; only the cause tells."""
    whole = report.whole(run, result)
    if run.wandb and result["cause"] == "Succeeded":
        progress.phase("Storing")
        # A kill from here on finds the score.
        report.provisional(run, {**result, "cause": "ResultsNotStored", "message": "killed during the upload"})
        if problem := wandb_upload.upload(run, whole):
            whole = report.whole(run, {**result, "cause": "ResultsNotStored", "message": problem})
    try:
        write_result(run.folder, whole)
    except OSError as error:
        print(f"daypass: result.json was not written: {type(error).__name__}", flush=True)
        if whole["cause"] == "Succeeded":
            message = f"the results folder cannot be written: {type(error).__name__}"
            whole = report.whole(run, {**result, "cause": "ResultsNotStored", "message": message})
    return whole


def _too_late(run: Run, report: Report, progress: Progress, scrubber: Scrubber) -> None:
    """The grace period is nearly over and the run has not ended by itself."""
    result = {"cause": "Cancelled", "message": "the run was told to end, and did not in time", **progress.samples()}
    report.last(report.whole(run, result))
    clean_folder(run.folder, scrubber)

