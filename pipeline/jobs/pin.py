"""Names that people give concepts: noted in the run's folder, then in its tables and its atlas."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..names import pinned
from ..names.pinned import Pin
from ..runs.ownership import NAMES, is_run
from ..runs.pins import carried, read_pins, read_text, space, write_pins
from ..runs.workspace import Workspace
from .execute import execute


def name_concept(folder: str | Path, concept_id: int, name: str) -> None:
    """Name a concept of a finished run; without a name it loses the one that it was given.

    Parameters
    ----------
    folder : str or Path
        Of the run.
    concept_id : int
    name : str
        A line; empty: what namers work out counts again.

    Raises
    ------
    UserError
        There is no such concept, the name cannot be one, or the run is not finished.
    """
    workspace = _finished(folder)
    W, k = workspace.bank.W, workspace.bank.k
    if not 0 <= concept_id < k:
        raise UserError(f"there is no concept {concept_id}; {folder} has 0 to {k - 1}")
    pins = read_pins(workspace.folder)
    if name.strip():
        pins = pinned.changed(pins, [pinned.pin(concept_id, name, W, space(workspace))])
    else:
        pins = pinned.without(pins, concept_id, pinned.fit_of(W))
    _keep(workspace, pins)


def take_names(folder: str | Path, source: str | Path) -> tuple[str, ...]:
    """Take the names of another run, or of a file, for the concepts that are the same.

    Parameters
    ----------
    folder : str or Path
        Of the run.
    source : str or Path
        Folder of another run, its ``names.csv``, or a CSV of ``concept_id`` and ``name``, which is
        of this run.

    Returns
    -------
    tuple of str
        A sentence for each name that no concept here has.

    Raises
    ------
    UserError
        There are no names, or the run is not finished.
    """
    workspace, path = _finished(folder), Path(source)
    if is_run(path):
        path = path / NAMES
    if not path.is_file():
        raise UserError(f"there are no names at {path}")
    W, text = workspace.bank.W, read_text(path)
    new = pinned.read_plain(text, str(path), W, space(workspace)) or pinned.read(text, str(path))
    found = pinned.carry(new, W, space(workspace))
    own = [
        pinned.pin(concept, each.ranked[0].text, W, space(workspace))
        for concept, each in sorted(found.named.items())
    ]
    if own:
        _keep(workspace, pinned.changed(read_pins(workspace.folder), own))
    return found.lost


def names_given(folder: str | Path) -> tuple[dict[int, tuple[str, str]], tuple[str, ...]]:
    """Return the names that people gave concepts of a run.

    Returns
    -------
    named : dict of int to (str, str)
        By concept, the name and what says that it is this concept's.
    lost : tuple of str
        A sentence for each name that no concept has.
    """
    found = carried(Workspace.open(Path(folder)))
    named = {each: (a.ranked[0].text, a.evidence) for each, a in sorted(found.named.items())}
    return named, found.lost


def _finished(folder: str | Path) -> Workspace:
    workspace = Workspace.open(Path(folder))
    if not workspace.is_finished():
        raise UserError(f"{folder} is not finished: its concepts have no pages to be named on yet")
    return workspace


def _keep(workspace: Workspace, pins: tuple[Pin, ...]) -> None:
    write_pins(workspace.folder, pins)
    execute(workspace, ("export", "atlas"))
