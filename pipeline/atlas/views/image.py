"""The page of one image: its concepts in one picture, and what they add to the prediction."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from ..catalogue import Catalogue
from ..charts import waterfall
from ..formats import fixed, percent
from ..page import Material, Page

_N_STEPS = 10


def pages(material: Material) -> Iterator[Page]:
    """Give a page for each image that is shown."""
    novelty = novelty_ranks(material.book)
    for each in material.book.images:
        known = novelty.get(each), material.made[each].logits
        make = partial(image_view, material.book, each, *known)
        yield Page(f"images/{each}.html", make, "image.html")


def image_view(
    book: Catalogue, image_id: int, novelty: float | None, logits: tuple[float, float] | None
) -> dict[str, Any]:
    """Everything the page of an image shows.

    `novelty` is its rank (0..1) by residual, `logits` the predicted class's logit for D(0) and for
    the image.
    """
    image, (before, after) = book.images[image_id], book.beside[image_id]
    return {
        "image": image,
        "caption": book.captions[image_id],
        "concepts": _concepts(book, image_id),
        "regions": _regions(book, image_id),
        "objects": _objects(book, image_id),
        "waterfall": _waterfall(book, image_id, logits),
        "novelty": novelty,
        "has_mask": book.data.object_mask is not None,
        "class_pages": book.class_names,
        "query": f"run.heatmap({image_id})  # float32 (concepts, height, width)",
        "previous": before,
        "next": after,
    }


def novelty_ranks(book: Catalogue) -> dict[int, float]:
    """For each shown image the share of all images whose residual is smaller."""
    known = book.data.sql("select residual from images where residual is not null")
    order = np.sort(known["residual"].to_numpy(np.float64))
    return {
        image_id: float(np.searchsorted(order, image["residual"]) / len(order))
        for image_id, image in book.images.items()
        if image["residual"] is not None
    }


def _concepts(book: Catalogue, image_id: int) -> list[tuple[int, float, float]]:
    """The concepts present, the strongest first: id, largest strength, share of the image."""
    row = book.presence.row(image_id)
    peaks, areas = book.presence.peak[row].tolist(), book.presence.area[row].tolist()
    found = [
        (concept_id, peak, area)
        for concept_id, peak, area in zip(
            book.presence.concept_ids.tolist(), peaks, areas, strict=True
        )
        if peak > 0 and peak >= (book.concepts[concept_id]["presence_threshold"] or 0.0)
    ]
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _regions(book: Catalogue, image_id: int) -> list[tuple[int, str, str, str, str, str]]:
    """Regions, the strongest first: concept, box for the script; x, y, area, strength to read."""
    found = [each for each in book.regions.get(image_id, []) if each["concept_id"] in book.concepts]
    return [
        (
            each["concept_id"],
            f"{each['x0']},{each['y0']},{each['x1']},{each['y1']}",
            f"{round(each['x0'])}–{round(each['x1'])}",
            f"{round(each['y0'])}–{round(each['y1'])}",
            percent(each["area"]),
            fixed(each["score"]),
        )
        for each in sorted(found, key=lambda each: -each["score"])
    ]


def _objects(book: Catalogue, image_id: int) -> list[dict[str, Any]]:
    """Co-localized objects: their share of the image, and the concepts they are made of."""
    return [
        {
            "share": each["area"],
            "concepts": [int(one) for one in each["concept_ids"] if int(one) in book.concepts],
        }
        for each in book.objects.get(image_id, [])
    ]


def _waterfall(
    book: Catalogue, image_id: int, logits: tuple[float, float] | None
) -> dict[str, Any] | None:
    """From the head's answer to nothing to the predicted class's logit, concept by concept.

    The largest contributions come first, the small ones in one step; what the concepts leave is the
    last step. Where the logits are not known, the steps start at zero and end at their sum.
    """
    values = book.presence.contribution[book.presence.row(image_id)].astype(np.float64)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) == 0:
        return None
    order = known[np.argsort(-np.abs(values[known]), kind="stable")]
    shown = [each for each in order[:_N_STEPS] if values[each] != 0]
    others = [each for each in order if each not in shown]
    steps: list[tuple[int | None, str, float]] = []
    for each in shown:
        concept_id = int(book.presence.concept_ids[each])
        steps.append((concept_id, book.name(concept_id), float(values[each])))
    rest = float(values[others].sum())
    if others and rest:
        steps.append((None, f"{len(others)} other concepts", rest))
    end = "all concepts"
    if logits is not None:
        nothing, logit = logits
        steps.insert(0, (None, "without any concept", nothing))
        left = logit - sum(value for _, _, value in steps)
        steps.append((None, "not explained by concepts", left))
        end = "logit of the class"
    made, total, zero = waterfall([value for _, _, value in steps])
    return {
        "rows": list(zip(steps, made, strict=True)),
        "end": end,
        "sum": sum(value for _, _, value in steps),
        "total": total,
        "zero": zero,
    }
