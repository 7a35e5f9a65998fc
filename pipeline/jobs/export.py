"""The export stage: shards, bank and classification become the tables of a run."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import files
from pipeline.jobs.extract import list_rejected
from pipeline.jobs.workspace import Workspace
from pipeline.localize import Foreground
from pipeline.progress import bar
from pipeline.store import Classification, read_classification
from pipeline.tables import (
    TABLES,
    ShardRows,
    class_rows,
    concept_rows,
    label_rows,
    pair_rows,
    shard_rows,
    to_arrow,
)


def export(workspace: Workspace) -> dict[str, int | float]:
    """Write all tables of a run.

    Returns
    -------
    dict
        Rows by table.
    """
    found = read_classification(workspace.classes_path)
    shards = _read_shards(workspace, found)
    images = _images(workspace, shards)
    image_concepts = _concat(shards, "image_concepts", ["concept_id", "max", "image_id"], [1, 0, 1])
    holds = _holds(workspace, images, image_concepts)
    n_positions = max(1, sum(part.n_positions for part in shards))
    coverage = np.sum([part.present_positions for part in shards], axis=0) / n_positions
    names = workspace.class_names
    frames = {
        "images": images,
        "concepts": concept_rows(workspace.bank, found, names, holds.sum(0), coverage),
        "concept_classes": class_rows(found, names),
        "concept_labels": label_rows(holds, images["label"], _errors(workspace, images)),
        "image_concepts": image_concepts,
        "regions": _concat(shards, "regions", ["concept_id", "image_id", "area"], [1, 1, 0]),
        "objects": _concat(shards, "objects", ["image_id", "area"], [1, 0]),
        "concept_pairs": pair_rows(workspace.bank, holds),
        "k_metrics": _frame("k_metrics", _k_metrics(workspace)),
        "fidelity": _frame("fidelity", found.fidelity),
        "rejected": _frame("rejected", [vars(entry) for entry in list_rejected(workspace)]),
    }
    for name, frame in frames.items():
        files.write_parquet(workspace.table_path(name), to_arrow(name, frame))
    return {name: len(frame) for name, frame in frames.items()}


def _read_shards(workspace: Workspace, found: Classification) -> list[ShardRows]:
    store = workspace.heatmaps
    rows = []
    foreground = Foreground(found.foreground_weights, found.foreground_threshold)
    with bar("export", store.n_shards, "shards") as shown:
        for arrays in store.iterate():
            rows.append(shard_rows(arrays, workspace.bank.thresholds, workspace.grid, foreground))
            shown.update()
    return rows


def _images(workspace: Workspace, shards: list[ShardRows]) -> pd.DataFrame:
    rows = pd.concat([part.images for part in shards], ignore_index=True)
    joined = rows.merge(workspace.listing.frame, on="image_id", validate="one_to_one")
    names = workspace.class_names
    joined["pred_label"] = [names[index] for index in joined["pred_class"]]
    ordered: pd.DataFrame = joined.sort_values("path", ignore_index=True)
    return ordered


def _concat(
    shards: list[ShardRows], name: str, by: list[str], ascending: list[int]
) -> pd.DataFrame:
    frame = pd.concat([getattr(part, name) for part in shards], ignore_index=True)
    order = [bool(each) for each in ascending]
    ordered: pd.DataFrame = frame.sort_values(by, ascending=order, kind="stable", ignore_index=True)
    return ordered


def _holds(
    workspace: Workspace, images: pd.DataFrame, image_concepts: pd.DataFrame
) -> NDArray[np.bool_]:
    """Return which image (in the order of `images`) holds which concept, bool (images, k)."""
    holds = np.zeros((len(images), workspace.bank.k), dtype=np.bool_)
    present = image_concepts[image_concepts["area"] > 0]
    rows = pd.Index(images["image_id"]).get_indexer(present["image_id"])
    holds[rows, present["concept_id"].to_numpy()] = True
    return holds


def _errors(workspace: Workspace, images: pd.DataFrame) -> NDArray[np.float64]:
    true = images["label"].map(workspace.class_of_label).to_numpy(dtype=np.float64)
    wrong: NDArray[np.float64] = (images["pred_class"].to_numpy() != true).astype(np.float64)
    wrong[np.isnan(true)] = np.nan
    return wrong


def _k_metrics(workspace: Workspace) -> list[dict[str, object]]:
    path = workspace.folder / "bank" / "k_metrics.json"
    rows: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _frame(name: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    columns = [column for column, _, _ in TABLES[name][1]]
    return pd.DataFrame(rows, columns=columns).astype(object)
