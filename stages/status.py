"""What a run has done and what is left, as a command."""

from __future__ import annotations

import sys

from pipeline import files
from pipeline.jobs.products import KEPT, PRODUCTS, parts_there, to_make
from pipeline.jobs.workspace import Workspace
from stages.cli import RUN_HELP, Options, command, finished_run


def job(options: Options) -> None:
    """Show how far a run is: stages, shards, disk. Contents are not read; `verify` does that."""
    workspace = Workspace.open(finished_run(options))
    print(f"{workspace.folder}: {workspace.config.model} {workspace.config.layer}")
    todo = to_make(workspace)
    for product in PRODUCTS.values():
        entry = workspace.record["stages"].get(product.stage, {"status": "not started"})
        facts = ", ".join(f"{key} {value}" for key, value in entry.items() if key != "status")
        state = "to do" if product.stage in todo and entry["status"] == "done" else entry["status"]
        print(f"  {product.stage:<10} {state:<12} {facts}")
    for name, product in PRODUCTS.items():
        n_there, n_parts, n_bytes = parts_there(workspace, name)
        parts = f"{n_there} of {n_parts} {'shards' if product.is_sharded else 'written'}"
        kept = "" if name in KEPT[workspace.config.keep] else ", not kept when all is done"
        print(f"  {name:<12} {parts}, {n_bytes / 1e6:.1f} MB{kept}")
    print(f"  {files.size(workspace.folder) / 1e6:.1f} MB on disk in all")
    if todo:
        print(f"to go on: make discover RUN={workspace.folder}")


if __name__ == "__main__":
    sys.exit(command(job, RUN_HELP))
