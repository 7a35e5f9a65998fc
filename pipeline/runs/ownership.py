"""What in a folder is a run's own: files that say so, that a record names, or in the making.

A folder is a run if its ``run.json`` or ``config.toml`` says so in its ``encoding-type``. Only what
is a run's own is ever overwritten or removed; whatever else lies in the folder is left and named.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..config_file import ENCODING
from ..errors import UserError
from ..store import BANK, CLASSIFICATION, LISTING, OBJECTS, PROBE, SUSPECTS, read_record, says_type
from ..store.encoding import is_garbled
from ..store.records import BEGUN, RECORD, read_begun
from ..store.unfinished import FIT
from ..system import checksums, files
from ..tables import TABLES
from ..tables.views import VIEWS, views_file
from .record import RUN, RunRecord
from .stages import EVALUATION, MEMBERS, STAGES

TYPES = {
    "run.json": RUN.type,
    "config.toml": ENCODING["encoding-type"],
    "activations/images.parquet": LISTING.type,
    "bank/bank.h5": BANK.type,
    "bank/classes.h5": CLASSIFICATION.type,
    "bank/objects.h5": OBJECTS.type,
    "bank/probe.h5": PROBE.type,
    "bank/unfinished.h5": FIT.type,
    "bank/k_metrics.json": "concordance.k_metrics",
    "bank/suspects.json": SUSPECTS.type,
    **{f"tables/{name}.parquet": f"concordance.{name}" for name in TABLES},
}
"""Where files lie that say what they are, and what they say."""

NAMES = "names.csv"
"""Names that people gave concepts: not a run's own, but what is left of one is no other thing."""

IDENTITY = ("run.json", "config.toml")
"""What makes a folder a run."""

_LATER = re.compile(r"activations/images-[1-9]\d*\.parquet")
_SHARD = re.compile(r"(activations|heatmaps)/shard-\d{5,}\.(h5|json)")
_LOCK = re.compile(r"logs/(writer|prepare|record|forward|part-\d+-of-\d+)\.lock")
_NAMED = re.compile(rb"(\xef\xbb\xbf)?concept_id,name,fit,space,direction\r?\n")
_HELD, _LOGGED = re.compile(rb"process \d+ on "), re.compile(rb"\d{4}-\d\d-\d\d [\d:]{8} \d+ ")
"""How a table of names begins, a lock that was held once, and the log."""


def is_run(folder: Path) -> bool:
    """Say whether a folder is a run: a file of its says so."""
    return any(says_type(folder / name) == TYPES[name] for name in IDENTITY)


def split_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Tell a run's own files from others.

    Returns
    -------
    ours, others : list of Path
        Files and links below the folder, sorted; links are never followed. A folder that a killed
        process left counts as one file.
    """
    told = list(_tell(folder))
    ours = sorted(path for path, is_ours in told if is_ours)
    return ours, sorted(path for path, is_ours in told if not is_ours)


def find_other(folder: Path) -> Path | None:
    """Return a file that is not a run's own, the first met: there may be a diskful.

    Names that people gave do not count: a run was there, and may be there again.
    """
    others = (path for path, is_ours in _tell(folder) if not is_ours)
    return next((path for path in others if not _holds_names(folder, path)), None)


def _holds_names(folder: Path, path: Path) -> bool:
    is_names = path == folder / NAMES and checksums.is_plain(folder, NAMES)
    return is_names and os.access(path, os.R_OK) and _begins(path, _NAMED)


def _tell(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the files below a folder, and whether they are a run's own."""
    named, left = _named(folder), set(leftovers(folder))
    for where, folders, names in os.walk(folder):
        links = [name for name in folders if Path(where, name).is_symlink()]
        for path in (Path(where, name) for name in sorted([*names, *links])):
            is_ours = path in left or _is_ours(folder, path.relative_to(folder).as_posix(), named)
            yield path, is_ours
        yield from ((Path(where, name), True) for name in folders if Path(where, name) in left)
        folders[:] = sorted(name for name in folders if Path(where, name) not in left)


def _is_ours(folder: Path, name: str, named: set[str]) -> bool:
    if not checksums.is_plain(folder, name):
        return False
    path = folder / name
    if name in named:
        return True
    if _LOCK.fullmatch(name):
        return not path.stat().st_size or _begins(path, _HELD)
    if name == "logs/run.log":
        return _begins(path, _LOGGED)
    if name == f"tables/{VIEWS}":
        return path.read_bytes() == views_file().encode()
    if _LATER.fullmatch(name):
        return says_type(path) == LISTING.type
    if shard := _SHARD.fullmatch(name):
        return says_type(path) == (RECORD.type if shard[2] == "json" else f"concordance.{shard[1]}")
    return name in TYPES and says_type(path) == TYPES[name]


def _begins(path: Path, pattern: re.Pattern[bytes]) -> bool:
    with path.open("rb") as file:
        return pattern.match(file.read(100)) is not None


def leftovers(run: Path) -> list[Path]:
    """Return what writers of a run have left, or have: beside its files, and in its folders."""
    beside = [path for path in files.leftovers(run, deep=False) if path.is_file()]
    return sorted([*beside, *(each for name in MEMBERS for each in files.leftovers(run / name))])


def _named(folder: Path) -> set[str]:
    """Return the names, relative to the run, that its records give, and those of the records."""
    found: set[str] = set()
    for stage in (*STAGES, EVALUATION):
        if stage.is_sharded:
            continue  # shards say what they are
        record = read_record(stage.record_path(folder), stage.makes)
        begun = read_begun(stage.begun_path(folder), stage.makes)
        found |= {f"{stage.folder}/{name}" for name in (*begun, *(record.files if record else ()))}
        notes = {stage.record_path(folder): RECORD.type, stage.begun_path(folder): BEGUN.type}
        found |= {
            path.relative_to(folder).as_posix()
            for path, encoding in notes.items()
            if says_type(path) == encoding
        }
    with contextlib.suppress(UserError):  # where it is damaged, what says what it is counts
        found |= set(RunRecord.load(folder / "run.json").files) - set(IDENTITY)
    if is_run(folder):  # of the two that make it a run, one may be damaged
        found |= {name for name in IDENTITY if is_garbled(folder / name)}
    return found
