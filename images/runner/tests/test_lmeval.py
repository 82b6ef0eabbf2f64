"""Real runs of the LM Evaluation Harness, each a process from nothing in an environment like its image's."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conftest import KEY, WRONG_KEY, find
from hub_server import Hub
from model_server import Server

RUNNER = Path(__file__).parents[1]
# What xtask made; a tier that cannot run has failed.
PYTHON = os.environ.get("DAYPASS_HARNESS_PYTHON", "no environment of the harness: run `cargo xtask runner-test`")
# Model, key, and what has to come of it. The harness tries three times by itself.
CASES = {
    "right": (KEY, "Succeeded"),
    "echo-key": (WRONG_KEY, "ModelAuthFailed"),
    "busy": (KEY, "ModelRateLimited"),
}


@pytest.fixture(scope="module")
def ended(server: Server, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """All at once: most of a run is the import of packages. Each leaves its folder and what it printed."""
    running = {}
    for model, (key, _) in CASES.items():
        folder = tmp_path_factory.mktemp(model)
        run = {
            "version": 1,
            "framework": "LMEval",
            "task": "gsm8k",
            "model": {"name": f"openai-api/target/{model}"},
            "sampleLimit": 3,
            "secretEnv": ["TARGET_API_KEY"],
            "results": {"folder": str(folder / "results")},
        }
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(RUNNER),
            "HOME": str(folder),
            "HF_HOME": str(folder / "hub"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TARGET_BASE_URL": f"{server.url}/v1",
            "TARGET_API_KEY": key,
            "DAYPASS_RUN": json.dumps(run),
            "DAYPASS_TERMINATION_LOG": str(folder / "message"),
        }
        output = (folder / "output").open("wb")
        process = subprocess.Popen([PYTHON, "-m", "daypass_runner"], env=environment, stdout=output, stderr=output)
        running[model] = (folder, process)
    return {model: (folder, _output(folder, process)) for model, (folder, process) in running.items()}


def _output(folder: Path, process: subprocess.Popen) -> str:
    process.wait(300)
    return (folder / "output").read_text()


@pytest.mark.parametrize("model", CASES)
def test_what_comes_of_it(ended: dict[str, tuple[Path, str]], model: str) -> None:
    key, cause = CASES[model]
    folder, output = ended[model]
    result: dict[str, Any] = json.loads((folder / "message").read_bytes())
    assert result["cause"] == cause, output
    assert find(folder, key) == []


def test_its_numbers(ended: dict[str, tuple[Path, str]]) -> None:
    folder, output = ended["right"]
    result = json.loads((folder / "message").read_bytes())
    numbers = {row["scorer"]: row["value"] for row in result["metrics"]}
    # The server gives the number alone, and one of the two filters wants it behind ####.
    assert numbers == {"gsm8k/strict-match": 0, "gsm8k/flexible-extract": 1}, output
    assert result["samples"] == {"done": 3, "total": 3}
    assert list((folder / "results").rglob("results.json"))
