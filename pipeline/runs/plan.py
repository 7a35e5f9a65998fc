"""What of a run is to be made next, worked out as make does it: from the records of what there is.

A product is current if its files are there and were made from inputs of the digests that these
have now. What is made anew and comes out the same as before makes nothing else stale, and what
``KEEP`` does not ask for is made only where something else needs it. Images that a run was given
after its concepts were fitted are no input of these, nor of what the head says of them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ..store import Record, ShardStore, combine, read_record, write_record
from ..store.records import Counts
from ..system import files
from .pins import names_digest
from .stages import BY_NAME, MAKER, STAGES, Stage
from .workspace import Workspace

PINNED = "pinned"
"""The names that people gave, see `pins`."""

_BESIDE = {"atlas": {"atlas_images": "copy"}, "tables": {"namer": "words", PINNED: ""}}
"""What products are made from beside others, and what that was when records had none of it:
options, and the names that people gave."""


class Snapshot:
    """The records of a run at one moment, each read once; a part is a shard, or all there is."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.paths = {stage.product: record_paths(workspace, stage) for stage in STAGES}
        self._names = names_digest(workspace.folder)
        self.record = lru_cache(maxsize=None)(self._record)
        self._whole = lru_cache(maxsize=None)(self._combined)

    def is_there(self, name: str, part: int) -> bool:
        """Say whether a part has a record and its files are there, of the right size."""
        record = self.record(name, part)
        return record is not None and record.is_there(self.paths[name][part].parent)

    def is_current(self, name: str, part: int) -> bool:
        """Say whether a part, as far as is known, was made from its inputs as they are now."""
        record = self.record(name, part)
        if record is None or self._lacks(MAKER[name]):
            return False
        now = self.inputs(name, part)
        for key, was in _BESIDE.get(name, {}).items():
            if record.made_from.get(key, was) != now[key]:
                return False
        return all(now.get(key) in (None, digest) for key, digest in record.made_from.items())

    def _lacks(self, stage: Stage) -> bool:
        """Say whether images were added of which there is nothing yet, nor would be.

        What is not kept is made where something asks for it: this is what asks.
        """
        if stage.is_sharded or stage.of_fitted:
            return False
        dropped = [
            need for need in stage.needs if not MAKER[need].is_kept(self.workspace.config.keep)
        ]
        return any(self._whole(need, len(self.needed(stage, need))) is None for need in dropped)

    def inputs(self, name: str, part: int) -> dict[str, str | None]:
        """Return the digests of a part's inputs; None: not known, for it has no record."""
        if name == "activations":
            return {"inputs": self.workspace.inputs_digest(part)}
        found: dict[str, str | None] = {}
        for key in _BESIDE.get(name, {}):
            is_option = key != PINNED
            found[key] = getattr(self.workspace.config, key) if is_option else self._names
        for need in MAKER[name].needs:
            if MAKER[name].is_sharded and MAKER[need].is_sharded:
                record = self.record(need, part)
                found[need] = None if record is None else record.digest
            else:
                found[need] = self._whole(need, len(self.needed(MAKER[name], need)))
        return found

    def needed(self, stage: Stage, need: str) -> range:
        """Return the parts of a product that a stage reads which makes all it makes in one go."""
        is_part = stage.of_fitted and MAKER[need].is_sharded
        return range(self.workspace.n_fitted_shards if is_part else len(self.paths[need]))

    def _record(self, name: str, part: int) -> Record | None:
        return record_of(self.workspace, MAKER[name], part)

    def _combined(self, name: str, n_parts: int) -> str | None:
        records = [self.record(name, part) for part in range(n_parts)]
        known = [record.digest for record in records if record is not None]
        return combine(known) if len(known) == len(records) else None


def to_make(workspace: Workspace) -> dict[str, list[int]]:
    """Return the stages that have something to make, in order, with the parts each has to make.

    Walks from the last product to the first: a part is made if it is kept and not current, or if
    something that is made reads it and it is not there.
    """
    now = Snapshot(workspace)
    read: dict[str, set[int]] = {stage.product: set() for stage in STAGES}
    make: dict[str, list[int]] = {}
    for stage in reversed(STAGES):
        name = stage.product
        every = range(len(now.paths[name]))
        wanted = every if stage.is_kept(workspace.config.keep) else sorted(read[name])
        parts = [
            part for part in wanted if not (now.is_there(name, part) and now.is_current(name, part))
        ]
        if not parts:
            continue
        make[stage.name] = parts
        for need in stage.needs:
            both_sharded = stage.is_sharded and MAKER[need].is_sharded
            read[need] |= set(parts if both_sharded else now.needed(stage, need))
    return {stage.name: make[stage.name] for stage in STAGES if stage.name in make}


def made_from(workspace: Workspace, name: str, part: int = 0) -> dict[str, str]:
    """Return the digests of what a part is made from now, for its record."""
    found = Snapshot(workspace).inputs(name, part)
    return {key: digest for key, digest in found.items() if digest is not None}


def record_outcome(workspace: Workspace, name: str, counts: Counts) -> None:
    """Write the record of what a stage made in one go; shards have written theirs."""
    stage = BY_NAME[name]
    if not stage.is_sharded:
        path, written = (
            stage.record_path(workspace.folder),
            stage.outputs(workspace.folder, workspace.config.head),
        )
        write_record(path, written, made_from(workspace, stage.product), counts)
        files.remove(stage.begun_path(workspace.folder))


def recorded_counts(workspace: Workspace, name: str) -> Counts | None:
    """Return what a stage counted, where a record says; shards do not."""
    stage = BY_NAME[name]
    record = None if stage.is_sharded else record_of(workspace, stage)
    return None if record is None else record.counts


def record_paths(workspace: Workspace, stage: Stage) -> list[Path]:
    """Return the files of a product's records, one for each part."""
    if stage.is_sharded:
        store = store_of(workspace, stage)
        return [store.record_path(index) for index in range(store.n_shards)]
    return [stage.record_path(workspace.folder)]


def record_of(workspace: Workspace, stage: Stage, part: int = 0) -> Record | None:
    """Read the record of a product, or of a part of it where it is sharded."""
    if stage.is_sharded:
        return store_of(workspace, stage).record(part)
    return read_record(stage.record_path(workspace.folder), stage.makes)


def store_of(workspace: Workspace, stage: Stage) -> ShardStore:
    """Return the shards of a product that is made in shards."""
    return workspace.activations if stage.product == "activations" else workspace.heatmaps


def drop(workspace: Workspace) -> None:
    """Remove the shards that ``KEEP`` does not ask for; their records stay, for what they say."""
    for stage in STAGES:
        if stage.is_sharded and not stage.is_kept(workspace.config.keep):
            store = store_of(workspace, stage)
            for index in range(store.n_shards):
                files.remove(store.path(index))


def parts_there(workspace: Workspace, stage: Stage) -> tuple[int, int, int]:
    """Return how many parts of a product are there, how many it has, and the bytes of the first."""
    now, name = Snapshot(workspace), stage.product
    there = [
        record
        for part in range(len(now.paths[name]))
        if (record := now.record(name, part)) is not None and now.is_there(name, part)
    ]
    return len(there), len(now.paths[name]), sum(record.n_bytes for record in there)
