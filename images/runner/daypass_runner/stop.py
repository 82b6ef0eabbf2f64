"""SIGTERM: the run is interrupted as by Ctrl-C, and ends in time whatever it is doing."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from daypass_runner.causes import CODES

# Of the grace period, kept for writing the result.
_RESERVE = 3.0


class Stop:
    """Whether the run was told to end. Process 1 has no handler unless it sets one, and then SIGTERM does nothing."""

    def __init__(self) -> None:
        self.asked = False
        self.children: set[int] = set()
        self.at_the_latest: Callable[[], None] = lambda: None
        self.grace_seconds = 10
        self._interruptible = False
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, self._on_term)

    def _on_term(self, *_: object) -> None:
        if self.asked:
            return
        self.asked = True
        timer = threading.Timer(max(self.grace_seconds - _RESERVE, self.grace_seconds / 2), self._end)
        timer.daemon = True
        timer.start()
        for child in self.children:
            os.kill(child, signal.SIGTERM)
        if self._interruptible:
            # Libraries know how to end on this one: an event loop cancels its tasks, Inspect writes its log.
            signal.raise_signal(signal.SIGINT)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Only in here an interruption is raised; what handles it, and what writes the result, is never cut off."""
        self._interruptible = True
        try:
            if self.asked:
                raise KeyboardInterrupt
            yield
        finally:
            self._interruptible = False

    def _end(self) -> None:
        try:
            self.at_the_latest()
        finally:
            os._exit(CODES["Cancelled"])
