"""What a run has done and what is left, as a command."""

from __future__ import annotations

import sys

from pipeline.jobs.workspace import STAGES, Workspace
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Show how far a run is: stages, shards, disk."""
    workspace = Workspace.open(finished_run(options))
    print(f"{workspace.folder}: {workspace.config.model} {workspace.config.layer}")
    for name in STAGES:
        entry = workspace.record["stages"].get(name, {"status": "not started"})
        facts = ", ".join(f"{key} {value}" for key, value in entry.items() if key != "status")
        print(f"  {name:<10} {entry['status']:<12} {facts}")
    for store in (workspace.activations, workspace.heatmaps):
        n_there = store.n_shards - len(store.missing())
        size = sum(path.stat().st_size for path in store.folder.glob("*.h5"))
        print(
            f"  {store.folder.name:<10} {n_there} of {store.n_shards} shards, {size / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
