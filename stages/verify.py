"""A check of a run's files against their records, as a command."""

from __future__ import annotations

import sys

from pipeline.errors import UserError
from pipeline.jobs.products import check_files
from pipeline.jobs.workspace import Workspace
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Compare every file with its recorded SHA-256 and name those that differ or are missing."""
    workspace = Workspace.open(finished_run(options))
    n_good, bad = check_files(workspace)
    for path, fault in bad.items():
        print(f"bad  {path}: {fault}")
    if bad:
        raise UserError(
            f"{len(bad)} files of {workspace.folder} are missing or damaged; type"
            f" make discover RUN={workspace.folder}, which makes them again"
        )
    print(f"all {n_good} files of {workspace.folder} are as they were written")


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
