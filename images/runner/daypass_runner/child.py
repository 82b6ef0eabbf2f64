"""Runs a program that evaluates: no shell, its output guarded as our own, its end in time."""

import collections
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

from daypass_runner.stop import Stop

_LINES = 200
_LONGEST = 4096


def call(command: Sequence[str], environment: dict[str, str], stop: Stop) -> tuple[int, str]:
    """Runs to the end; returns the exit code and the last lines of its standard error, which are shown as well."""
    # A session of its own would not get the signals of a terminal; here the runner passes on the only one there is.
    child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    stop.children.add(child.pid)
    last: collections.deque[str] = collections.deque(maxlen=_LINES)

    def read() -> None:
        assert child.stderr
        for line in iter(lambda: child.stderr.readline(_LONGEST), b""):
            text = line.decode("utf-8", "replace")
            last.append(text)
            sys.stderr.write(text)
            sys.stderr.flush()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while True:
            try:
                code = child.wait()
                break
            except KeyboardInterrupt:
                # It was told to end too. The grace period's end is watched elsewhere.
                continue
    finally:
        stop.children.discard(child.pid)
    reader.join(2)
    return code, "".join(last)


def environment_for(**changes: str) -> dict[str, str]:
    """Our environment for a program, with changes."""
    return {**os.environ, **changes}
