"""Which class of the network a label of the dataset is: by a table, or by names.

Names are compared without case, and ``_`` and ``-`` are spaces; a class may have several, with
commas between them. Labels that are WordNet's (n02084071) are ImageNet's classes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config import Config
from ..errors import UserError, option, suggest
from ..images import Dataset
from ..images.rows import read_rows, take
from ..models import Network
from ..models.class_names import imagenet
from ..system import optional

SOME = 4
"""Labels that are named where they are no classes."""

N_IMAGENET, MOST_ALIKE = 1_000, 900
"""Classes of ImageNet, and how many of them are called alike where a network's are these."""


def match_labels(
    config: Config, dataset: Dataset, network: Network
) -> tuple[dict[str, int], dict[str, str]]:
    """Map dataset labels to classes: by the ``CLASSES`` table, or by their names.

    Returns
    -------
    class_of_label : dict of str to int
    class_names : dict of str to str
        Class, as a decimal number, to the name that the table gives it, which is shown in place of
        the network's own.

    Raises
    ------
    UserError
        The table cannot be read, or does not fit the network or the dataset.
    """
    labels = dataset.labels
    if config.classes is None:
        return _by_name(labels, network.classes), {}
    rows = _read_classes(config.classes)
    n_classes = len(network.classes)
    if not n_classes:
        raise UserError(
            f"{option('classes', config.classes)} maps labels to classes, of which {network.name}"
            " has none: leave it out"
        )
    mapping: dict[str, int] = {}
    for label, class_id, _ in rows:
        if not class_id.isdecimal() or int(class_id) >= n_classes:
            raise UserError(
                f"{option('classes', config.classes)} maps {label!r} to class {class_id!r};"
                f" {network.name} has classes 0 to {n_classes - 1}"
            )
        if mapping.setdefault(label, int(class_id)) != int(class_id):
            raise UserError(
                f"{option('classes', config.classes)} maps {label!r} to two classes,"
                f" {mapping[label]} and {class_id}"
            )
    if labels and not mapping.keys() & set(labels):
        raise UserError(
            f"{option('classes', config.classes)} names none of the dataset's labels,"
            f" such as {labels[0]!r}; it names {sorted(mapping)[0]!r}"
        )
    names: dict[str, str] = {}
    for label, _, name in rows:
        class_id = str(mapping[label])
        if name and names.setdefault(class_id, name) != name:
            raise UserError(
                f"{option('classes', config.classes)} gives class {class_id} two names,"
                f" {names[class_id]!r} and {name!r}"
            )
    return mapping, names


def unmatched(config: Config, dataset: Dataset, network: Network, found: Mapping[str, int]) -> str:
    """Say which labels are no class of the network; empty where all are, or there are none.

    Parameters
    ----------
    config : Config
    dataset : Dataset
    network : Network
    found : mapping of str to int
        As `match_labels` returns it.
    """
    labels = dataset.labels
    others = [label for label in labels if label not in found]
    if not others or not network.classes or config.head == "probe":
        return ""
    some = []
    for label in others[:SOME]:
        near = suggest(_plain(label), map(_plain, network.classes), n=2, cutoff=0.6)
        some.append(f"{label!r}{f' ({near})' if near else ''}")
    named = f"{', '.join(some)}{', …' if len(others) > SOME else ''}"
    many = (
        f"{len(others):,} of {len(labels):,} labels are no class"
        if found
        else "no label is a class"
    )
    if config.classes is not None:
        return f"{many} by {option('classes', config.classes)}: {named}"
    table = option("classes", "<CSV with label, class_id>")
    return (
        f"{many} of {network.name} by its name: {named}. {table} says which they are"
        f"{_about_wordnet(others)}"
    )


def _by_name(labels: Sequence[str], classes: Sequence[str]) -> dict[str, int]:
    """Map labels to the one class that is called so."""
    named = defaultdict[str, set[int]](set)
    for index, name in enumerate(classes):
        for each in {name, *name.split(",")}:
            named[_plain(each)].add(index)
    by_number = _wordnet_ids(classes) if any(map(_is_of_wordnet, labels)) else {}
    found = {}
    for label in labels:
        meant = named[_plain(label)]
        if len(meant) == 1:
            (found[label],) = meant
        elif label in by_number:
            found[label] = by_number[label]
    return found


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[\s_-]+", " ", name.casefold()).split())


def _is_of_wordnet(label: str) -> bool:
    return re.fullmatch(r"n\d{8}", label) is not None


def _wordnet_ids(classes: Sequence[str]) -> dict[str, int]:
    """Return WordNet's ids of ImageNet's classes; none of other classes, or without timm."""
    if len(classes) != N_IMAGENET:
        return {}
    names = map(_plain, imagenet())
    if sum(a == _plain(b.split(",")[0]) for a, b in zip(names, classes, strict=True)) < MOST_ALIKE:
        return {}
    try:
        info = optional.imported("timm.data", "timm").ImageNetInfo()
    except UserError:
        return {}
    return {str(name): index for index, name in enumerate(info.label_names())}


def _about_wordnet(labels: Sequence[str]) -> str:
    if not any(map(_is_of_wordnet, labels)):
        return ""
    return "; WordNet's ids are known where timm is: pip install 'concordance[timm]'"


def renamed(class_names: Mapping[str, str], network: Network) -> str:
    """Say which classes a table calls otherwise than a network whose classes have names.

    Parameters
    ----------
    class_names : mapping of str to str
        As `match_labels` returns them.
    network : Network

    Returns
    -------
    str
        Empty where there are none.
    """
    others = {
        int(class_id): name
        for class_id, name in class_names.items()
        if network.classes[int(class_id)].casefold() not in (name.casefold(), f"class {class_id}")
    }
    if not others:
        return ""
    first = min(others)
    many = f"{len(others)} classes are" if len(others) > 1 else "a class is"
    return (
        f"{many} shown by the name in {option('classes')}, as class {first}: {others[first]!r},"
        f" which the network calls {network.classes[first]!r}"
    )


def _read_classes(where: Path) -> list[tuple[str, str, str]]:
    """Read labels, class_ids and, where there are any, names."""
    try:
        columns, rows = read_rows(where)
        label, class_id = take(columns, "label"), take(columns, "class_id")
        if label is None or class_id is None:
            raise UserError(
                f"{option('classes', where)} needs columns label, class_id;"
                f" it has {', '.join(columns)}"
            )
        name = take(columns, "name")
        return [(row[label], row[class_id], "" if name is None else row[name]) for row in rows]
    except (OSError, ValueError) as error:
        raise UserError(f"{option('classes', where)} cannot be read: {error}") from error
