"""What the tables say of each predicted class; several pages show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .catalogue import Catalogue
from .formats import rows
from .selection import Sql


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
    sql, concept_ids = book.data.sql, book.presence.concept_ids
    counts = sql("select pred_class, count(*) as n from images group by pred_class order by all")
    known = counts.dropna(subset=["pred_class"])
    n_images = dict(zip(known["pred_class"].astype(int), known["n"].astype(int), strict=True))
    contribution = {each: np.zeros(len(concept_ids)) for each in n_images}
    # Where an image has no row, the concept is nowhere in it and adds nothing.
    sums = sql(
        "select pred_class, concept_id, sum(contribution) as total from image_concepts"
        " join images using (image_id) where pred_class is not null group by all order by all"
    )
    for each in rows(sums):
        column, class_id = book.presence.column(each["concept_id"]), int(each["pred_class"])
        total = np.nan if each["total"] is None else each["total"]
        contribution[class_id][column] = total / n_images[class_id]
    return ClassFacts(n_images, contribution, _labels_by_class(sql))


def _labels_by_class(sql: Sql) -> dict[int, list[tuple[str, int, int]]]:
    """Give each dataset label to the class that most of its images are predicted as."""
    is_listed = "labels" in sql("select * from images limit 0")  # not by earlier versions
    label = "unnest(labels)" if is_listed else "label"
    winners = sql(
        f"with each as (select {label} as label, pred_class from images),"
        " votes as (select label, pred_class, count(*) as n from each"
        " where label is not null and pred_class is not null group by all)"
        " select label, pred_class, n, sum(n) over (partition by label) as total from votes"
        " qualify row_number() over (partition by label order by n desc, pred_class) = 1"
        " order by label"
    )
    labels: dict[int, list[tuple[str, int, int]]] = {}
    for each in rows(winners):
        entry = (str(each["label"]), int(each["n"]), int(each["total"]))
        labels.setdefault(int(each["pred_class"]), []).append(entry)
    return labels
