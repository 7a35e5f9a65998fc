"""Which class of the network a label of the dataset is: by a table, or by equal names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..config import Config
from ..errors import UserError, option
from ..images import Dataset
from ..images.rows import read_rows, take
from ..models import Network


def match_labels(
    config: Config, dataset: Dataset, network: Network
) -> tuple[dict[str, int], dict[str, str]]:
    """Map dataset labels to classes: by the ``CLASSES`` table, or by equal names.

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
    labels = {image.label for image in dataset.images if image.label is not None}
    if config.classes is None:
        by_name = {name: index for index, name in enumerate(network.classes)}
        return {label: by_name[label] for label in sorted(labels) if label in by_name}, {}
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
    if labels and not labels & set(mapping):
        raise UserError(
            f"{option('classes', config.classes)} names none of the dataset's labels,"
            f" such as {sorted(labels)[0]!r}; it names {sorted(mapping)[0]!r}"
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
