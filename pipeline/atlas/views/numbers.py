"""The page of all numbers of concepts: a slider through the tree, and what splits into what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...escape import visible
from ..catalogue import Catalogue
from ..charts import Chart, Series, line_chart
from ..formats import Row, rows
from ..page import Material, Page

N_PICTURES = 6
"""Images whose composites follow the slider."""

N_STEPS = 160
"""Places of the slider at most: every number up to some, then ever wider apart."""

_SHARES = frozenset(
    ("energy", "loss", "share", "error", "heldout_error", "agreement", "kl", "of_several")
)

START = 32
"""Number of concepts that the page opens with, or the level above the leaves nearest to it."""


def pages(material: Material) -> Iterator[Page]:
    """Give the page, where the run has a tree of several concepts."""
    if len(material.book.data.tables["concept_tree"]) > 1 and len(material.book.concepts) > 1:
        make = partial(numbers_view, material)
        yield Page("numbers.html", make, "numbers.html", link="Numbers")


def numbers_view(material: Material) -> dict[str, Any]:
    """Everything the page shows."""
    book, tables = material.book, material.book.data.tables
    tree = [_whole(each) for each in rows(tables["concept_tree"].sort_values("concept_id"))]
    levels = [_whole(each) for each in rows(tables["concept_levels"].sort_values("n_concepts"))]
    k = sum(each["n_leaves"] == 1 for each in tree)
    steps = _steps(k)
    fewer = [each["n_concepts"] for each in levels if each["n_concepts"] < k] or [k]
    start = min(fewer, key=lambda n: abs(n - START))
    return {
        "k": k,
        "steps": steps,
        "at": min(range(len(steps)), key=lambda i: abs(steps[i] - start)),
        "start": start,
        "levels": [_level(each) for each in levels],
        "charts": _charts(levels),
        "pictures": [book.images[each] for each in _pictures(book, tree, start)],
        "data": json.dumps(_data(book, tree, steps), separators=(",", ":")),
        "roots": _nested(tree, levels),
        "query": f'run.at({start})\n\nrun.sql("from concept_tree where {start} between n_least and'
        ' n_most order by energy desc")',
    }


def _whole(row: Row) -> Row:
    """Return a row with whole numbers where it has numbers of things, which may come as floats."""
    return {
        name: value if name in _SHARES or not isinstance(value, float) else int(value)
        for name, value in row.items()
    }


def _steps(k: int) -> list[int]:
    """Give the numbers that the slider stops at."""
    every = min(k, N_STEPS // 2)
    wider = np.geomspace(every, k, N_STEPS - every).round().astype(int).tolist()
    return sorted({*range(1, every + 1), *wider})


def _level(row: Row) -> dict[str, Any]:
    error = row["heldout_error"] if row["heldout_error"] is not None else row["error"]
    return {"n": row["n_concepts"], "explained": 1 - error**2, "row": row}


def _charts(levels: Sequence[Row]) -> list[tuple[str, str, Chart]]:
    told = [(row["n_concepts"], _level(row)["explained"], row["agreement"]) for row in levels]
    is_heldout = all(row["heldout_error"] is not None for row in levels)
    images = "of held-out images" if is_heldout else "of a sample of the images fitted to"
    made = []
    for title, hint, values in (
        ("Explained energy", images, [(n, explained) for n, explained, _ in told]),
        ("Agreement of the network", "on the concepts alone", [(n, same) for n, _, same in told]),
    ):
        points = [(float(n), float(value)) for n, value in values if value is not None]
        chart = line_chart([Series(title, points)], log_x=True) if len(points) > 1 else None
        if chart:
            made.append((title, hint, chart))
    return made


def _data(book: Catalogue, tree: Sequence[Row], steps: Sequence[int]) -> dict[str, Any]:
    """Give what the script needs of every node.

    A node has the colour of the stronger of its two parts; the weaker gets the next one when they
    split, so colours stay as the number grows.
    """
    k = (len(tree) + 1) // 2
    made_of: dict[int, list[int]] = {}
    for row in tree:
        if row["merged_into"] is not None:
            made_of.setdefault(row["merged_into"], []).append(row["concept_id"])
    slot = [0] * len(tree)
    for node in range(len(tree) - 1, k - 1, -1):
        weaker, stronger = sorted(made_of[node], key=lambda each: tree[each]["energy"])
        slot[stronger], slot[weaker] = slot[node], len(tree) - node
    lengths = [float(np.linalg.norm(book.concepts[leaf]["vector"])) for leaf in range(k)]
    return {
        "k": k,
        "steps": list(steps),
        "parts": [made_of[node] for node in range(k, len(tree))],
        "names": [visible(_name(book, each)) for each in tree],
        "energy": [round(each["energy"] or 0.0, 6) for each in tree],
        "share": [None if each["share"] is None else round(each["share"], 3) for each in tree],
        "slot": slot,
        "length": [round(each, 5) for each in lengths],
        "crops": [bool(book.examples[leaf].strongest) for leaf in range(k)],
    }


def _name(book: Catalogue, row: Row) -> str:
    if row["n_leaves"] == 1:
        return book.name(row["concept_id"])
    return row["name"] or f"{row['n_leaves']} concepts"


def _pictures(book: Catalogue, tree: Sequence[Row], n: int) -> list[int]:
    """Choose images: the strongest of the strongest concept of each node at a number."""
    k = (len(tree) + 1) // 2
    above = {row["concept_id"]: row["merged_into"] for row in tree}
    there = [row for row in tree if row["n_least"] <= n <= row["n_most"]]
    best: dict[int, int] = {}
    inside = {row["concept_id"] for row in there}
    for leaf in range(k):
        node: int | None = leaf
        while node is not None and node not in inside:
            node = above[node]
        if node is not None and (
            node not in best or tree[leaf]["energy"] > tree[best[node]]["energy"]
        ):
            best[node] = leaf
    order = sorted(best, key=lambda node: -tree[node]["energy"])
    shown = [image for node in order for image in book.examples[best[node]].strongest[:1]]
    return list(dict.fromkeys(shown))[:N_PICTURES]


def _nested(tree: Sequence[Row], levels: Sequence[Row]) -> list[dict[str, Any]]:
    """Give the concepts of the coarsest level, and below each those that it splits into."""
    sizes = [each["n_concepts"] for each in levels]  # rising
    parent = _parents(tree)
    made: list[dict[int, dict[str, Any]]] = []
    for depth, n in enumerate(sizes):
        here: dict[int, dict[str, Any]] = {}
        for row in tree:
            if row["n_least"] <= n <= row["n_most"]:
                here[row["concept_id"]] = {"row": row, "below": [], "depth": depth}
        if made:
            for node, each in here.items():
                at = node
                while at not in made[-1]:
                    at = parent[at]
                made[-1][at]["below"].append(each)
        made.append(here)
    for level in made:
        for each in level.values():
            each["below"].sort(key=lambda one: -one["row"]["energy"])
    found = sorted(made[0].values(), key=lambda one: -one["row"]["energy"]) if made else []
    return [_alone(each) for each in found]


def _parents(tree: Sequence[Row]) -> dict[int, int]:
    return {row["concept_id"]: row["merged_into"] for row in tree if row["merged_into"] is not None}


def _alone(each: dict[str, Any]) -> dict[str, Any]:
    """Leave out levels at which a concept does not split."""
    while len(each["below"]) == 1:
        each = each["below"][0]
    return {**each, "below": [_alone(one) for one in each["below"]]}
