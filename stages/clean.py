"""Removing a run, as a command."""

from __future__ import annotations

import sys

from pipeline import files
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Remove a run's folder with everything in it."""
    folder = finished_run(options)
    files.remove(folder)
    print(f"removed {folder}")


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
