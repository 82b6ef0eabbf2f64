"""Starts runners without the seconds that importing Inspect takes: this process has it imported, and forks.

A request is a line of JSON on standard input: {"env": {...}, "out": FILE}. The answers are two lines: the process, then
its exit code. Each runner is a process of its own all the same, with its own environment, output, signals and end.
"""

import json
import os
import threading


def main() -> None:
    import backoff  # noqa: F401
    import inspect_ai._display.log.display  # noqa: F401
    import inspect_ai.agent._acp.server  # noqa: F401
    import inspect_ai.hooks
    import inspect_ai.model._providers.openai_compatible  # noqa: F401
    import inspect_evals._registry  # noqa: F401

    import daypass_runner.main

    # A thread would be missing in the children, and what it holds would stay locked.
    assert threading.active_count() == 1, threading.enumerate()
    requests = os.fdopen(os.dup(0))
    answers = os.fdopen(os.dup(1), "w")
    for line in requests:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
            daypass_runner.main.main()
        print(child, file=answers, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    # To take down all that was imported takes seconds, for nothing.
    os._exit(0)


def _become(request: dict) -> None:
    output = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, number)
    os.environ.clear()
    os.environ.update(request["env"])


if __name__ == "__main__":
    main()
