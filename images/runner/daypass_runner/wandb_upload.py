"""Uploads a result to W&B: a process of its own, so that nothing it does can harm the result.

    python -m daypass_runner.wandb_upload ENTITY PROJECT    the result as JSON on standard input
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any

from daypass_runner.config import Run

SECONDS = 120


def upload(run: Run, result: dict[str, Any]) -> str | None:
    """Uploads, and returns what went wrong. Never raises."""
    assert run.wandb
    document = json.dumps({"name": run.benchmark, "group": run.job, "id": _identifier(run), "result": result})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "daypass_runner.wandb_upload", *run.wandb],
            input=document.encode(),
            # Nothing is sent but the result: no reports on how the client fares, which take a while where they fail.
            env={**os.environ, "WANDB_ERROR_REPORTING": "false"},
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"W&B: no answer within {SECONDS} s"
    except OSError as error:
        return f"W&B: {type(error).__name__}"
    return None if done.returncode == 0 else "W&B: the upload failed; the log has the reason"


def _identifier(run: Run) -> str:
    """The same for all attempts, so that a later one replaces what an earlier one has left."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{run.uid}-{run.benchmark}")[:64]


def _main() -> int:
    import wandb

    entity, project = sys.argv[1:]
    document = json.load(sys.stdin)
    result = document["result"]
    settings = wandb.Settings(
        console="off", disable_git=True, save_code=False, x_disable_stats=True, silent=True, init_timeout=30
    )
    config = {name: result[name] for name in ("framework", "task", "model", "attempt") if name in result}
    with wandb.init(
        entity=entity,
        project=project,
        name=document["name"],
        group=document["group"],
        id=document["id"],
        resume="allow",
        job_type="evaluation",
        config=config,
        dir=tempfile.gettempdir(),
        settings=settings,
    ) as upload_run:
        values = {f"{row['scorer']}/{row['metric']}": row["value"] for row in result.get("metrics", [])}
        errors = {
            f"{row['scorer']}/{row['metric']}_error": row["error"] for row in result.get("metrics", []) if "error" in row
        }
        samples = {f"samples/{name}": value for name, value in result.get("samples", {}).items()}
        tokens = {f"tokens/{name}": value for name, value in result.get("tokens", {}).items()}
        score = {"score": result["score"]["value"]} if "score" in result else {}
        upload_run.summary.update(
            {**score, **values, **errors, **samples, **tokens, "durationSeconds": result.get("durationSeconds")}
        )
    return 0


if __name__ == "__main__":
    sys.exit(_main())
