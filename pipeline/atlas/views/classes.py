"""The page of one class: the concepts that make it, and those with which the network fails."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..catalogue import Catalogue
from ..charts import bars
from ..class_facts import ClassFacts
from ..formats import Row
from ..page import Material, Page

_N_MAKERS, _N_SHOTS, _N_FAILS = 12, 18, 12
FALSE_SHARE = 0.05  # Benjamini-Hochberg, as everywhere


def pages(material: Material) -> Iterator[Page]:
    """Give a page for each class."""
    for each in material.book.class_names:
        make = partial(class_view, material.book, material.facts, each)
        yield Page(f"classes/{each}.html", make, "class.html")


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
        "labels": [(book.label_name(label), hits, n) for label, hits, n in labels],
        "fails": _fails(book, {label for label, _, _ in labels}),
        "galleries": _galleries(book, class_id),
        "query": _query(class_id),
        "previous": ids[at - 1],
        "next": ids[(at + 1) % len(ids)],
    }


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
    """Concepts that come with more errors on these labels, the surest difference first."""
    found = []
    for concept_id, of_concept in book.labels.items():
        for each in of_concept:
            with_it, without = each["error_rate_with"], each["error_rate_without"]
            if str(each["label"]) in labels and with_it is not None and without is not None:
                name, label = book.name(concept_id), book.label_name(str(each["label"]))
                sure = each["q_value"] is not None and each["q_value"] <= FALSE_SHARE
                found.append(
                    {**each, "gap": with_it - without, "name": name, "label": label, "sure": sure}
                )
    worse = [each for each in found if each["gap"] > 0]

    def rank(each: Row) -> tuple[float, float, int]:
        q_value = 1.0 if each["q_value"] is None else float(each["q_value"])
        return q_value, -each["gap"], each["concept_id"]

    return sorted(worse, key=rank)[:_N_FAILS]


def _galleries(book: Catalogue, class_id: int) -> list[dict[str, Any]]:
    """Images of the atlas: of it but taken for another, taken for it wrongly, and rightly."""
    right: list[dict[str, Any]] = []
    wrong: list[dict[str, Any]] = []
    missed: list[dict[str, Any]] = []
    for image in book.images.values():
        taken = image["pred_class"] == class_id
        if not taken and class_id not in book.classes_of(image):
            continue
        shot = {"image": image, "caption": book.captions[int(image["image_id"])]}
        wrongly = shot["caption"]["taken"] is not None
        (missed if not taken else wrong if wrongly else right).append(shot)
    kinds = (
        ("missed", "Missed", "labelled as it, taken for another", missed),
        ("wrong", "Taken for it wrongly", "labelled as another", wrong),
        ("right", "Predicted as it", "", right),
    )
    return [
        {"kind": kind, "title": title, "hint": hint, "shots": shots[:_N_SHOTS]}
        for kind, title, hint, shots in kinds
        if shots
    ]
