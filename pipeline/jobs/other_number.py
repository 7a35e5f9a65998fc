"""A run with another number of concepts: a cut through its tree, made when first asked for."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..analysis import run as analysis
from ..analysis.run import Makers, Run
from ..runs.find import find_run
from ..runs.ownership import is_run
from ..runs.share import check_same_tree, tree_of_run
from ..runs.workspace import Workspace
from .execute import ALL, execute
from .pin import name_concept


def open_run(folder: str | Path, *, network: nn.Module | str | None = None) -> Run:
    """Open a finished run.

    Parameters
    ----------
    folder : str or Path
        As ``runs/pets``.
    network : torch.nn.Module or str, optional
        The network of a run that was made of an object, or the name of the function that makes it,
        ``file.py:function``: code is run where you name it only. Tables, heatmaps and pictures need
        none; what asks the network anew does.

    Raises
    ------
    UserError
        The folder is not a run.
    """
    return opened(analysis.open_run(folder, network=network).workspace)


def opened(workspace: Workspace) -> Run:
    """Return a run whose concepts there are at any number."""
    return Run(workspace, Makers(at_number, _name))


def _name(run: Run, concept_id: int, name: str) -> None:
    name_concept(run.folder, concept_id, name)


def at_number(run: Run, n: int) -> Run:
    """Return the run of n concepts beside a run, of its tree; made where it is not there yet."""
    folder = run.folder.absolute()
    beside = folder.with_name(f"{folder.name}-at-{n}")
    if is_run(beside):
        found = Workspace.open(beside)
        check_same_tree(
            found.record.tree_of, tree_of_run(run.workspace, beside, n), beside, run.folder
        )
        if found.is_finished():
            return opened(found)
    workspace = find_run({"from_run": folder, "at": n, "run": beside})
    execute(workspace, ALL)
    return opened(Workspace.open(workspace.folder))
