"""Tasks of Inspect that need no network."""

import math
import time

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import Score, Target, accuracy, match, mean, model_graded_qa, scorer, stderr
from inspect_ai.solver import TaskState, generate


def _sums(count: int) -> MemoryDataset:
    """All but each fifth are sums; the model server can only add."""
    items = [(f"What is {a} + {a + 1}?", 2 * a + 1 if a % 5 else -1) for a in range(1, count + 1)]
    return MemoryDataset([Sample(input=question, target=str(answer), id=i) for i, (question, answer) in enumerate(items, 1)])


@task
def sums(count: int = 10) -> Task:
    return Task(dataset=_sums(count), solver=generate(), scorer=match(numeric=True))


@task
def judged() -> Task:
    return Task(dataset=_sums(3), solver=generate(), scorer=model_graded_qa(model_role="grader"))


@scorer(metrics=[mean(), stderr()])
def not_a_number():
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=math.nan)

    return score


@task
def unscored() -> Task:
    return Task(dataset=_sums(2), solver=generate(), scorer=not_a_number())


@scorer(metrics=[accuracy()])
def raising():
    async def score(state: TaskState, target: Target) -> Score:
        raise ValueError("the answer has no number")

    return score


@task
def failing() -> Task:
    return Task(dataset=_sums(2), solver=generate(), scorer=raising())


@task
def leaving() -> Task:
    raise SystemExit("a library ends the process")


@task
def needs_package() -> Task:
    import a_package_that_nobody_has  # noqa: F401

    return sums()


def _hub(path: str, gated: bool = False) -> Task:
    from inspect_ai.dataset import hf_dataset

    data = hf_dataset(path, split="test", sample_fields=lambda row: Sample(input=row["q"], target=row["a"]))
    return Task(dataset=data, solver=generate(), scorer=match())


@task
def from_hub(path: str = "org/data") -> Task:
    return _hub(path)


@task
def stubborn() -> Task:
    print("stubborn: here", flush=True)
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            pass
