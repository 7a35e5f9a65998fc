"""The front page: a card per concept, their map, and how the run went."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np

from ...analysis import kind_words, sureness
from ...escape import fitted
from ..catalogue import Catalogue
from ..class_facts import ClassFacts
from ..layout import concept_map, label_places
from ..page import Material, Page
from .overview import overview

MAP_HEIGHT, MAP_ASPECT, MAP_TILE = 460, 1.9, 72
LETTERS, LETTER = 11, 5.9
"""Size of the map's letters, as in the style sheet, and about how wide one is."""

_LONGEST = 18
_N_NAMED = 36  # beyond so many concepts the map's pictures speak for themselves


def pages(material: Material) -> Iterator[Page]:
    """Give the front page."""
    yield Page("index.html", partial(index_view, material.book, material.facts), "index.html")


def index_view(book: Catalogue, facts: ClassFacts) -> dict[str, Any]:
    """Everything the front page shows."""
    cards = _cards(book)
    classes = [
        {"id": class_id, "name": name, "n": facts.n_images.get(class_id, 0)}
        for class_id, name in book.class_names.items()
    ]
    return {
        "summary": dict(book.data.summary),
        "siblings": [
            {"layer": layer, "href": f"../../{quote(name)}/atlas/index.html"}
            for layer, name in book.data.siblings.items()
        ],
        "cards": cards,
        "kinds": sorted({each["kind"] for each in cards if each["kind"]}),
        "classes_of_cards": sorted(
            {(each["class"], each["label"]) for each in cards if each["label"]},
            key=lambda each: each[::-1],
        ),
        "map": _map(book),
        "run": overview(book),
        "classes": sorted(classes, key=lambda each: (-each["n"], each["name"], each["id"])),
    }


def _cards(book: Catalogue) -> list[dict[str, Any]]:
    cards = []
    for concept_id, concept in book.concepts.items():
        said = [str(each["label"]) for each in book.classes.get(concept_id, []) if each["label"]]
        held = [
            str(each["label"])
            for each in book.labels.get(concept_id, [])
            if each["lift"] and each["lift"] > 1
        ]
        held = [word for label in held[:6] for word in (label, book.label_name(label))]
        words = list(dict.fromkeys([book.name(concept_id), *said[:6], *held]))
        cards.append(
            {
                "id": concept_id,
                "name": book.name(concept_id),
                "label": concept["top_label"],
                "class": concept["top_class"],
                "kind": kind_words.kind_of(concept),
                "unsure": sureness.times(concept) if sureness.is_unsure(concept) else "",
                "concept": concept,
                "also": book.also(concept_id, 2),
                "words": " ".join(words).lower(),
                "has_crops": bool(book.examples[concept_id].strongest),
            }
        )
    return cards


def _map(book: Catalogue) -> dict[str, Any]:
    """Discs in drawing units; the size tells the energy, the order puts large ones below."""
    concepts = list(book.concepts.values())
    points = concept_map([each["vector"] for each in concepts], aspect=MAP_ASPECT)
    energy = np.array([each["energy"] or 0.0 for each in concepts], np.float64)
    share = np.sqrt(energy / max(float(energy.max(initial=0.0)), 1e-12))
    biggest = min(40.0, 0.35 * MAP_HEIGHT * float(np.sqrt(MAP_ASPECT / max(1, len(concepts)))))
    margin = biggest + 16
    width = MAP_HEIGHT * MAP_ASPECT
    columns = max(1, int(np.ceil(np.sqrt(len(concepts)))))
    names = [book.name(each) for each in book.concepts]
    discs: list[dict[str, Any]] = []
    for at, (concept, (x, y)) in enumerate(zip(concepts, points, strict=True)):
        concept_id = int(concept["concept_id"])
        discs.append(
            {
                "id": concept_id,
                "name": book.name(concept_id),
                "twin": names.count(book.name(concept_id)) > 1,
                "x": round(margin + float(x) / MAP_ASPECT * (width - 2 * margin), 1),
                "y": round(margin + float(y) * (MAP_HEIGHT - 2 * margin), 1),
                "r": round(biggest * (0.55 + 0.45 * float(share[at])), 1),
                "tile": (at % columns * MAP_TILE, at // columns * MAP_TILE),
            }
        )
    discs.sort(key=lambda each: -each["r"])
    for each in discs:
        each["text"] = fitted(each["name"], _LONGEST) + (f" {each['id']}" if each["twin"] else "")
    circles = [(each["x"], each["y"], each["r"]) for each in discs]
    widths = [LETTER * len(each["text"]) for each in discs]
    places = label_places(circles, widths, LETTERS, width)
    for each, place in zip(discs, places.tolist(), strict=True):
        each["text_x"], each["text_y"] = (round(number, 1) for number in place)
    lines = -(-len(concepts) // columns) if concepts else 1
    return {
        "width": round(width),
        "height": MAP_HEIGHT,
        "discs": discs,
        "sheet": (columns * MAP_TILE, lines * MAP_TILE),
        "tile": MAP_TILE,
        "named": len(concepts) <= _N_NAMED,
    }
