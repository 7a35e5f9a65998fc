"""Names that people give concepts: noted in the run's folder, then in its tables and its atlas."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..names import pinned
from ..runs.ownership import NAMES
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
    with workspace.writing():
        pins = read_pins(workspace.folder)
        write_pins(workspace.folder, pinned.named_anew(pins, concept_id, name, W, space(workspace)))
    _show(workspace)


def take_names(folder: str | Path, source: str | Path) -> tuple[str, ...]:
    """Take the names of another run, or of a file, for the concepts that are the same.

    Parameters
    ----------
    folder : str or Path
        Of the run.
    source : str or Path
        Folder of another run, or its ``names.csv``, which replaces no name given here; or a CSV of
        ``concept_id`` and ``name``, which is of this run and does.

    Returns
    -------
    tuple of str
        A sentence for each name that no concept here has, or whose concept was named here.

    Raises
    ------
    UserError
        There are no names, or the run is not finished.
    """
    workspace, path = _finished(folder), Path(source)
    if path.is_dir():
        path = path / NAMES
    if not path.is_file():
        raise UserError(f"there are no names at {path}")
    W, text = workspace.bank.W, read_text(path)
    plain = pinned.read_plain(text, str(path), W, space(workspace))
    new = pinned.read(text, str(path)) if plain is None else plain
    found = pinned.carry(new, W, space(workspace))
    lost = list(found.lost)
    with workspace.writing():
        pins = read_pins(workspace.folder)
        own = pinned.carry(pins, W, space(workspace)).named
        for concept, each in sorted(found.named.items()):
            name = each.ranked[0].text
            if concept not in own or plain is not None:
                pins = pinned.named_anew(pins, concept, name, W, space(workspace))
            elif (here := own[concept].ranked[0].text) != name:
                lost.append(f"{name!r} is concept {concept}, which is called {here!r} here")
        write_pins(workspace.folder, pins)
    _show(workspace)
    return tuple(lost)


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


def _show(workspace: Workspace) -> None:
    """Bring names into tables and pages; where these cannot be made now they are kept even so.

    Raises
    ------
    UserError
        It says so.
    """
    try:
        execute(workspace, ("export", "atlas"))
    except UserError as error:
        raise UserError(
            f"{workspace.folder / NAMES} has the names, tables and pages have them not yet: {error}"
        ) from error
