"""What a namer is told of each concept, and what it answers: plain data.

Of an object, ``down`` and ``right`` are places in [0, 1] by its own area: the share of it that lies
above, or left of, the middle of the concept. 0.5 is its middle whatever its shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST_NAMES = 3
"""Names a namer ranks, at most; the first is the concept's."""


@dataclass(frozen=True)
class Label:
    """A label of the dataset and a concept, as in the table ``concept_labels``.

    Attributes
    ----------
    label : str
        As it is shown: the name of its class, where it has one.
    n : int
        Images with it that hold the concept.
    phi, q, precision, recall, lift : float
        Columns ``phi``, ``association_q``, ``precision``, ``recall``, ``lift``.
    """

    label: str
    n: int
    phi: float
    q: float
    precision: float
    recall: float
    lift: float


@dataclass(frozen=True)
class Place:
    """Where in the co-localized object a concept sits, over its strongest images.

    Attributes
    ----------
    words : tuple of str
        Of ``background``, alone; ``all of it``, ``top``, ``low``, ``left side``, ``right side``,
        ``both sides``, ``rim``, ``middle``; none where images do not agree.
    n : int
        Images with an object.
    agreeing : tuple of int
        In how many of them each word holds.
    inside, area : float
        Mean share of the concept's strength inside the object, and of the image that is object.
    down, right, depth, cover : float
        Medians: see the module, and `pipeline.names.place`; NaN without images.
    """

    words: tuple[str, ...]
    n: int
    agreeing: tuple[int, ...]
    inside: float
    area: float
    down: float
    right: float
    depth: float
    cover: float


@dataclass(frozen=True)
class Frame:
    """Where in the picture a concept sits: medians of its middle, shares of width and height.

    `word` is ``top``, ``bottom``, ``left``, ``right`` or a corner as ``top left``, where most
    images agree; ``middle`` of what stands at one place; else empty. It stands at one place
    (`is_fixed`) where its middle moves little in the picture, and less than in the object.
    """

    word: str
    n: int
    x: float
    y: float
    is_fixed: bool = False


@dataclass(frozen=True)
class Look:
    """A word of colour or texture that holds where a concept is strongest.

    Attributes
    ----------
    word : str
    n, of : int
        Images in which most of the place is so, of how many.
    here, elsewhere : float
        Mean share that is so, at the concept's places and elsewhere in the same images.
    """

    word: str
    n: int
    of: int
    here: float
    elsewhere: float


@dataclass(frozen=True)
class Companion:
    """Another concept of the same images, as in the table ``concept_pairs``."""

    concept_id: int
    jaccard: float
    cooccurrence: float


@dataclass(frozen=True)
class Described:
    """All that a namer is told of a concept.

    Attributes
    ----------
    concept_id : int
    labels : tuple of Label
        By falling `phi`.
    place : Place
    frame : Frame
    looks : tuple of Look
        The best word of colour and of texture, where there is one.
    companions : tuple of Companion
        By falling `jaccard`.
    kind, group : str, optional
        What the network takes it for, where that is known: ``class``, ``group``, ``shared``,
        ``background``, ``place`` or ``none``, and the name of the class or group.
    """

    concept_id: int
    labels: tuple[Label, ...]
    place: Place
    frame: Frame
    looks: tuple[Look, ...]
    companions: tuple[Companion, ...]
    kind: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Name:
    """A name, and what it says: the labels that it names, where there are any."""

    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Named:
    """A namer's answer for a concept.

    Attributes
    ----------
    ranked : tuple of Name
        The best first, `MOST_NAMES` at most, one at least.
    evidence : str
        A sentence with the numbers.
    """

    ranked: tuple[Name, ...]
    evidence: str


Namer = Callable[[Sequence[Described]], Sequence[Named | None]]
"""Takes all concepts of a run, and gives an answer for each in turn; None: no name for it."""
