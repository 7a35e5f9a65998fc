"""Choose the images that show a concept: strongest, diverse, borderline and random ones.

The choice bounds the size of a site at any size of dataset. It depends on the tables and the seed
only, so that a rerun chooses the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Presence:
    """The table image_concepts as matrices: images (n) in rows, concepts (k) in columns.

    Attributes
    ----------
    image_ids, concept_ids : numpy.ndarray
        int64 (n,) and (k,), ascending.
    mean, peak, area, contribution : numpy.ndarray
        float32 (n, k); mean and largest heatmap value in gauge units and share of positions that
        hold the concept (0 where there is no row); contribution in logits (NaN where not known).
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


def presence_of(tables: Mapping[str, pd.DataFrame]) -> Presence:
    """Read image_concepts into matrices; images and concepts are those of their own tables."""
    image_ids = np.unique(tables["images"]["image_id"].to_numpy(np.int64))
    concept_ids = np.unique(tables["concepts"]["concept_id"].to_numpy(np.int64))
    table = tables["image_concepts"]
    image, concept = table["image_id"].to_numpy(np.int64), table["concept_id"].to_numpy(np.int64)
    known = np.isin(image, image_ids) & np.isin(concept, concept_ids)
    at = np.searchsorted(image_ids, image[known]), np.searchsorted(concept_ids, concept[known])

    def matrix(name: str, absent: float) -> Floats:
        dense = np.full((len(image_ids), len(concept_ids)), absent, np.float32)
        values = pd.to_numeric(table[name]).to_numpy(np.float32, na_value=np.nan)
        dense[at] = values[known]
        return dense

    return Presence(
        image_ids,
        concept_ids,
        mean=np.nan_to_num(matrix("mean", 0.0)),
        peak=np.nan_to_num(matrix("max", 0.0)),
        area=np.nan_to_num(matrix("area", 0.0)),
        contribution=matrix("contribution", np.nan),
    )


def choose(presence: Presence, thresholds: Floats, n: int, seed: int) -> dict[int, Examples]:
    """Choose examples of every concept among the images that hold it (largest value ≥ threshold).

    Parameters
    ----------
    presence : Presence
    thresholds : numpy.ndarray
        float32 (k,), presence threshold of each concept, gauge units.
    n : int
        Strongest images a concept; of the other three kinds half as many, at least one.
    seed : int
        Decides the random ones. All concepts draw from one shuffled order of the images: fair for
        each concept, and their draws overlap, which keeps the site small.

    Returns
    -------
    dict of int to Examples
        By concept id.
    """
    few = max(1, n // 2)
    lottery = np.random.default_rng(seed).permutation(len(presence.image_ids))
    profile = presence.mean / (np.linalg.norm(presence.mean, axis=1, keepdims=True) + 1e-12)
    chosen = {}
    for column, concept_id in enumerate(presence.concept_ids):
        peak = presence.peak[:, column]
        holders = np.flatnonzero((peak >= thresholds[column]) & (peak > 0))
        order = holders[np.argsort(-peak[holders], kind="stable")]
        strongest = order[:n]
        pool = order[n : max(n + 2 * few, len(order) // 2)][:400]
        chosen[int(concept_id)] = Examples(
            strongest=_ids(presence, strongest),
            diverse=_ids(presence, _spread(profile, strongest, pool, few)),
            borderline=_ids(presence, order[::-1][:few]),
            random=_ids(presence, holders[np.argsort(lottery[holders])][:few]),
        )
    return chosen


def _spread(profile: Floats, seen: Ints, pool: Ints, n: int) -> Ints:
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


def _ids(presence: Presence, at: Ints) -> tuple[int, ...]:
    return tuple(int(each) for each in presence.image_ids[at])
