"""Removing a run: its own files, and its folder unless other files are in it."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..system import files
from .stages import MEMBERS
from .workspace import Workspace, is_run


def clean(folder: str | Path) -> bool:
    """Remove a run.

    Returns
    -------
    bool
        Whether the folder is gone too; False where other files are in it, which stay.

    Raises
    ------
    UserError
        It is no run, or another process writes to it.
    """
    folder = Path(folder)
    if not is_run(folder):
        raise UserError(f"{folder} is not a run")
    with Workspace.at(folder).writing():
        # What makes it a run goes last, so that a clean that was killed can be given again.
        for name in sorted(MEMBERS, key=lambda name: name in ("config.toml", "run.json")):
            files.remove(folder / name)
    if any(folder.iterdir()):
        return False
    files.remove(folder)
    return True
