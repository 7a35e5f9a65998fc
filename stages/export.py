"""The export stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.carry_out import carry_out
from pipeline.jobs.export import export
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Write the tables of a run."""
    carry_out(workspace_of(options), {"export": export})


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
