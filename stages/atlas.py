"""The atlas stage as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.atlas import make_atlas
from stages.cli import CONFIG_HELP, RUN_HELP, Options, command, workspace_of


def job(options: Options) -> None:
    """Write the atlas of a run: the site and its sheets."""
    workspace = workspace_of(options)
    with workspace.stage("atlas") as counts:
        counts.update(make_atlas(workspace))


if __name__ == "__main__":
    sys.exit(command(job, CONFIG_HELP | RUN_HELP))
