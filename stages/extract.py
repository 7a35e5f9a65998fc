"""The extract stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.carry_out import carry_out
from pipeline.jobs.extract import extract
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Dump the activations of one layer for every image of a dataset."""
    carry_out(workspace_of(options), {"extract": extract})


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
