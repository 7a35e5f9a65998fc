"""A check of a run's files against their records, as a command."""

from __future__ import annotations

import sys

from pipeline.errors import UserError
from pipeline.jobs.workspace import Workspace
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Compare every shard with its recorded SHA-256 and name those that differ."""
    workspace = Workspace.open(finished_run(options))
    bad = [
        path for store in (workspace.activations, workspace.heatmaps) for path in store.damaged()
    ]
    for path in bad:
        print(f"bad  {path}")
    if bad:
        raise UserError(
            f"{len(bad)} files are missing or damaged; remove them and rerun"
            f" make discover RUN={workspace.folder}"
        )
    n_shards = 2 * workspace.listing.n_shards
    print(f"all {n_shards} shards of {workspace.folder} are as they were written")


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
