"""Are a run's files as they were written? Compared with their records, by SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..store import Record, begin, read_record
from ..store.encoding import is_of_its_kind
from ..system import checksums, files
from ..system.progress import bar
from .growth import describe
from .ownership import leftovers
from .plan import Snapshot
from .stages import EVALUATION, STAGES
from .workspace import Workspace


@dataclass(frozen=True)
class Verdict:
    """Whether a run's files are as they were written.

    Attributes
    ----------
    n_good : int
        Files that are.
    bad : mapping of Path to str
        The others, and what is wrong with each.
    history : tuple of str
        How the run came to its images and concepts, a line each time that they changed.
    """

    n_good: int
    bad: Mapping[Path, str]
    history: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Say whether no file is bad."""
        return not self.bad


def verify(folder: str | Path) -> Verdict:
    """Compare every file of a run with its record.

    Raises
    ------
    UserError
        The folder is not a run, or its ``run.json`` cannot be read.
    """
    workspace = Workspace.open(Path(folder))
    return Verdict(*check_files(workspace), tuple(describe(workspace.record)))


def damaged_files(workspace: Workspace) -> dict[Path, list[Path]]:
    """Read every file there is a record of; return the bad ones by their record's path.

    They are not as they were written, or were written by whoever wrote what does not belong there.

    A file that is missing is bad where ``KEEP`` asks for it.
    """
    now = Snapshot(workspace)
    known = [
        (path, record, stage.is_kept(workspace.config.keep))
        for stage in STAGES
        for part, path in enumerate(now.paths[stage.product])
        if (record := now.record(stage.product, part)) is not None
    ]
    found: dict[Path, list[Path]] = {}
    if not known:
        return found
    n_bytes = sum(record.n_bytes for _, record, _ in known)
    with ThreadPoolExecutor(2) as readers, bar("check", n_bytes, "bytes") as shown:
        checks = readers.map(lambda each: _bad_files(each[0].parent, each[1]), known)
        for (path, record, is_kept), bad in zip(known, checks, strict=True):
            shown.update(record.n_bytes)
            bad = [file for file in bad if is_kept or file.exists()]
            if bad:
                found[path] = bad
    return found


def _bad_files(folder: Path, record: Record) -> list[Path]:
    """Return files that are not as they were written, or do not hold what they must."""
    bad = record.damaged(folder)
    return bad + [
        folder / name
        for name in record.files
        if name.endswith(".h5") and folder / name not in bad and not is_of_its_kind(folder / name)
    ]


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
    listed = workspace.record.files
    for name, digest in listed.items():
        path = folder / name
        if not path.is_file() or checksums.sha256(path) != digest:
            bad[path] = _fault(path)
    if lost := bad.keys() & {folder / name for name in workspace.record.listings}:
        bad[min(lost)] += ", and without it no other file can be checked"
        return len(listed) - len(bad), bad
    damaged = damaged_files(workspace)
    bad |= {path: _fault(path) for paths in damaged.values() for path in paths}
    now = Snapshot(workspace)
    n_files, missing = len(listed), dict[Path, str]()
    for stage in STAGES:
        is_begun = stage.name in workspace.record.stages
        for part, path in enumerate(now.paths[stage.product]):
            record = now.record(stage.product, part)
            if record is None and is_begun:
                missing[path] = "is missing" if not path.exists() else "cannot be read"
            elif record is not None and stage.is_kept(workspace.config.keep):
                n_files += len(record.files)
    path = EVALUATION.record_path(folder)
    if record := read_record(path, EVALUATION.makes):
        n_files += len(record.files)
        bad |= {each: _fault(each) for each in record.damaged(path.parent)}
    missing |= dict.fromkeys(leftovers(folder), "is a leftover of a killed process")
    return n_files - len(bad), bad | missing


def _fault(path: Path) -> str:
    if not path.exists():
        return "is missing"
    wrong = path.suffix == ".h5" and not is_of_its_kind(path)
    return f"holds something else than {'it must' if wrong else 'was written'}"


def strike_damaged(workspace: Workspace) -> list[Path]:
    """Remove the records of what is not as it was written, so that it is made again; name it.

    Shards that are damaged go as well: nothing may read them before they are made again.
    """
    bad = damaged_files(workspace)
    for record, damaged in bad.items():
        _remember_site(workspace, record)
        for path in damaged:
            if path.suffix == ".h5":
                files.remove(path)
        files.remove(record)
    return [path for damaged in bad.values() for path in damaged]


def _remember_site(workspace: Workspace, path: Path) -> None:
    """Keep the names of a site whose record goes: the next one removes what it does not write."""
    for stage in STAGES:
        if stage.is_site and stage.record_path(workspace.folder) == path:
            record = read_record(path, stage.makes)
            begin(stage.begun_path(workspace.folder), record.files if record else ())
