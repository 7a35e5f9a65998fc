"""Notebooks run from the first cell to the last, on the bundled sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MISLED = ("errors", "suspects")  # of a network that they train


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.long] if path.stem in MISLED else [], id=path.stem)
        for path in NOTEBOOKS
    ],
)
def test_a_notebook_runs(
    path: Path, session_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first of those that share a run makes it.
    name = "misled" if path.stem in MISLED else "run"
    monkeypatch.setenv("RUN", str(session_folder("notebooks") / name))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures inline, as readers see them
    read: Callable[[Path, int], NotebookNode] = nbformat.read  # which has no types of its own
    notebook = read(path, 4)
    NotebookClient(
        notebook, timeout=500, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(bool(each) for each in outputs) >= 6
    shown = [out.get("data", {}) for each in outputs for out in each]
    plots = [data for data in shown if "image/png" in data]
    pictures = [data for data in shown if "data:image/jpeg" in data.get("text/html", "")]
    assert plots
    assert len(plots) + len(pictures) >= 3
