"""A run's concepts as a terminal table."""

from __future__ import annotations

import sys

from pipeline.jobs.discover import summary
from pipeline.jobs.workspace import Workspace
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Print the concepts of a run: what the head calls them, how much they cover and explain."""
    print(summary(Workspace.open(finished_run(options))))


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
