"""The factorize stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.carry_out import carry_out
from pipeline.jobs.factorize import factorize
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Find the concepts: factorize the activations of all fit images."""
    carry_out(workspace_of(options), {"factorize": factorize})


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
