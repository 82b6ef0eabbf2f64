"""Runs a task of Inspect in this process."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daypass_runner.causes import Failure, first_known, sentence
from daypass_runner.config import Run
from daypass_runner.progress import Progress
from daypass_runner.report import metric
from daypass_runner.scrub import Scrubber
from daypass_runner.stop import Stop

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog

# Without a bound Inspect asks for ever.
_GENERATION = {"max_retries": 5, "max_connections": 10}
# Asks nobody, and fails at the first question: a judge without a model of its own would be the evaluated model.
_NOBODY = "none/none"
_ERRORS = ("stderr", "bootstrap_stderr")
_HAVE_ERRORS = ("accuracy", "mean")


def evaluate(run: Run, progress: Progress, scrubber: Scrubber, stop: Stop) -> dict[str, Any]:
    """Evaluates, or goes on with what an earlier attempt has finished, and returns the result."""
    _prepare_environment()
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        _do_not_wait_for_the_hub()
    # Late: it takes seconds, and what was checked before needs none of it.
    from inspect_ai import eval as inspect_eval
    from inspect_ai import eval_retry

    _keep_errors_plain()
    _check_generation(run.generation)
    _refuse_unused_arguments()
    _follow(progress)
    waits = _remember_waits()
    earlier = _earlier(run)
    if earlier and earlier.status == "success":
        return _result(run, earlier, scrubber, waits)
    common: dict[str, Any] = {
        "log_dir": str(run.folder),
        "log_format": "eval",
        # Each finished sample is on the volume at once, for an attempt after this one.
        "log_buffer": 1,
        "display": "log",
        # A socket by which a running evaluation can be changed.
        "ctl_server": False,
        "retry_on_error": run.retry_on_error,
        "fail_on_error": run.fail_on_error,
        "score_display": False,
    }
    run.folder.mkdir(parents=True, exist_ok=True)
    if earlier:
        retries = {name: run.generation.get(name, value) for name, value in _GENERATION.items()}
        common.pop("score_display")
        logs = eval_retry(earlier, **common, **retries)
    else:
        roles = {role: _NOBODY for role in run.refuse_roles} | run.roles
        logs = inspect_eval(
            run.task,
            model=run.model,
            model_args=run.model_args,
            model_roles=roles,
            task_args=run.args,
            limit=run.sample_limit,
            epochs=run.epochs,
            **common,
            **(_GENERATION | run.generation),
        )
    if len(logs) != 1:
        raise Failure("UnknownTask", f"the task's name stands for {len(logs)} tasks")
    return _result(run, logs[0], scrubber, waits)


def _prepare_environment() -> None:
    # Frames' variables are the keys themselves.
    os.environ.pop("INSPECT_TRACEBACK_LOCALS", None)
    # Traces hold errors of providers as they came, keys among them, and are of no use here. A record is one line: a key
    # that was broken into two would be found by nobody.
    os.environ |= {"INSPECT_TRACE_LEVEL": "CRITICAL", "INSPECT_DISPLAY": "log", "INSPECT_PY_LOGGER_FORMAT": "plain"}


def _keep_errors_plain() -> None:
    """Logs hold each error a second time, for terminals, broken into lines of a width: with it, keys are broken too."""
    import inspect_ai.log._log
    import inspect_ai.model._model
    from inspect_ai._util.rich import truncate_traceback

    def plain(kind: Any, error: Any, trace: Any) -> tuple[str, str]:
        text, _ = truncate_traceback(kind, error, trace)
        return text, text

    for module in (inspect_ai.log._log, inspect_ai.model._model):
        module.format_traceback = plain


def _do_not_wait_for_the_hub() -> None:
    """inspect_evals tries for minutes to reach a Hub that it was told not to ask."""
    import backoff

    backoff.on_exception = lambda *_, **__: lambda function: function


def _check_generation(generation: dict[str, Any]) -> None:
    from inspect_ai.model import GenerateConfig

    if unknown := sorted(set(generation) - set(GenerateConfig.model_fields)):
        raise Failure("InvalidRun", f"model.generation cannot have {', '.join(unknown)}")
    try:
        GenerateConfig.model_validate(generation)
    except ValueError as error:
        found = re.findall(r"^(\w+)", "\n".join(str(error).splitlines()[1:]), re.MULTILINE)
        raise Failure("InvalidRun", f"model.generation has values that do not fit: {', '.join(found)}") from None


class _UnusedArgument(logging.Filter):
    """Inspect warns about a task's argument that does not exist and runs without it; that would be another benchmark."""

    def filter(self, record: logging.LogRecord) -> bool:
        if found := re.match(r"param '(.*)' not used by task", record.getMessage()):
            raise Failure("InvalidRun", f"the task has no argument {found[1]}")
        return True


def _refuse_unused_arguments() -> None:
    logging.getLogger("inspect_ai._eval.registry").addFilter(_UnusedArgument())


def _follow(progress: Progress) -> None:
    from inspect_ai.hooks import Hooks, SampleEnd, TaskStart, hooks

    @hooks(name="daypass_progress", description="counts samples")
    class Follow(Hooks):
        async def on_task_start(self, data: TaskStart) -> None:
            progress.phase("Running", _planned(data.spec))

        async def on_sample_end(self, data: SampleEnd) -> None:
            if data.sample.error is None:
                progress.done()


def _planned(spec: Any) -> int:
    identifiers = spec.dataset.sample_ids
    count = len(identifiers) if identifiers is not None else spec.dataset.samples or 0
    return count * (spec.config.epochs or 1)


def _remember_waits() -> list[float]:
    """Collects what servers ask to wait (Retry-After): the errors that Inspect keeps do not tell it."""
    from inspect_ai.model._providers.util import hooks

    waits: list[float] = []
    parse = hooks.parse_retry_after

    def remember(headers: Any) -> float | None:
        seconds = parse(headers)
        if seconds is not None:
            waits[:] = [seconds]
        return seconds

    hooks.parse_retry_after = remember
    return waits


def _logs(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted(folder.glob("*.eval"), key=lambda path: (path.stat().st_mtime, path.name), reverse=True)


def _earlier(run: Run) -> "EvalLog | None":
    """The log of an attempt before this one, if it is of the same evaluation and can be read."""
    from inspect_ai.log import read_eval_log

    for path in _logs(run.folder):
        try:
            log = read_eval_log(str(path))
        except Exception as error:
            print(f"daypass: {path.name} cannot be read ({type(error).__name__}) and is left alone", flush=True)
            continue
        if _is_of(log, run):
            return log
    return None


def _is_of(log: "EvalLog", run: Run) -> bool:
    spec = log.eval
    roles = {name: _model_of(role) for name, role in (spec.model_roles or {}).items()}
    wanted = {role: _NOBODY for role in run.refuse_roles} | run.roles
    return (
        spec.model == run.model
        and spec.task.split("/")[-1] == re.split(r"[/@]", run.task)[-1]
        and roles == wanted
        and spec.task_args_passed == run.args
        and spec.config.limit == run.sample_limit
        and (run.epochs is None or spec.config.epochs == run.epochs)
    )


def _model_of(role: Any) -> str:
    return role.model if hasattr(role, "model") else str(role)


def _result(run: Run, log: "EvalLog", scrubber: Scrubber, waits: list[float]) -> dict[str, Any]:
    result = _numbers(log)
    result["log"] = Path(log.location).name
    if log.status == "success":
        if (result.get("score") or {}).get("value") is None:
            return {"cause": "Unscored", "message": "the run ended without a score that is a number", **result}
        return {"cause": "Succeeded", **result}
    if log.status == "cancelled":
        return {"cause": "Cancelled", **result}
    cause, message = _why(run, log)
    if waits and cause in ("ModelRateLimited", "ModelUnavailable"):
        result["retryAfterSeconds"] = max(1, round(waits[-1]))
    return {"cause": cause, "message": sentence(scrubber.text(message)), **result}


def _why(run: Run, log: "EvalLog") -> tuple[str, str]:
    message = log.error.message if log.error else f"the log's status is {log.status}"
    trace = log.error.traceback if log.error else ""
    # Retries wrap the server's error, which then stands only in the traceback.
    wrapped = "RetryError" in message or "RetryError" in trace
    cause = first_known([message, _last_line(trace), trace] if not wrapped else [trace])
    if cause == "ModelAuthFailed" and _was_judge(run, log):
        cause = "JudgeAuthFailed"
    if cause in ("Unknown", "InvalidRun"):
        cause = "SamplesFailed"
    return cause, trace if wrapped else message


def _last_line(trace: str) -> str:
    lines = trace.strip().splitlines()
    return lines[-1] if lines else ""


def _was_judge(run: Run, log: "EvalLog") -> bool:
    """Whether the call that failed was not one to the evaluated model."""
    for event in _failed_calls(log.samples or []):
        return bool(event.role) or event.model not in (run.model, run.model.partition("/")[2])
    return bool(log.error and "/scorer/" in log.error.traceback)


def _failed_calls(samples: Iterable[Any]) -> Iterator[Any]:
    for sample in samples:
        if sample.error:
            yield from (event for event in reversed(sample.events) if event.event == "model" and event.error)


def _numbers(log: "EvalLog") -> dict[str, Any]:
    result: dict[str, Any] = {}
    if log.results:
        done, total = log.results.completed_samples, log.results.total_samples
        rows = [row for score in log.results.scores for row in _rows(score)]
        if rows:
            result["score"] = _headline(log.results.headline, rows)
            result["metrics"] = [row for row, _ in rows]
    else:
        done, total = _finished(log), _planned(log.eval)
    result["samples"] = {"done": done, "total": total}
    if log.stats and log.stats.model_usage:
        usage = log.stats.model_usage
        models = {name: {"input": use.input_tokens, "output": use.output_tokens} for name, use in sorted(usage.items())}
        result["tokens"] = {side: sum(use[side] for use in models.values()) for side in ("input", "output")}
        result["models"] = models
    return result


def _finished(log: "EvalLog") -> int:
    return sum(1 for sample in log.samples or [] if sample.error is None)


def _rows(score: Any) -> list[tuple[dict[str, Any], tuple[str, str]]]:
    """The metrics of a score, each with the names by which a headline refers to it. A standard error is shown with the
    metric that it belongs to."""
    errors = {name: item for name, item in score.metrics.items() if item.name in _ERRORS}
    others = {name: item for name, item in score.metrics.items() if name not in errors}
    base = next((name for name in _HAVE_ERRORS if name in others), None)
    if base is None and len(others) == 1:
        base = next(iter(others))
    if base is None or len(errors) != 1:
        base, errors, others = None, {}, dict(score.metrics)
    error = next(iter(errors.values())).value if errors else None
    name_of = score.name if not score.reducer or score.reducer == "mean" else f"{score.name}[{score.reducer}]"
    return [
        (metric(name_of, name, item.value, error if name == base else None), (score.name, name))
        for name, item in others.items()
    ]


def _headline(headline: Any, rows: list[tuple[dict[str, Any], tuple[str, str]]]) -> dict[str, Any]:
    wanted = (headline.score or headline.scorer, headline.metric) if headline else None
    return next((row for row, names in rows if names == wanted), rows[0][0])

