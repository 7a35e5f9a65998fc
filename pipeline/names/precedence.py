"""Whose name a concept has: the first that gives one, in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping

from .known import Named

SOURCES = ("human", "namer")
"""Who gives names. What people say comes before what any namer works out."""


def resolve(given: Mapping[str, Mapping[int, Named]], k: int) -> list[Named | None]:
    """Return the name of each of k concepts.

    Parameters
    ----------
    given : mapping of str to mapping of int to Named
        Of each of `SOURCES` that has said something, the names by concept.
    k : int
        Number of concepts.

    Returns
    -------
    list
        k names; None where no source has one.

    Raises
    ------
    ValueError
        Names are from a source that has no place in the order.
    """
    if unknown := sorted(given.keys() - set(SOURCES)):
        raise ValueError(f"names from {', '.join(unknown)}, which is none of {', '.join(SOURCES)}")
    ordered = [given[source] for source in SOURCES if source in given]
    return [next((names[each] for names in ordered if each in names), None) for each in range(k)]
