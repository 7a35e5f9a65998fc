"""The export stage: shards, bank and classification become the tables of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from .. import plugins
from ..analysis.naming import NO_NAMER, describe, name_concepts, strongest_by_image
from ..analysis.objects import groups_of, read_objects
from ..analysis.suspects import suspects_of
from ..classify import top_classes
from ..errors import UserError
from ..runs.workspace import Workspace
from ..store.encoding import read_sealed
from ..system import files
from ..system.lanes import in_order, lanes
from ..system.progress import bar
from ..tables import (
    TABLES,
    ConceptFacts,
    Facts,
    ShardRows,
    TableWriter,
    best_labels,
    class_rows,
    concept_rows,
    duplicate_rows,
    error_rows,
    label_rows,
    level_rows,
    pair_rows,
    shard_rows,
    suspect_rows,
    tables_with,
    telling_labels,
    to_arrow,
    tree_rows,
    truth_columns,
    verdict_rows,
    with_head,
)
from .extract import list_rejected
from .factorize import K_METRICS


def export(workspace: Workspace) -> dict[str, int | float]:
    """Write all tables of a run, and the views over them.

    Returns
    -------
    dict
        Rows by table.
    """
    found = workspace.classification
    folder = workspace.table_path("images").parent
    evidence = workspace.whole("bank", "k_metrics.json")
    with files.scratch(folder) as scratch:
        names, classes = workspace.class_names, workspace.class_of_label
        link = workspace.record.link
        facts = Facts(workspace.bank, found, names, classes, pd.DataFrame(), link=link)
        tables = tables_with(workspace.config.plugins_of(plugins.COLUMNS))
        writer = TableWriter(folder, scratch, tables, facts)
        images, holds, coverage = _write_shards(workspace, writer)
        wrong = 1 - images["correct"].to_numpy(np.float64, na_value=np.nan)
        is_copy = images["split"] == "copy"
        counted = [
            () if copy else each for each, copy in zip(images["labels"], is_copy, strict=True)
        ]
        labels = label_rows(holds, counted, wrong)
        best = best_labels(labels, workspace.bank.k)
        errors = error_rows(holds, counted, wrong)
        pairs = pair_rows(workspace.bank, holds[~is_copy])
        verdicts = verdict_rows(facts, telling_labels(labels, workspace.bank.k))
        own = [row for row in found.fidelity if row.get("k") == workspace.bank.k]
        named = _names(workspace, labels, pairs, verdicts)
        frames = {
            "images": images,
            "concepts": concept_rows(
                ConceptFacts(
                    **vars(facts),
                    n_images=holds.sum(0),
                    coverage=coverage,
                    labels=best,
                    verdicts=verdicts,
                    errors=errors,
                    names=named,
                )
            ),
            "concept_classes": class_rows(found, names, link),
            "concept_labels": with_head(labels, found, classes, link),
            "concept_pairs": pairs,
            "k_metrics": _frame("k_metrics", _k_metrics(evidence), evidence),
            "fidelity": _frame("fidelity", own, workspace.classes_path),
            "concept_levels": level_rows(workspace.bank, found.fidelity),
            "rejected": pd.DataFrame(
                [vars(entry) for entry in list_rejected(workspace)], columns=["path", "reason"]
            ).astype(object),
            "duplicates": _duplicates(workspace),
            "concept_tree": tree_rows(workspace.bank, named["name"].tolist()),
            "suspects": suspect_rows(
                suspects_of(workspace),
                names,
                {each: names[index] for each, index in classes.items()},
            ),
        }
        for name, frame in frames.items():
            writer.add(name, frame)
        return dict(writer.finish())


def _write_shards(
    workspace: Workspace, writer: TableWriter
) -> tuple[pd.DataFrame, NDArray[np.bool_], NDArray[np.float64]]:
    """Write the rows of all shards, and return what the other tables need of them.

    Returns
    -------
    (DataFrame, ndarray, ndarray)
        The images; bool (images, k), which of them holds which concept; float64 (k,), coverage.
    """
    store, bank = workspace.heatmaps, workspace.bank
    foreground = read_objects(workspace).coarse
    images, holds = [], []
    present, n_positions = np.zeros(bank.k, dtype=np.int64), 0

    def rows_of(shard: int) -> ShardRows:
        arrays = store.read(shard)
        groups = groups_of(workspace, arrays["image_id"], top_classes(arrays["logits"]))
        link = workspace.record.link
        return shard_rows(arrays, bank.thresholds, workspace.grid, foreground, groups, link)

    with bar("export", store.n_shards, "shards") as shown, lanes() as pool:
        for rows in in_order(pool, rows_of, range(store.n_shards)):
            for name in ("image_concepts", "regions", "objects"):
                writer.add(name, getattr(rows, name))
            images.append(rows.images)
            holds.append(_holds(rows, bank.k))
            present += rows.present_positions
            n_positions += rows.n_positions
            shown.update()
    return _images(workspace, images), np.concatenate(holds), present / max(1, n_positions)


def _holds(rows: ShardRows, k: int) -> NDArray[np.bool_]:
    """Return which image of a shard holds which concept, bool (images, k)."""
    holds = np.zeros((len(rows.images), k), dtype=np.bool_)
    held = rows.image_concepts[rows.image_concepts["area"] > 0]
    at = pd.Index(rows.images["image_id"]).get_indexer(held["image_id"])
    holds[at, held["concept_id"].to_numpy()] = True
    return holds


def _images(workspace: Workspace, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Join what the shards say of each image to what the listing says, in the shards' order."""
    rows = pd.concat(parts, ignore_index=True)
    joined = rows.merge(workspace.images, on="image_id", validate="one_to_one")
    names = workspace.class_names
    joined["pred_label"] = [
        None if pd.isna(index) else names[int(index)] for index in joined["pred_class"]
    ]
    return truth_columns(joined, names, workspace.class_of_label)


def _names(
    workspace: Workspace, labels: pd.DataFrame, pairs: pd.DataFrame, verdicts: pd.DataFrame
) -> pd.DataFrame:
    """Return what each concept is called, and what that rests on."""
    described = []
    if workspace.config.namer != NO_NAMER:
        described = describe(workspace, strongest_by_image(workspace), labels, pairs, verdicts)
    named = [
        (None, None) if each is None else (each.ranked[0].text, each.evidence)
        for each in name_concepts(workspace, described)
    ]
    return pd.DataFrame(named, columns=["name", "name_evidence"], dtype=object)


def _duplicates(workspace: Workspace) -> pd.DataFrame:
    found = workspace.duplicates
    is_identical = found.original == found.first
    return duplicate_rows(workspace.images.sort_index(), found.first, found.agreement, is_identical)


def _k_metrics(path: Path) -> list[dict[str, object]]:
    """Read the evidence for the number of concepts.

    Raises
    ------
    UserError
        It is damaged, or no evidence.
    """
    rows = read_sealed(path, K_METRICS).get("rows")
    if not isinstance(rows, list) or not all(map(_is_evidence, rows)):
        raise UserError(f"{path} is damaged (its rows are not of numbers of concepts)")
    return rows


_NO_ROWS = (
    LookupError, TypeError, ValueError, AttributeError, OverflowError, pa.ArrowException,
)  # fmt: skip
"""What comes of values that a table cannot take."""


def _is_evidence(row: object) -> bool:
    k = row.get("k") if isinstance(row, dict) else None
    return isinstance(k, int) and k > 0


def _frame(name: str, rows: list[dict[str, object]], path: Path) -> pd.DataFrame:
    """Bring rows that a file holds to a table.

    Raises
    ------
    UserError
        They are none of that table's.
    """
    try:
        frame = pd.DataFrame(rows, columns=TABLES[name].column_names).astype(object)
        to_arrow(TABLES[name], frame)
    except _NO_ROWS as error:
        raise UserError(
            f"{path} is damaged (its rows are not of the table {name}: {error})"
        ) from error
    return frame
