"""Carrying out stages: one writer per run, damaged files found first, only what is missing made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module

from ..errors import UserError, command, option
from ..runs.integrity import strike_damaged
from ..runs.plan import drop, record_outcome, recorded_counts, to_make
from ..runs.record import StageFacts
from ..runs.stages import BY_NAME
from ..runs.workspace import Workspace
from ..store.records import Counts
from ..system import files
from ..system.progress import say
from . import cluster
from .parallel import parts_of_shard

Body = Callable[..., Counts]
"""Takes a workspace, and the shards to make where it works by shards; returns what it counted."""

ALL = tuple(BY_NAME)


def execute(workspace: Workspace, stages: Iterable[str] = ALL) -> None:
    """Let stages make what is missing, damaged or stale, and nothing else.

    Parameters
    ----------
    workspace : Workspace
        A prepared run.
    stages : iterable of str
        Those that may work; all of them together also remove what ``KEEP`` does not ask for.

    Raises
    ------
    UserError
        Another process writes to the run, or something is missing that none of `stages` makes.
    """
    stages = tuple(stages)
    try:
        with workspace.writing():
            for path in strike_damaged(workspace):
                workspace.tell(f"damaged    {path}: it is made again")
            if workspace.config.scheduler is not None and _next(workspace, stages) is not None:
                cluster.check(workspace.config.scheduler)
            while (step := _next(workspace, stages)) is not None:
                _execute_stage(workspace, *step)
            _settle(workspace, stages)
            if stages == ALL:
                drop(workspace)
    except KeyboardInterrupt:
        say(f"stopped    to go on: {command('discover', run=workspace.folder)}")
        raise


def body_of(stage: str) -> Body:
    """Load what carries out a stage."""
    module, _, function = BY_NAME[stage].body.partition(":")
    body: Body = getattr(import_module(f"...{module}", __name__), function)
    return body


def _next(workspace: Workspace, stages: tuple[str, ...]) -> tuple[str, list[int]] | None:
    """Return the first stage that has something to make, with the parts; None: all is made."""
    todo = to_make(workspace)
    for stage, parts in todo.items():
        if stage in stages:
            mine = parts_of_shard(parts, workspace.config.shard)
            return (stage, mine) if mine else None
        if (wanted := [name for name in stages if name in todo]) and _is_before(stage, wanted):
            raise UserError(
                f"{wanted[0]} needs what {stage} makes, and that is not there;"
                f" {command('discover', run=workspace.folder)} makes it first"
            )
    return None


def _is_before(stage: str, others: Iterable[str]) -> bool:
    return all(ALL.index(stage) < ALL.index(other) for other in others)


def _execute_stage(workspace: Workspace, stage: str, parts: list[int]) -> None:
    with workspace.stage(stage) as counts:
        counts.update(_call(workspace, stage, parts))
        record_outcome(workspace, stage, counts)
    taken, most = files.size(workspace.folder), workspace.config.max_disk_bytes()
    if taken > most:
        raise UserError(
            f"{workspace.folder} has come to {taken / 1e9:.2f} GB with {stage}, more than"
            f" {option('max_disk', workspace.config.max_disk)}; allow more, and it goes on from"
            " here"
        )
    left = set(to_make(workspace).get(stage, ())) & set(parts)
    if left:
        raise RuntimeError(
            f"{stage} has ended, but its parts {sorted(left)} are not as they should be"
        )


def _settle(workspace: Workspace, stages: tuple[str, ...]) -> None:
    """Note as done what was made by a process that was killed before it could say so."""
    todo = to_make(workspace)
    for stage in stages:
        if stage not in todo and not workspace.is_done(stage):
            counts = recorded_counts(workspace, stage)
            counts = _call(workspace, stage, []) if counts is None else counts
            workspace.note_stage(stage, StageFacts(status="done", **counts))


def _call(workspace: Workspace, stage: str, parts: list[int]) -> Counts:
    body = body_of(stage)
    if BY_NAME[stage].is_sharded:
        return body(workspace, parts)
    counts = body(workspace.fitted if BY_NAME[stage].of_fitted else workspace)
    workspace.reload("bank")  # it may be another now
    return counts
