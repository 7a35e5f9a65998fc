"""Removing a run: its own files, and its folders unless other files are in them."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..system import files
from .ownership import IDENTITY, is_run, split_files
from .stages import MEMBERS
from .workspace import Workspace


def clean(folder: str | Path) -> list[Path]:
    """Remove a run.

    Returns
    -------
    list of Path
        What else is in the folder, and stays, sorted; empty where the folder is gone too.

    Raises
    ------
    UserError
        It is no run, or another process writes to it.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise UserError(f"{folder} is not a run")
    with Workspace.at(folder).writing():
        ours, others = split_files(folder)
        # What makes it a run goes last, so that a clean that was killed can be given again.
        for path in sorted(ours, key=lambda path: path.relative_to(folder).as_posix() in IDENTITY):
            files.remove(path)
            files.remove_empty_above(path, folder)
    for name in MEMBERS:
        files.remove_empty(folder / name)
    files.remove_empty(folder)
    return others
