"""What concepts are called: words for where they sit and how they look, and names made of them."""

from .compose import compose, label_sets
from .known import (
    MOST_NAMES,
    Companion,
    Described,
    Frame,
    Label,
    Look,
    Name,
    Named,
    Namer,
    Place,
)
from .precedence import SOURCES, resolve

__all__ = [
    "MOST_NAMES",
    "SOURCES",
    "Companion",
    "Described",
    "Frame",
    "Label",
    "Look",
    "Name",
    "Named",
    "Namer",
    "Place",
    "compose",
    "label_sets",
    "resolve",
]
