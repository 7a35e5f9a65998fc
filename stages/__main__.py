"""The bridge from make: `python -m stages NAME` runs a stage with the options make was given."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping

GIVEN = "CONCORDANCE_GIVEN"
"""Environment variable in which the Makefile lists the variables of its command line."""


def stage_options(environment: Mapping[str, str]) -> list[str]:
    """Turn variables given to make into command-line options.

    ``IMAGE_SIZE=320`` becomes ``--image-size=320``; an empty value means "not given". Which names
    exist is for the stage to say: a variable whose name the environment cannot carry is handed on
    without its value, so that the stage refuses it too.
    """
    options = []
    for name in environment.get(GIVEN, "").split():
        value = environment.get(name)
        if value != "":
            options.append(f"--{name.lower().replace('_', '-')}={value or ''}")
    return options


def main() -> None:
    """Become the stage: its output, its signals and its exit code are then its own."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m stages NAME [--option=value ...], with a NAME that `make` lists")
    module = f"stages.{sys.argv[1].replace('-', '_')}"
    if importlib.util.find_spec(module) is None:
        sys.exit(f"error: there is no command {sys.argv[1]}; `make` lists those there are")
    options = [*stage_options(os.environ), *sys.argv[2:]]
    given = os.environ.pop(GIVEN, "").split()
    environment = {name: value for name, value in os.environ.items() if name not in given}
    environment["CONCORDANCE_BY_MAKE"] = "1"  # what is to be typed is said as make takes it
    os.execve(sys.executable, [sys.executable, "-m", module, *options], environment)


if __name__ == "__main__":
    main()
