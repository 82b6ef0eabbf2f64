"""The operator's catalog says what the pinned package says: a newer package cannot drift away unseen."""

from pathlib import Path

import pytest
import yaml

from package_facts import facts

CATALOG = yaml.safe_load((Path(__file__).parents[3] / "src/evaluation/benchmarks.yaml").read_text())
FACTS = facts()


def test_enough_was_found_to_compare_with() -> None:
    assert len(FACTS) > 200
    assert FACTS["gsm8k"].arguments == ("fewshot", "fewshot_seed", "shuffle_fewshot")


@pytest.mark.parametrize("entry", CATALOG["benchmarks"], ids=lambda entry: entry["name"])
def test_an_entry_is_what_the_package_says(entry: dict) -> None:
    fact = FACTS.get(entry["task"].removeprefix("inspect_evals/"))
    assert entry["exists"] == (fact is not None)
    if fact:
        assert entry["package"] == fact.package
        assert entry["samples"] == fact.samples
        assert {(data["type"], data["source"]) for data in entry["data"]} == fact.data
        assert tuple(entry["arguments"]) == fact.arguments


def test_the_packages_are_those_of_the_image() -> None:
    pinned = (Path(__file__).parents[1] / "requirements/inspect.txt").read_text()
    for name, version in CATALOG["framework"]["packages"].items():
        assert f"\n{name}=={version} " in f"\n{pinned}", name


def test_judges_that_an_argument_names_are_arguments() -> None:
    for entry in CATALOG["benchmarks"]:
        for need in entry["env"]:
            override = need.get("override") or {}
            named = [override["arg"]] if "arg" in override else override.get("args", [])
            assert set(named) <= set(entry.get("arguments", named)), entry["name"]
