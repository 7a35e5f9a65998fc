"""What kind of concept each one is, from all that was asked of it.

place       it stands at a place in the frame, whatever is there
background  it stands beside the objects of its images
class       the network takes it for one class, and its images are of that class
group       for a group of related classes
shared      several labels of the dataset go with it that are not all of one such group
none        nothing of the kind is known
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..store import Claims
from .verdict import stands_out

Kind = Literal["place", "background", "class", "group", "shared", "none"]

LEVEL = 0.05
"""False discovery rate at which a claim holds."""

LEAST_ODDS = 4.0
"""Odds of an image that holds a concept to be of the claimed classes, over those of any image."""

LEAST_INSIDE = 0.5
"""Share of its strength on objects below which a concept is background: most of it is not on them.
Of 32 concepts of 600 photographs six had 0.20 to 0.43, all of them backdrops, the others 0.70 and
more."""

SEVERAL = 2
"""Labels that share a concept, at least."""


def holds(claims: Claims) -> NDArray[np.bool_]:
    """Say which claims hold, bool (k,): by q, by their mass, and beside that of moved maps."""
    return stands_out(claims.mass, claims.moved) & (claims.q <= LEVEL)


def kinds(
    single: Claims | None,
    group: Claims | None,
    inside: NDArray[np.float64],
    labels: Sequence[Sequence[int]],
    is_place: NDArray[np.bool_],
) -> list[Kind]:
    """Say of each concept what kind it is; the first that holds, in the order given above.

    Parameters
    ----------
    single, group : Claims or None
        None of a network without classes.
    inside : ndarray
        float64 (k,), share of its strength on objects; NaN: unknown.
    labels : sequence of sequence of int
        By concept the labels of the dataset that go with it better than chance, each as the class
        that it is; one that is none as a number below 0.
    is_place : ndarray
        bool (k,).
    """
    claimed = [_claimed(each, labels) for each in (single, group)]
    is_several = np.array([len(each) >= SEVERAL for each in labels], dtype=np.bool_)
    is_group = claimed[1].copy()
    if group is not None:
        is_group &= (group.classes >= 0).sum(1) > 1
    tests: list[tuple[NDArray[np.bool_], Kind]] = [
        (is_place, "place"),
        (inside < LEAST_INSIDE, "background"),
        ((claimed[0] | claimed[1]) & ~is_group, "class"),
        (is_group, "group"),
        (is_several, "shared"),
    ]
    return [
        next((kind for test, kind in tests if test[concept]), "none")
        for concept in range(len(inside))
    ]


def _claimed(claims: Claims | None, labels: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Say which claims hold, and are of all the labels that go with a concept, if several do."""
    if claims is None:
        return np.zeros(len(labels), dtype=np.bool_)
    is_all = [
        len(each) < SEVERAL or set(each) <= set(row.tolist())
        for each, row in zip(labels, claims.classes, strict=True)
    ]
    return holds(claims) & np.array(is_all, dtype=np.bool_)
