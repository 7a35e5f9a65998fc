"""The classify stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.carry_out import carry_out
from pipeline.jobs.classify import classify
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Ask the network's head what each concept is, and measure what it does."""
    carry_out(workspace_of(options), {"classify": classify})


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
