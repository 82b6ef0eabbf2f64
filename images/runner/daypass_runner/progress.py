"""Progress as lines on standard output, for whoever may read the Pod's log: the Pod itself needs no rights for that."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

PREFIX = "daypass-progress "


class Progress:
    """How far the run is. A line is printed at the start of a phase, then at most every few seconds."""

    def __init__(self, tell: Callable[[dict[str, Any]], None] = lambda _: None, every: float = 2.0):
        self._lock = threading.Lock()
        self._tell = tell
        self._every = every
        self._printed = float("-inf")
        self._state: dict[str, Any] = {"phase": "Starting", "done": 0, "total": None}

    def phase(self, phase: str, total: int | None = None) -> None:
        """Another phase began: `Starting`, `Running`, `Storing`."""
        with self._lock:
            self._state["phase"] = phase
            if total is not None:
                self._state["total"] = total
            self._print()

    def done(self, count: int = 1) -> None:
        """More samples are done."""
        with self._lock:
            self._state["done"] += count
            if time.monotonic() - self._printed >= self._every or self._state["done"] == self._state["total"]:
                self._print()

    def samples(self) -> dict[str, Any]:
        """What a result says about samples, as far as it is known; does not wait, for a signal handler may ask."""
        done, total = self._state["done"], self._state["total"]
        return {"samples": {"done": done, "total": total}} if total is not None else {}

    def _print(self) -> None:
        self._printed = time.monotonic()
        print(PREFIX + json.dumps(self._state, separators=(",", ":")), flush=True)
        self._tell(self.samples())
