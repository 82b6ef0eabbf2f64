"""What the pinned package of benchmarks says of each task. Its source is read, not run: some tasks import what the image
does not have."""

import ast
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Fact:
    """One registered task."""

    package: str
    samples: int | None
    data: frozenset[tuple[str, str]]
    arguments: tuple[str, ...]


def facts() -> dict[str, Fact]:
    """Every registered task by its name."""
    spec = importlib.util.find_spec("inspect_evals")
    assert spec and spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    found = {}
    for statement in ast.parse((root / "_registry.py").read_text()).body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            folder = root.joinpath(*statement.module.split(".")[1:])
            for name in statement.names:
                arguments = _arguments(folder, name.name)
                if arguments is not None:
                    found[name.asname or name.name] = _fact(root, folder, name.name, arguments)
    return found


def _arguments(folder: Path, name: str) -> tuple[str, ...] | None:
    """The parameters of the task's function; none where no function bears that name."""
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name == name and any(map(_is_task, node.decorator_list)):
                parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if node.args.kwarg:
                    return None
                return tuple(parameter.arg for parameter in parameters)
    return None


def _is_task(decorator: ast.expr) -> bool:
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(call, ast.Name) and call.id == "task"


def _fact(root: Path, folder: Path, name: str, arguments: tuple[str, ...]) -> Fact:
    while not (folder / "eval.yaml").is_file() and folder != root:
        folder = folder.parent
    about: dict[str, Any] = yaml.safe_load((folder / "eval.yaml").read_text()) if folder != root else {}
    listed = [task for task in about.get("tasks") or [] if task["name"] == name]
    assets = about.get("external_assets") or []
    return Fact(
        package=folder.relative_to(root).as_posix(),
        samples=listed[0].get("dataset_samples") if listed else None,
        data=frozenset((asset["type"], asset["source"]) for asset in assets),
        arguments=arguments,
    )
