"""Commands called as make calls them, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.cli.main import run


def call(name: str, given: Mapping[str, object] | Sequence[str] = ()) -> int:
    """Run a command with options, by name or as they are typed; return its exit code."""
    if isinstance(given, Mapping):
        given = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
    return run(name, given, "make")
