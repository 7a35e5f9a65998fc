"""A run's concepts as a terminal table."""

from __future__ import annotations

import sys

from pipeline.jobs.listing import list_concepts
from pipeline.run import open_run
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Print the concepts of a run: what head and labels call them, and where the network fails."""
    print(list_concepts(open_run(finished_run(options))))


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
