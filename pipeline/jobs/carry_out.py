"""Carrying out stages: one writer a run, damaged files found first, only what is missing made."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping

from pipeline import files
from pipeline.errors import UserError
from pipeline.jobs.parallel import parts_of_shard
from pipeline.jobs.products import (
    PRODUCTS,
    drop,
    product_of,
    record_outcome,
    recorded_counts,
    strike_damaged,
    to_make,
)
from pipeline.jobs.workspace import STAGES, Workspace
from pipeline.progress import say
from pipeline.store.records import Counts

Job = Callable[..., Counts]
"""Takes a workspace, and the shards to make where it works by shards; returns what it counted."""


def carry_out(workspace: Workspace, jobs: Mapping[str, Job]) -> None:
    """Let stages make what is missing, damaged or stale, and nothing else.

    Parameters
    ----------
    workspace : Workspace
        A prepared run.
    jobs : mapping of str to callable
        The stages that may work, and what each calls; all of them together also remove what
        ``KEEP`` does not ask for.

    Raises
    ------
    UserError
        Another process writes to the run, or something is missing that none of `jobs` makes.
    """
    try:
        with workspace.writing():
            for path in strike_damaged(workspace):
                workspace.tell(f"damaged    {path}: it is made again")
            while (step := _next(workspace, jobs)) is not None:
                _carry_out(workspace, jobs, *step)
            _settle(workspace, jobs)
            if set(jobs) == set(STAGES):
                drop(workspace)
    except KeyboardInterrupt:
        say(f"stopped    to go on: make discover RUN={shlex.quote(str(workspace.folder))}")
        raise


def _next(workspace: Workspace, stages: Iterable[str]) -> tuple[str, list[int]] | None:
    """Return the first stage that has something to make, with the parts; None: all is made."""
    todo = to_make(workspace)
    for stage, parts in todo.items():
        if stage in stages:
            mine = parts_of_shard(parts, workspace.config.shard)
            return (stage, mine) if mine else None
        if (wanted := [name for name in stages if name in todo]) and _is_before(stage, wanted):
            raise UserError(
                f"{wanted[0]} needs what {stage} makes, and that is not there;"
                f" type make discover RUN={workspace.folder}"
            )
    return None


def _is_before(stage: str, others: Iterable[str]) -> bool:
    return all(STAGES.index(stage) < STAGES.index(other) for other in others)


def _carry_out(workspace: Workspace, jobs: Mapping[str, Job], stage: str, parts: list[int]) -> None:
    with workspace.stage(stage) as counts:
        counts.update(_call(workspace, jobs, stage, parts))
        record_outcome(workspace, stage, counts)
    taken, most = files.size(workspace.folder), workspace.config.max_disk_bytes()
    if taken > most:
        raise UserError(
            f"{workspace.folder} has come to {taken / 1e9:.2f} GB with {stage}, more than"
            f" MAX_DISK={workspace.config.max_disk}; pass more, and it goes on from here"
        )
    left = set(to_make(workspace).get(stage, ())) & set(parts)
    if left:
        raise RuntimeError(f"{stage} has ended, but its parts {sorted(left)} are not as they shall")


def _settle(workspace: Workspace, jobs: Mapping[str, Job]) -> None:
    """Note as done what was made by a process that was killed before it could say so."""
    todo = to_make(workspace)
    for stage in jobs:
        if stage not in todo and not workspace.is_done(stage):
            counts = recorded_counts(workspace, stage)
            counts = _call(workspace, jobs, stage, []) if counts is None else counts
            workspace.note_stage(stage, {"status": "done", **counts})


def _call(workspace: Workspace, jobs: Mapping[str, Job], stage: str, parts: list[int]) -> Counts:
    is_sharded = PRODUCTS[product_of(stage)].is_sharded
    return jobs[stage](workspace, parts) if is_sharded else jobs[stage](workspace)
