"""Choose the images that show a concept: strongest, diverse, borderline and random ones.

The choice bounds the size of a site, and the time it takes, at any size of dataset: of each concept
a few rows are read from either end of its stretch of image_concepts. It depends on the tables and
the seed only, so that a rerun chooses the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Sql = Callable[[str], pd.DataFrame]

POOL = 128
"""Strong images among which diverse ones are sought."""


@dataclass(frozen=True)
class Presence:
    """Rows of image_concepts as matrices: some images (n) in rows, concepts (k) in columns.

    Attributes
    ----------
    image_ids, concept_ids : numpy.ndarray
        int64 (n,) and (k,), ascending.
    mean, peak, area, contribution : numpy.ndarray
        float32 (n, k); mean and largest heatmap value in gauge units, share of positions that
        hold the concept, contribution in logits. 0 where there is no row, for there the concept
        is nowhere; contribution is NaN where it is not known.
    """

    image_ids: Ints
    concept_ids: Ints
    mean: Floats
    peak: Floats
    area: Floats
    contribution: Floats

    def row(self, image_id: int) -> int:
        """Row of an image."""
        return int(np.searchsorted(self.image_ids, image_id))

    def column(self, concept_id: int) -> int:
        """Column of a concept."""
        return int(np.searchsorted(self.concept_ids, concept_id))


@dataclass(frozen=True)
class Examples:
    """Ids of images that hold one concept, each tuple in the order to show."""

    strongest: tuple[int, ...]
    diverse: tuple[int, ...]
    borderline: tuple[int, ...]
    random: tuple[int, ...]

    def all(self) -> set[int]:
        """All the images, once each."""
        return {*self.strongest, *self.diverse, *self.borderline, *self.random}


def presence_of(sql: Sql, image_ids: Iterable[int], concept_ids: Iterable[int]) -> Presence:
    """Read the rows of some images from image_concepts into matrices."""
    images = np.unique(np.array(sorted(image_ids), np.int64))
    concepts = np.unique(np.array(sorted(concept_ids), np.int64))
    table = sql(
        "select image_id, concept_id, mean, max, area, contribution from image_concepts"
        f" where {among(images.tolist())}"
    )
    at = (
        np.searchsorted(images, table["image_id"].to_numpy(np.int64)),
        np.searchsorted(concepts, table["concept_id"].to_numpy(np.int64)),
    )

    def matrix(name: str) -> Floats:
        dense = np.zeros((len(images), len(concepts)), np.float32)
        dense[at] = pd.to_numeric(table[name]).to_numpy(np.float32, na_value=np.nan)
        return dense

    mean, peak, area = (np.nan_to_num(matrix(name)) for name in ("mean", "max", "area"))
    return Presence(images, concepts, mean, peak, area, matrix("contribution"))


def choose(
    sql: Sql, holders: dict[int, int], n: int, seed: int
) -> tuple[dict[int, Examples], Presence]:
    """Choose examples of every concept among the images that hold it.

    Parameters
    ----------
    sql : callable
        Query over the tables.
    holders : dict of int to int
        How many images hold each concept.
    n : int
        Strongest images per concept; of the other three kinds half as many, at least one.
    seed : int
        Decides the random ones. All concepts draw from one shuffled order of the images: fair for
        each concept, and their draws overlap, which keeps the site small.

    Returns
    -------
    (dict of int to Examples, Presence)
        By concept id, and the rows of all the images chosen or considered.
    """
    few = max(1, n // 2)
    # Ids are hashes of paths, so any fixed flips of their bits shuffle them.
    flips = int.from_bytes(hashlib.sha256(f"lottery {seed}".encode()).digest()[:8], "big") >> 1
    wide = {each: n + min(POOL, max(2 * few, held // 2 - n)) for each, held in holders.items()}
    strongest = _first(sql, wide, "max", "desc")
    weakest = _first(sql, dict.fromkeys(holders, few), "max", "asc")
    lots = _first(sql, dict.fromkeys(holders, few), f"xor(image_id, {flips})", "asc")
    found = {each: (strongest[each], weakest[each], lots[each]) for each in holders}
    considered = {each for lists in found.values() for ids in lists for each in ids}
    presence = presence_of(sql, considered, holders)
    profile = presence.mean / (np.linalg.norm(presence.mean, axis=1, keepdims=True) + 1e-12)

    def rows(ids: list[int]) -> Ints:
        return np.searchsorted(presence.image_ids, np.array(ids, np.int64))

    chosen = {}
    for concept_id, (strong, weak, drawn) in found.items():
        diverse = spread(profile, rows(strong[:n]), rows(strong[n:]), few)
        chosen[concept_id] = Examples(
            strongest=tuple(strong[:n]),
            diverse=tuple(presence.image_ids[diverse].tolist()),
            borderline=tuple(weak),
            random=tuple(drawn),
        )
    return chosen, presence


def _first(sql: Sql, limits: dict[int, int], value: str, order: str) -> dict[int, list[int]]:
    """Of each concept's rows where it is present the ids of the first few in an order.

    One query for all: each of its parts reads little of its concept's stretch, and many are run at
    once.
    """
    copies = "select image_id from images where split = 'copy'"
    there_are = bool(len(sql(f"{copies} limit 1")))  # where there are none, less is read
    others = f" and image_id not in ({copies})" if there_are else ""
    parts = [
        f"(select {concept_id} as concept_id, image_id, {value} as value from image_concepts"
        f" where concept_id = {concept_id} and area > 0{others} order by {value} {order}, image_id"
        f" limit {limit})"
        for concept_id, limit in limits.items()
    ]
    found: dict[int, list[int]] = {concept_id: [] for concept_id in limits}
    if parts:
        table = sql(
            f"select concept_id, image_id from ({' union all '.join(parts)})"
            f" order by concept_id, value {order}, image_id"
        )
        for concept_id, image_id in zip(table["concept_id"], table["image_id"], strict=True):
            found[int(concept_id)].append(int(image_id))
    return found


def among(image_ids: Iterable[int]) -> str:
    """Write the condition that image_id is one of these; none where there are none."""
    listed = ", ".join(str(int(each)) for each in image_ids)
    return f"image_id in ({listed})" if listed else "false"


def spread(profile: Floats, seen: Ints, pool: Ints, n: int) -> Ints:
    """Of `pool`, the `n` rows whose concepts differ most from those seen and from one another."""
    if len(pool) == 0:
        return pool
    start = seen if len(seen) else pool[:1]
    likeness = (profile[pool] @ profile[start].T).max(axis=1)
    chosen: list[int] = []
    for _ in range(min(n, len(pool))):
        best = int(likeness.argmin())
        chosen.append(best)
        likeness = np.maximum(likeness, profile[pool] @ profile[pool[best]])
        likeness[best] = np.inf
    return pool[chosen]
