"""Tells apart concepts that came by one name: by where they sit, or by how large they are.

Concepts of a name are split in two at the widest gap of any measure, if it is wide enough, and each
part again; what stays together is the same as far as anything here is known, and keeps one name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .known import Described, Named

APART = 0.1
"""Gap of a measure, in shares of the object or of the picture, from which on it is a difference:
less than half as much as between the middle of an object and that of either half of it."""

Measure = tuple[str, str, Callable[[Described], float]]

_OF_OBJECT: tuple[Measure, ...] = (
    ("higher", "lower", lambda of: of.place.down),
    ("further left", "further right", lambda of: of.place.right),
    ("smaller", "larger", lambda of: of.place.cover),
    ("nearer to the rim", "further inside", lambda of: of.place.depth),
)
_OF_PICTURE: tuple[Measure, ...] = (
    ("higher", "lower", lambda of: of.frame.y),
    ("further left", "further right", lambda of: of.frame.x),
)


def told_apart(
    concepts: Sequence[Described], named: Sequence[Named | None], is_of_object: Sequence[bool]
) -> list[Named | None]:
    """Say of concepts whose first names are the same what is different about them.

    Parameters
    ----------
    concepts : sequence of Described
    named : sequence of Named or None
        Of each concept.
    is_of_object : sequence of bool
        Whether a concept is seen as a part of an object; others are compared by where they are in
        the picture.

    Returns
    -------
    list
        The same names, with ``(higher)``, ``(lower, larger)``, … behind those that several had.
    """
    by_text: dict[tuple[str, bool], list[int]] = {}
    for at, each in enumerate(named):
        if each is not None:
            by_text.setdefault((each.ranked[0].text, is_of_object[at]), []).append(at)
    found = list(named)
    for (text, of_object), members in by_text.items():
        measures = _OF_OBJECT if of_object else _OF_PICTURE
        for at, words in _split([concepts[at] for at in members], measures):
            each = named[members[at]]
            if words and each is not None:
                first = replace(each.ranked[0], text=f"{text} ({', '.join(words)})")
                found[members[at]] = replace(each, ranked=(first, *each.ranked[1:]))
    return found


def _split(
    concepts: Sequence[Described], measures: Sequence[Measure]
) -> list[tuple[int, tuple[str, ...]]]:
    """Give the words of each of these concepts, none where nothing tells it from the others."""
    if len(concepts) < 2 or not measures:
        return [(at, ()) for at in range(len(concepts))]
    gaps = []
    for less, more, measure in measures:
        values = np.array([measure(each) for each in concepts])
        order = values.argsort(kind="stable")
        steps = np.diff(values[order])  # NaN, of a measure that is not known, is no gap
        widest = int(np.nan_to_num(steps, nan=-1).argmax())
        gaps.append((steps[widest], less, more, order[: widest + 1], order[widest + 1 :]))
    gap, less, more, below, above = max(gaps, key=lambda each: np.nan_to_num(each[0], nan=-1))
    if not gap >= APART:
        return [(at, ()) for at in range(len(concepts))]
    found = []
    for word, side in ((less, below), (more, above)):
        left = [each for each in measures if each[0] != less]
        inner = _split([concepts[at] for at in side], left)
        found += [(int(side[at]), (word, *words)) for at, words in inner]
    return found
