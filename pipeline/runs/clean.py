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
        What else is in the folder, and stays, sorted: files, or folders where there is no file;
        empty where the folder is gone too.

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
        for path in sorted(ours, key=lambda path: _turn(path.relative_to(folder).as_posix())):
            files.remove(path)
            files.remove_empty_above(path, folder)
    for name in MEMBERS:
        files.remove_empty(folder / name)
    if not files.remove_empty(folder) and not others:
        return sorted(folder.iterdir())
    return others


def _turn(name: str) -> int:
    """Order files: a clean that was killed can be given again, and nobody else writes till the end.

    What makes it a run goes after all else, and after that what keeps others away.
    """
    return 1 if name in IDENTITY else 2 if name.startswith("logs/") else 0
