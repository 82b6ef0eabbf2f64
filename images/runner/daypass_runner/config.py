"""What to run: a JSON or YAML document without any secret in it."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daypass_runner.causes import Failure

DEFAULT_FILE = "/etc/daypass/run.json"
VERSION = 1
FRAMEWORKS = ("Inspect", "LMEval", "Custom")

_LARGEST = 262_144
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_FOLDER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
# Set by their own fields or by variables: a key in a document is a key in etcd.
_NOT_ARGUMENTS = {"api_key", "apikey", "base_url", "model", "pretrained"}


@dataclass(frozen=True)
class Run:
    """One attempt of one benchmark."""

    task: str = ""
    framework: str = "Inspect"
    job: str = "job"
    uid: str = "local"
    benchmark: str = "benchmark"
    attempt: int = 1
    args: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    model_args: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    refuse_roles: tuple[str, ...] = ()
    sample_limit: int | None = None
    epochs: int | None = None
    retry_on_error: int = 1
    fail_on_error: bool = True
    requires: tuple[str, ...] = ()
    secret_env: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    grace_seconds: int = 10
    results: str = "/results"
    wandb: tuple[str, str] | None = None

    @property
    def folder(self) -> Path:
        """Where this benchmark's results lie: the same for all attempts."""
        return Path(self.results, self.job, self.uid, self.benchmark)


def load(environment: dict[str, str]) -> Run:
    """Reads the document that `DAYPASS_RUN` holds or, without it, the file that `DAYPASS_RUN_FILE` names."""
    text = environment.get("DAYPASS_RUN", "")
    if not text:
        path = Path(environment.get("DAYPASS_RUN_FILE") or DEFAULT_FILE)
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_LARGEST + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise Failure("InvalidRun", f"{path}: {type(error).__name__}") from None
    if len(text) > _LARGEST:
        raise Failure("InvalidRun", f"the configuration is longer than {_LARGEST} characters")
    return parse(_document(text))


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as not_json:
        problem = str(not_json)
    try:
        import yaml

        return yaml.safe_load(text)
    except ImportError:
        raise Failure("InvalidRun", f"the configuration is no JSON: {problem}") from None
    except yaml.YAMLError:
        # YAML's errors quote the document.
        raise Failure("InvalidRun", "the configuration is neither JSON nor YAML") from None


class _Reader:
    """Takes members out of an object one by one; what is left at the end is unknown."""

    def __init__(self, value: Any, name: str):
        if not isinstance(value, dict):
            raise Failure("InvalidRun", f"{name or 'the configuration'} is not an object")
        self._left = dict(value)
        self._name = name

    def path(self, member: str) -> str:
        return f"{self._name}.{member}" if self._name else member

    def take(self, member: str, kind: type, default: Any = None) -> Any:
        value = self._left.pop(member, None)
        if value is None:
            return default
        # A bool is an int to Python.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Failure("InvalidRun", f"{self.path(member)} is not of type {kind.__name__}")
        return value

    def number(self, member: str, default: int | None, least: int, most: int) -> int | None:
        value = self.take(member, int, default)
        if value is not None and not least <= value <= most:
            raise Failure("InvalidRun", f"{self.path(member)} is not from {least} to {most}")
        return value

    def names(self, member: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        values = self.take(member, list, [])
        if not all(isinstance(value, str) and (not pattern or pattern.fullmatch(value)) for value in values):
            raise Failure("InvalidRun", f"{self.path(member)} has an item that does not fit")
        return tuple(values)

    def folder_name(self, member: str, default: str) -> str:
        value = self.take(member, str, default)
        if not _FOLDER_NAME.fullmatch(value):
            raise Failure("InvalidRun", f"{self.path(member)} cannot name a folder")
        return value

    def finish(self) -> None:
        if self._left:
            known_as = ", ".join(sorted(self.path(str(name)) for name in self._left))
            raise Failure("InvalidRun", f"unknown in the configuration: {known_as}")


def parse(document: Any) -> Run:
    """Checks a document. What is unknown is refused: it was meant to have an effect."""
    top = _Reader(document, "")
    version = top.take("version", int)
    if version != VERSION:
        raise Failure("InvalidRun", f"version is {version}, and this runner knows {VERSION}")
    framework = top.take("framework", str, "Inspect")
    if framework not in FRAMEWORKS:
        raise Failure("InvalidRun", f"framework is not one of {', '.join(FRAMEWORKS)}")
    model = _Reader(top.take("model", dict, {}), "model")
    results = _Reader(top.take("results", dict, {}), "results")
    run = Run(
        framework=framework,
        task=top.take("task", str, ""),
        job=top.folder_name("job", "job"),
        uid=top.folder_name("uid", "local"),
        benchmark=top.folder_name("benchmark", "benchmark"),
        attempt=top.number("attempt", 1, 1, 1_000_000) or 1,
        args=top.take("args", dict, {}),
        model=model.take("name", str, ""),
        model_args=model.take("args", dict, {}),
        generation=model.take("generation", dict, {}),
        roles=_roles(top.take("roles", dict, {})),
        refuse_roles=top.names("refuseRoles"),
        sample_limit=top.number("sampleLimit", None, 1, 100_000_000),
        epochs=top.number("epochs", None, 1, 10_000),
        retry_on_error=top.number("retryOnError", 1, 0, 100) or 0,
        fail_on_error=top.take("failOnError", bool, True),
        requires=top.names("requires", _VARIABLE),
        secret_env=top.names("secretEnv", _VARIABLE),
        command=top.names("command"),
        grace_seconds=top.number("terminationGracePeriodSeconds", 10, 1, 86_400) or 10,
        results=results.take("folder", str, "/results"),
        wandb=_wandb(results.take("wandb", dict)),
    )
    for reader in (top, model, results):
        reader.finish()
    _check(run)
    return run


def _roles(value: dict[str, Any]) -> dict[str, str]:
    if not all(isinstance(role, str) and isinstance(model, str) and model for role, model in value.items()):
        raise Failure("InvalidRun", "roles: each role needs the name of a model")
    return value


def _wandb(value: dict[str, Any] | None) -> tuple[str, str] | None:
    if value is None:
        return None
    reader = _Reader(value, "results.wandb")
    entity, project = reader.take("entity", str, ""), reader.take("project", str, "")
    reader.finish()
    if not entity or not project:
        raise Failure("InvalidRun", "results.wandb needs entity and project")
    return entity, project


def _check(run: Run) -> None:
    if run.framework == "Custom":
        if not run.command:
            raise Failure("InvalidRun", "a Custom run needs a command")
    elif not run.task or not run.model:
        raise Failure("InvalidRun", "task and model.name are needed")
    if not Path(run.results).is_absolute():
        raise Failure("InvalidRun", "results.folder is not an absolute path")
    if found := sorted(name for name in run.model_args if str(name).lower().replace("-", "_") in _NOT_ARGUMENTS):
        raise Failure("InvalidRun", f"model.args cannot have {', '.join(found)}")
    if both := sorted(set(run.roles) & set(run.refuse_roles)):
        raise Failure("InvalidRun", f"roles and refuseRoles both have {', '.join(both)}")


def check_environment(run: Run, environment: dict[str, str]) -> None:
    """Before anything is imported, let alone paid for."""
    needed = [*run.requires, *(["WANDB_API_KEY"] if run.wandb else [])]
    if missing := sorted({name for name in needed if not environment.get(name)}):
        raise Failure("EnvMissing", f"not set, or empty: {', '.join(missing)}")


def environment_of_process() -> dict[str, str]:
    """The variables as they are now."""
    return dict(os.environ)
