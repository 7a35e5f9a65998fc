"""The page of one class: the concepts that make it, and those with which the network fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.atlas.catalogue import Catalogue
from pipeline.atlas.charts import bars
from pipeline.atlas.formats import Row, rows

_N_MAKERS, _N_SHOTS, _N_FAILS = 12, 24, 12


@dataclass(frozen=True)
class ClassFacts:
    """What the tables say of each predicted class.

    Attributes
    ----------
    n_images : dict of int to int
        Images predicted as the class.
    contribution : dict of int to numpy.ndarray
        float64 (k,), mean contribution of each concept over those images; NaN where not known.
    labels : dict of int to list of (str, int, int)
        Dataset labels whose images are mostly predicted as the class: label, how many of them are,
        how many there are.
    """

    n_images: dict[int, int]
    contribution: dict[int, npt.NDArray[np.float64]]
    labels: dict[int, list[tuple[str, int, int]]]


def class_facts(book: Catalogue) -> ClassFacts:
    """Sum up image_concepts and images by predicted class."""
    images = book.data.tables["images"].dropna(subset=["pred_class"])
    predicted = images["pred_class"].to_numpy(np.int64)
    at = np.searchsorted(book.presence.image_ids, images["image_id"].to_numpy(np.int64))
    contribution, n_images = {}, {}
    order = np.argsort(predicted, kind="stable")
    classes, starts = np.unique(predicted[order], return_index=True)
    for class_id, members in zip(classes.tolist(), np.split(order, starts[1:]), strict=False):
        values = book.presence.contribution[at[members]].astype(np.float64)
        contribution[class_id], n_images[class_id] = values.mean(axis=0), len(members)
    return ClassFacts(n_images, contribution, _labels_by_class(images))


def class_view(book: Catalogue, facts: ClassFacts, class_id: int) -> dict[str, Any]:
    """Everything the page of a class shows."""
    ids = list(book.class_names)
    at = ids.index(class_id)
    labels = facts.labels.get(class_id, [])
    return {
        "id": class_id,
        "name": book.class_names[class_id],
        "n_images": facts.n_images.get(class_id, 0),
        "makers": _makers(book, facts.contribution.get(class_id)),
        "named": [
            {"id": each, "name": book.name(each), "prob": row["top_prob"]}
            for each, row in book.concepts.items()
            if row["top_class"] == class_id
        ],
        "labels": labels,
        "fails": _fails(book, {label for label, _, _ in labels}),
        "shots": [row for row in book.images.values() if row["pred_class"] == class_id][:_N_SHOTS],
        "query": _query(class_id),
        "previous": ids[at - 1],
        "next": ids[(at + 1) % len(ids)],
    }


def _labels_by_class(images: pd.DataFrame) -> dict[int, list[tuple[str, int, int]]]:
    """Give each dataset label to the class that most of its images are predicted as."""
    votes = images.groupby(["label", "pred_class"]).size().rename("votes").reset_index()
    totals = votes.groupby("label")["votes"].sum()
    winners = votes.sort_values(["label", "votes", "pred_class"], ascending=[True, False, True])
    labels: dict[int, list[tuple[str, int, int]]] = {}
    for each in rows(winners.drop_duplicates("label")):
        entry = (str(each["label"]), int(each["votes"]), int(totals[each["label"]]))
        labels.setdefault(int(each["pred_class"]), []).append(entry)
    return labels


def _query(class_id: int) -> str:
    return (
        "run.sql(\n"
        '    "select concept_id, avg(contribution) as logits from image_concepts "\n'
        f'    "join images using (image_id) where pred_class = {class_id} "\n'
        '    "group by concept_id order by logits desc"\n'
        ")"
    )


def _makers(book: Catalogue, contribution: npt.NDArray[np.float64] | None) -> dict[str, Any] | None:
    """The concepts with the largest mean contribution, for and against, as bars."""
    if contribution is None or not np.isfinite(contribution).any():
        return None
    values = np.nan_to_num(contribution)
    order = np.argsort(-np.abs(values), kind="stable")[:_N_MAKERS]
    order = order[np.argsort(-values[order], kind="stable")]
    ids = [int(each) for each in book.presence.concept_ids[order]]
    made, zero = bars([float(each) for each in values[order]])
    named = [{"id": each, "name": book.name(each)} for each in ids]
    return {"rows": list(zip(named, values[order].tolist(), made, strict=True)), "zero": zero}


def _fails(book: Catalogue, labels: set[str]) -> list[Row]:
    """Concepts that come with more errors on these labels, the largest difference first."""
    found = []
    for concept_id, of_concept in book.labels.items():
        for each in of_concept:
            with_it, without = each["error_rate_with"], each["error_rate_without"]
            if str(each["label"]) in labels and with_it is not None and without is not None:
                gap = with_it - without
                found.append({**each, "gap": gap, "name": book.name(concept_id)})
    worse = [each for each in found if each["gap"] > 0]
    return sorted(worse, key=lambda each: (-each["gap"], each["concept_id"]))[:_N_FAILS]
