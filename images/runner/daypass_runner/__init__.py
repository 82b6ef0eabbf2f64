"""Runs one benchmark and says, in an exit code and a short message, what came of it: docs/runner.md."""
