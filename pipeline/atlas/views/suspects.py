"""The page of suspects: concepts that move the network's answers away from the labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ..catalogue import Catalogue
from ..charts import bars
from ..formats import Row, rows
from ..page import Material, Page
from .concept import slider

_N_SHOTS = 6


def pages(material: Material) -> Iterator[Page]:
    """Give the page of suspects."""
    make = partial(suspects_view, material.book)
    yield Page("suspects.html", make, "suspects.html", link="Suspects")


def suspects_view(book: Catalogue) -> dict[str, Any]:
    """Everything the page of suspects shows."""
    found = [
        each for each in rows(book.data.tables["suspects"]) if each["concept_id"] in book.concepts
    ]
    return {
        "suspects": [_suspect(book, each) for each in found],
        "slider": slider(
            book.concepts[found[0]["concept_id"]]["presence_threshold"] if found else 0
        ),
        "reason": book.data.no_suspects,
        "query": 'run.suspects()\n\nrun.sql("from suspects order by rank")',
    }


def _suspect(book: Catalogue, row: Row) -> dict[str, Any]:
    concept_id = int(row["concept_id"])
    shares = [
        ("with it", row["accuracy_with"]),
        ("taken out", row["accuracy_ablated"]),
        ("images without it", row["accuracy_without"]),
    ]
    known = [(words, float(value)) for words, value in shares if value is not None]
    made, zero = bars([value for _, value in known], least=1.0)
    strongest = book.examples[concept_id].strongest
    misled = [each for each in strongest if book.captions[each]["taken"] is not None]
    shown = [*misled, *(each for each in strongest if each not in misled)][:_N_SHOTS]
    return {
        "row": row,
        "id": concept_id,
        "name": book.name(concept_id),
        "others": [{"id": each, "name": book.name(each)} for each in row["with_concepts"]],
        "shares": list(zip(known, made, strict=True)),
        "zero": zero,
        "facts": [
            (
                "unlike its labels",
                row["spread"],
                "share of its presence that labels do not account for",
            ),
            ("outside objects", row["background"], "share of its strength there"),
            ("one place", row["fixed"], "how alike its places in the frame are"),
        ],
        "shots": [{"image": book.images[each], "caption": book.captions[each]} for each in shown],
    }
