"""How far a run is: stages, shards, disk; contents are not read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..system import files
from .growth import describe
from .plan import parts_there, to_make
from .stages import STAGES
from .workspace import Workspace


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes
    ----------
    folder : Path
    model, layer : str
    stages : DataFrame
        A row per stage: stage, state, facts (text), product, sharded, kept, n_there, n_parts,
        n_bytes.
    n_bytes : int
        Of the whole folder.
    is_finished : bool
        Whether nothing is left to do.
    history : tuple of str
        How it came to its images and concepts, a line each time that they changed.
    """

    folder: Path
    model: str
    layer: str
    stages: pd.DataFrame
    n_bytes: int
    is_finished: bool
    history: tuple[str, ...] = ()


def status(folder: str | Path) -> RunStatus:
    """Look how far a run is.

    Raises
    ------
    UserError
        The folder is not a run.
    """
    workspace = Workspace.open(Path(folder))
    todo, keep, rows = to_make(workspace), workspace.config.keep, []
    for stage in STAGES:
        facts = workspace.record.stage(stage.name)
        known = {} if facts.seconds is None else {"seconds": facts.seconds}
        known |= facts.counts
        n_there, n_parts, n_bytes = parts_there(workspace, stage)
        rows.append(
            {
                "stage": stage.name,
                "state": "to do" if stage.name in todo and facts.status == "done" else facts.status,
                "facts": ", ".join(f"{key} {value}" for key, value in known.items()),
                "product": stage.product,
                "sharded": stage.is_sharded,
                "kept": stage.is_kept(keep),
                "n_there": n_there,
                "n_parts": n_parts,
                "n_bytes": n_bytes,
            }
        )
    return RunStatus(
        workspace.folder,
        workspace.config.model,
        workspace.config.layer,
        pd.DataFrame(rows),
        files.size(workspace.folder),
        not todo,
        tuple(describe(workspace.record)),
    )
