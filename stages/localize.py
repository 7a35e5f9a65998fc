"""The localize stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.carry_out import carry_out
from pipeline.jobs.localize import localize
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Give every image its heatmaps of the fixed concepts."""
    carry_out(workspace_of(options), {"localize": localize})


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
