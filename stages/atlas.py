"""The atlas stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.atlas import make_atlas
from pipeline.jobs.carry_out import carry_out
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Write the atlas of a run: the site and its sheets."""
    carry_out(workspace_of(options), {"atlas": make_atlas})


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
