"""Removing a run, as a command."""

from __future__ import annotations

import sys

from pipeline import files
from pipeline.jobs.workspace import MEMBERS, Workspace
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Remove a run: its files, and its folder unless other files are in it."""
    folder = finished_run(options)
    with Workspace.at(folder).writing():
        # What makes it a run goes last, so that a clean that was killed can be given again.
        for name in sorted(MEMBERS, key=lambda name: name in ("config.toml", "run.json")):
            files.remove(folder / name)
    if any(folder.iterdir()):
        print(f"removed the run in {folder}; what else is in there stays")
    else:
        files.remove(folder)
        print(f"removed {folder}")


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
