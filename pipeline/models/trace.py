"""A network as a graph, and the names of what its operations return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import fx


@dataclass(frozen=True)
class Trace:
    """A network as a graph, whichever way it was traced.

    Attributes
    ----------
    graph : GraphModule
        From images to one tensor.
    names : callable
        All names of an operation's result, those of the outermost modules first.
    types : mapping of str to str
        Class of the module of each path.
    """

    graph: fx.GraphModule
    names: Callable[[fx.Node], list[str]]
    types: Mapping[str, str]


def by_depth(names: list[str]) -> list[str]:
    """Order the names of one result: those of outer modules first, then the shortest."""
    return sorted(dict.fromkeys(names), key=lambda each: (each.count("."), len(each)))
