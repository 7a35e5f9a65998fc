"""The whole job as a command: images to concepts, tables and atlas, in one process."""

from __future__ import annotations

import sys

from pipeline.jobs.discover import discover
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Find the concepts a network uses over a whole image dataset: all stages in order."""
    discover(workspace_of(options))


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
