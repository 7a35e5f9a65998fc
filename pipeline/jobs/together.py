"""Runs at several layers of one network: each image goes through it once for all of them.

What they come to are runs like others; only the extraction is shared, and each knows the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from ..runs.integrity import strike_damaged
from ..runs.plan import to_make
from ..runs.workspace import Workspace
from ..system.progress import say
from . import cluster
from .extract import extract
from .parallel import parts_of_shard


def extract_together(workspaces: Sequence[Workspace]) -> None:
    """Dump the activations of runs that differ in their layers alone.

    Images go through the network once for all runs that lack them and compute alike; shards that
    are there stay. A run that was begun by itself, with other shards, is left to itself.

    Parameters
    ----------
    workspaces : sequence of Workspace
        Prepared runs.

    Raises
    ------
    UserError
        As `pipeline.jobs.extract.extract`; or another process writes to one of the runs.
    """
    try:
        with ExitStack() as held:
            for workspace in workspaces:
                held.enter_context(workspace.writing())
                for path in strike_damaged(workspace):
                    workspace.tell(f"damaged    {path}: it is made again")
            for runs in _groups(workspaces):
                _extract(runs)
    except KeyboardInterrupt:
        say("stopped    the same command goes on from here")
        raise


def _groups(workspaces: Sequence[Workspace]) -> Iterable[list[Workspace]]:
    """Yield the runs that have shards of the same images to make, in the same arithmetic."""
    groups: dict[str, list[Workspace]] = {}
    for workspace in workspaces:
        missing = to_make(workspace).get("extract", [])
        if not missing or any(map(workspace.activations.is_there, missing)):
            continue  # nothing to do, or shards that are there were made from something else
        forward = workspace.record.forward
        known = [] if forward is None else [forward.precision, forward.compiled]
        listing = workspace.listing
        key = json.dumps([listing.images_per_shard, listing.starts, known])
        groups.setdefault(key, []).append(workspace)
    return [runs for runs in groups.values() if len(runs) > 1]


def _extract(runs: Sequence[Workspace]) -> None:
    first, *beside = runs
    missing = sorted({index for each in runs for index in to_make(each)["extract"]})
    shards = parts_of_shard(missing, first.config.shard)
    if first.config.scheduler is not None:
        cluster.check(first.config.scheduler)
    say(f"extract    {', '.join(each.config.layer for each in runs)} from one forward pass")
    with ExitStack() as stages:
        counted = [stages.enter_context(each.stage("extract")) for each in runs]
        counted[0].update(extract(first, shards, beside))
        for workspace, counts in zip(beside, counted[1:], strict=True):
            workspace.reload("record")
            counts.update(extract(workspace, []))
