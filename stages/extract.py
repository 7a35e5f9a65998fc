"""The extract stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.extract import extract
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Dump the activations of one layer for every image of a dataset."""
    workspace = workspace_of(options)
    with workspace.stage("extract") as counts:
        counts.update(extract(workspace))


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
