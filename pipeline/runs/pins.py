"""The names that people gave concepts of a run: ``names.csv`` in its folder.

The file is not the run's own: nothing but a new name changes it, and ``clean`` leaves it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import UserError
from ..names import pinned
from ..names.pinned import Carried, Pin
from ..system import files
from .ownership import NAMES
from .workspace import Workspace


def names_digest(folder: Path) -> str:
    """Return the SHA-256 of a run's names; empty where there are none.

    Raises
    ------
    UserError
        The file cannot be read.
    """
    path = folder / NAMES
    return hashlib.sha256(read_text(path).encode()).hexdigest() if path.exists() else ""


def read_pins(folder: Path) -> tuple[Pin, ...]:
    """Return all names in a run's folder, of whichever fit.

    Raises
    ------
    UserError
        The file cannot be read.
    """
    path = folder / NAMES
    return pinned.read(read_text(path), str(path)) if path.exists() else ()


def write_pins(folder: Path, pins: tuple[Pin, ...]) -> None:
    """Write the names of a run's folder."""
    files.write_text(folder / NAMES, pinned.write(pins))


def carried(workspace: Workspace) -> Carried:
    """Return which concepts of a run have names that people gave."""
    pins = read_pins(workspace.folder)
    return pinned.carry(pins, workspace.bank.W, space(workspace))


def space(workspace: Workspace) -> str:
    """Return what tells a run's activations from those of other networks and layers."""
    record, config = workspace.record, workspace.config
    kind = workspace.bank.transform.kind
    return pinned.space_of(config.model, str(config.layer), record.weights.sha256, kind)


def read_text(path: Path) -> str:
    """Read a file of names.

    Raises
    ------
    UserError
        It is not there, or no text.
    """
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
