"""The table ``suspects``: concepts that move the network's answers away from the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..store import Suspects
from .column import CONCEPT_ID, FLOAT, INT, INT32, INTS, TEXT, TEXTS, Column, Table

SUSPECTS = Table(
    "suspects",
    "a concept that misleads the network",
    (
        CONCEPT_ID,
        Column("rank", INT32, "place among the suspects, from 1, by falling score"),
        Column(
            "score",
            FLOAT,
            "share of all images looked at that taking it out gives back at least (lower end, 95"
            " %), times how unlike the object of its images it is",
            "share",
        ),
        Column("pushes_to", TEXTS, "classes that lose most probability when it is taken out"),
        Column("pushes_from", TEXTS, "labels that get most back"),
        Column("n_images", INT, "images looked at that hold it", "images"),
        Column("accuracy_with", FLOAT, "share right of these", "share"),
        Column(
            "accuracy_without",
            FLOAT,
            "share right of images that do not hold it, labels in the same proportions; null: all"
            " hold it",
            "share",
        ),
        Column(
            "accuracy_ablated", FLOAT, "share right of its images once it is taken out", "share"
        ),
        Column("sentence", TEXT, "the evidence in words"),
        Column(
            "q_value",
            FLOAT,
            "false discovery rate of both steps: log odds that rise without it or errors that come"
            " with it, and its gain",
            "probability",
        ),
        Column("gain", FLOAT, "mean rise of its images' own class's probability", "probability"),
        Column("repaired", INT, "of its images, wrong as they are and right without it", "images"),
        Column("broken", INT, "the other way round", "images"),
        Column("with_concepts", INTS, "concepts taken out with it, of which each is a part"),
        Column("spread", FLOAT, "share of its presence that labels do not account for", "share"),
        Column("background", FLOAT, "share of its strength outside co-localized objects", "share"),
        Column("fixed", FLOAT, "how alike its places in the frame are, 0 to 1", "share"),
        Column("place", TEXT, "where in the frame it stands; null: anywhere"),
    ),
    order=("rank",),
    is_later=True,
)


def suspect_rows(
    found: Suspects, class_names: Sequence[str], label_names: dict[str, str]
) -> pd.DataFrame:
    """Return the table ``suspects``.

    Parameters
    ----------
    found : Suspects
    class_names : sequence of str
        The network's classes.
    label_names : dict of str to str
        What labels are called that are called otherwise than they are written.
    """
    rows = []
    for rank, each in enumerate(found.rows, start=1):
        named = {
            "rank": rank,
            "pushes_to": [class_names[index] for index in each["to"]],
            "pushes_from": [label_names.get(label, label) for label in each["labels"]],
        }
        row = {**each, **named, "place": each["place"] or None}
        rows.append(row | {"sentence": sentence(row, found.n_images, found.n_labels)})
    frame = pd.DataFrame(rows, columns=SUSPECTS.column_names)
    return frame.astype({"accuracy_without": np.float64})


def sentence(row: dict[str, Any], n_images: int, n_labels: int) -> str:
    """Write what is known of a suspect, for somebody who looks after a dataset.

    Parameters
    ----------
    row : dict
        Of the table, without the sentence.
    n_images, n_labels : int
        Images looked at, and labels of theirs.
    """
    words = (_place(row["place"]), _object(row["background"]))
    where = "".join(f", {each}" for each in words if each)
    together = row["with_concepts"]
    joined = f" (with {_and([f'concept {each}' for each in together])})" if together else ""
    labels = _labels(row["n_labels"], n_labels)
    repaired, broken = row["repaired"], row["broken"]
    with_it, without = _percent(row["accuracy_with"]), _without(row["accuracy_without"])
    said = (
        f"In {row['n_images']:,} of {n_images:,} images, of {labels}{where}: with it"
        f" {with_it} are right,{without}; taking it"
        f" out{joined} makes {repaired:,} right and {broken:,} wrong{_returned(row)}."
    )
    if not row["pushes_to"] or not row["pushes_from"]:
        return said
    return f"{said} It pushes to {_and(row['pushes_to'])} from {_and(row['pushes_from'])}."


def _labels(n: int, n_labels: int) -> str:
    if n_labels == 1:
        return "the one label"
    return f"all {n_labels} labels" if n == n_labels else f"{n} of {n_labels} labels"


def _place(place: str | None) -> str:
    return f"{place} of the frame" if place else ""


def _object(background: float) -> str:
    if background >= 2 / 3:
        return "mostly outside the objects"
    return "mostly on the objects" if background <= 1 / 3 else ""


def _without(accuracy: float | None) -> str:
    return (
        " and no image is without it" if accuracy is None else f" without it {_percent(accuracy)}"
    )


def _returned(row: dict[str, Any]) -> str:
    """Say what share of the lost accuracy comes back, where any was lost and some does."""
    if row["accuracy_without"] is None:
        return ""
    lost = row["accuracy_without"] - row["accuracy_with"]
    back = row["accuracy_ablated"] - row["accuracy_with"]
    if lost <= 0 or back <= 0:
        return ""
    return f", which returns {_percent(min(1.0, back / lost))} of the lost accuracy"


def _and(names: Sequence[str]) -> str:
    """Join names: a, b and c."""
    return " and ".join(each for each in (", ".join(names[:-1]), *names[-1:]) if each)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
