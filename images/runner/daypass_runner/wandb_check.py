"""Asks W&B, before the run, whether key, entity and project will do."""

import base64
import json
import urllib.error
import urllib.request

from daypass_runner.causes import Failure

_QUERY = "query Viewer { viewer { username entity teams { edges { node { name } } } } }"
_SECONDS = 20


def check(entity: str, project: str, environment: dict[str, str]) -> None:
    """Fails with `ResultsDenied` where the answer is no, with `ResultsNotStored` where there is none."""
    base = environment.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    key = environment["WANDB_API_KEY"]
    if not _is_project(project):
        raise Failure("ResultsDenied", "W&B: the project's name may have no /\\#?%: and at most 128 characters")
    request = urllib.request.Request(
        base.rstrip("/") + "/graphql",
        data=json.dumps({"query": _QUERY}).encode(),
        headers={
            "Authorization": "Basic " + base64.b64encode(f"api:{key}".encode()).decode(),
            "Content-Type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        # The body is not looked at: it may hold the key.
        if error.code in (401, 403):
            raise Failure("ResultsDenied", f"W&B refused the key: HTTP {error.code}") from None
        raise Failure("ResultsNotStored", f"W&B could not be asked: HTTP {error.code}") from None
    except (OSError, ValueError) as error:
        raise Failure("ResultsNotStored", f"W&B could not be asked: {type(error).__name__}") from None
    data = answer.get("data") if isinstance(answer, dict) and not answer.get("errors") else None
    if not isinstance(data, dict):
        # An error within a good answer says nothing of the key.
        raise Failure("ResultsNotStored", "W&B did not answer as it should")
    viewer = data.get("viewer")
    if not viewer:
        raise Failure("ResultsDenied", "W&B does not know the key")
    entities = {edge["node"]["name"] for edge in (viewer.get("teams") or {}).get("edges", [])}
    if entity not in entities | {viewer.get("username"), viewer.get("entity")}:
        raise Failure("ResultsDenied", f"W&B: the key's owner does not belong to the entity {entity}")


def _is_project(project: str) -> bool:
    return len(project) <= 128 and not set(project) & set("/\\#?%:")
