"""What of a run is to be made next, worked out as make does it: from the records of what there is.

    activations ──▶ bank ──▶ heatmaps ──▶ classes ──▶ tables ──▶ atlas

A product is current if its files are there and were made from inputs of the digests that these
have now. What is made anew and comes out the same as before makes nothing else stale, and what
``KEEP`` does not ask for is made only where something else needs it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipeline import files
from pipeline.jobs.workspace import Workspace
from pipeline.progress import bar
from pipeline.store import Record, ShardStore, combine, read_record, write_record
from pipeline.store.records import Counts
from pipeline.tables import TABLES
from pipeline.tables.views import VIEWS


@dataclass(frozen=True)
class Product:
    """A kind of output: the stage that makes it, from what, and whether in shards."""

    stage: str
    needs: tuple[str, ...]
    is_sharded: bool = False


PRODUCTS = {
    "activations": Product("extract", (), is_sharded=True),
    "bank": Product("factorize", ("activations",)),
    "heatmaps": Product("localize", ("activations", "bank"), is_sharded=True),
    "classes": Product("classify", ("activations", "bank", "heatmaps")),
    "tables": Product("export", ("bank", "heatmaps", "classes")),
    "atlas": Product("atlas", ("bank", "heatmaps", "classes", "tables")),
}
"""In the order in which they are made."""

KEPT = {
    "all": set(PRODUCTS),
    "heatmaps": set(PRODUCTS) - {"activations"},
    "none": set(PRODUCTS) - {"activations", "heatmaps"},
}
"""What stays of a finished run, by ``KEEP``."""


class Snapshot:
    """The records of a run at one moment, each read once; a part is a shard, or all there is."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.paths = {name: record_paths(workspace, name) for name in PRODUCTS}
        self.record = lru_cache(maxsize=None)(self._record)
        self._whole = lru_cache(maxsize=None)(self._combined)

    def is_there(self, name: str, part: int) -> bool:
        """Say whether a part has a record and its files are there, of the right size."""
        record = self.record(name, part)
        return record is not None and record.is_there(self.paths[name][part].parent)

    def is_current(self, name: str, part: int) -> bool:
        """Say whether a part, as far as is known, was made from its inputs as they are now."""
        record = self.record(name, part)
        if record is None:
            return False
        now = self.inputs(name, part)
        return all(now.get(key) in (None, digest) for key, digest in record.made_from.items())

    def inputs(self, name: str, part: int) -> dict[str, str | None]:
        """Return the digests of a part's inputs; None: not known, for it has no record."""
        if name == "activations":
            return {"inputs": self.workspace.inputs_digest}
        found: dict[str, str | None] = {}
        for need in PRODUCTS[name].needs:
            if PRODUCTS[name].is_sharded and PRODUCTS[need].is_sharded:
                record = self.record(need, part)
                found[need] = None if record is None else record.digest
            else:
                found[need] = self._whole(need)
        return found

    def _record(self, name: str, part: int) -> Record | None:
        return read_record(self.paths[name][part])

    def _combined(self, name: str) -> str | None:
        records = [self.record(name, part) for part in range(len(self.paths[name]))]
        known = [record.digest for record in records if record is not None]
        return combine(known) if len(known) == len(records) else None


def to_make(workspace: Workspace) -> dict[str, list[int]]:
    """Return the stages that have something to make, in order, with the parts each has to make.

    Walks from the last product to the first: a part is made if it is kept and not current, or if
    something that is made reads it and it is not there.
    """
    now = Snapshot(workspace)
    kept = KEPT[workspace.config.keep]
    read: dict[str, set[int]] = {name: set() for name in PRODUCTS}
    make: dict[str, list[int]] = {}
    for name, product in reversed(PRODUCTS.items()):
        every = range(len(now.paths[name]))
        wanted = every if name in kept else sorted(read[name])
        parts = [
            part for part in wanted if not (now.is_there(name, part) and now.is_current(name, part))
        ]
        if not parts:
            continue
        make[name] = parts
        for need in product.needs:
            both_sharded = product.is_sharded and PRODUCTS[need].is_sharded
            read[need] |= set(parts if both_sharded else range(len(now.paths[need])))
    return {PRODUCTS[name].stage: make[name] for name in PRODUCTS if name in make}


def made_from(workspace: Workspace, name: str, part: int = 0) -> dict[str, str]:
    """Return the digests of what a part is made from now, for its record."""
    found = Snapshot(workspace).inputs(name, part)
    return {key: digest for key, digest in found.items() if digest is not None}


def record_outcome(workspace: Workspace, stage: str, counts: Counts) -> None:
    """Write the record of a product that is made in one go; shards have written theirs."""
    name = product_of(stage)
    if not PRODUCTS[name].is_sharded:
        (path,) = record_paths(workspace, name)
        write_record(path, outputs(workspace, name), made_from(workspace, name), counts)


def recorded_counts(workspace: Workspace, stage: str) -> Counts | None:
    """Return what a stage counted, where a record says; shards do not."""
    name = product_of(stage)
    if PRODUCTS[name].is_sharded:
        return None
    record = Snapshot(workspace).record(name, 0)
    return None if record is None else record.counts


def product_of(stage: str) -> str:
    """Return the name of what a stage makes."""
    return next(name for name, product in PRODUCTS.items() if product.stage == stage)


def outputs(workspace: Workspace, name: str) -> list[Path]:
    """Return the files of a product that is made in one go."""
    folder = workspace.folder
    if name == "bank":
        return [folder / "bank" / "bank.h5", folder / "bank" / "k_metrics.json"]
    if name == "classes":
        return [workspace.classes_path, workspace.objects_path]
    if name == "tables":
        paths = [workspace.table_path(table) for table in TABLES]
        return [*paths, folder / "tables" / VIEWS]
    (record,) = record_paths(workspace, "atlas")
    return [path for path in (folder / "atlas").rglob("*") if path.is_file() and path != record]


def record_paths(workspace: Workspace, name: str) -> list[Path]:
    """Return the files of a product's records, one a part."""
    if PRODUCTS[name].is_sharded:
        store = store_of(workspace, name)
        return [store.record_path(index) for index in range(store.n_shards)]
    folder = workspace.folder
    path = {
        "bank": folder / "bank" / "bank.json",
        "classes": folder / "bank" / "classes.json",
        "tables": folder / "tables" / "tables.json",
        "atlas": folder / "atlas" / "atlas.json",
    }[name]
    return [path]


def store_of(workspace: Workspace, name: str) -> ShardStore:
    """Return the shards of a product that is made in shards."""
    return workspace.activations if name == "activations" else workspace.heatmaps


def damaged_files(workspace: Workspace) -> dict[Path, list[Path]]:
    """Read every file there is a record of; return the bad ones by their record's path.

    A file that is missing is bad where ``KEEP`` asks for it.
    """
    now = Snapshot(workspace)
    kept = KEPT[workspace.config.keep]
    known = [
        (path, record, name in kept)
        for name in PRODUCTS
        for part, path in enumerate(now.paths[name])
        if (record := now.record(name, part)) is not None
    ]
    found: dict[Path, list[Path]] = {}
    if not known:
        return found
    n_bytes = sum(record.n_bytes for _, record, _ in known)
    with ThreadPoolExecutor(2) as readers, bar("check", n_bytes, "bytes") as shown:
        checks = readers.map(lambda each: each[1].damaged(each[0].parent), known)
        for (path, record, is_kept), bad in zip(known, checks, strict=True):
            shown.update(record.n_bytes)
            bad = [file for file in bad if is_kept or file.exists()]
            if bad:
                found[path] = bad
    return found


def check_files(workspace: Workspace) -> tuple[int, dict[Path, str]]:
    """Compare a run's files with what was recorded of them.

    Returns
    -------
    n_good : int
        Files that are as they were written.
    bad : dict of Path to str
        The others, and what is wrong with each; leftovers of killed writers count. Where the
        listing is bad nothing else is known: it says how many shards there are.
    """
    folder = workspace.folder
    bad: dict[Path, str] = {}
    for name, digest in workspace.record["files"].items():
        path = folder / name
        if not path.is_file() or files.sha256(path) != digest:
            bad[path] = _fault(path)
    if workspace.listing_path in bad:
        bad[workspace.listing_path] += ", and without it no other file can be checked"
        return len(workspace.record["files"]) - len(bad), bad
    damaged = damaged_files(workspace)
    bad |= {path: _fault(path) for paths in damaged.values() for path in paths}
    now = Snapshot(workspace)
    n_files = len(workspace.record["files"])
    for name, product in PRODUCTS.items():
        is_begun = product.stage in workspace.record["stages"]
        for part, path in enumerate(now.paths[name]):
            record = now.record(name, part)
            if record is None and is_begun:
                bad[path] = "is missing" if not path.exists() else "cannot be read"
            elif record is not None and (name in KEPT[workspace.config.keep]):
                n_files += len(record.files)
    bad |= dict.fromkeys(files.leftovers(folder), "is a leftover of a killed process")
    return n_files - len(bad), bad


def _fault(path: Path) -> str:
    return "holds something else than was written" if path.exists() else "is missing"


def strike_damaged(workspace: Workspace) -> list[Path]:
    """Remove the records of what is not as it was written, so that it is made again; name it.

    Shards that are damaged go as well: nothing may read them before they are made again.
    """
    bad = damaged_files(workspace)
    for record, damaged in bad.items():
        for path in damaged:
            if path.suffix == ".h5":
                files.remove(path)
        files.remove(record)
    return [path for damaged in bad.values() for path in damaged]


def drop(workspace: Workspace) -> None:
    """Remove the shards that ``KEEP`` does not ask for; their records stay, for what they say."""
    for name, product in PRODUCTS.items():
        if product.is_sharded and name not in KEPT[workspace.config.keep]:
            store = store_of(workspace, name)
            for index in range(store.n_shards):
                files.remove(store.path(index))


def parts_there(workspace: Workspace, name: str) -> tuple[int, int, int]:
    """Return how many parts of a product are there, how many it has, and the bytes of the first."""
    now = Snapshot(workspace)
    there = [
        record
        for part in range(len(now.paths[name]))
        if (record := now.record(name, part)) is not None and now.is_there(name, part)
    ]
    return len(there), len(now.paths[name]), sum(record.n_bytes for record in there)
