"""Which class of the network a label of the dataset is: by a table, or by equal names."""

from __future__ import annotations

import pandas as pd

from ..config import Config
from ..errors import UserError, option
from ..images import Dataset
from ..models import Network


def match_labels(
    config: Config, dataset: Dataset, network: Network
) -> tuple[dict[str, int], dict[str, str]]:
    """Map dataset labels to classes: by the ``CLASSES`` table, or by equal names.

    Returns
    -------
    class_of_label : dict of str to int
    class_names : dict of str to str
        Class, as a decimal number, to the name that the table gives it.

    Raises
    ------
    UserError
        The table cannot be read, or does not fit the network or the dataset.
    """
    labels = {image.label for image in dataset.images if image.label is not None}
    if config.classes is None:
        by_name = {name: index for index, name in enumerate(network.classes)}
        return {label: by_name[label] for label in sorted(labels) if label in by_name}, {}
    try:
        table = pd.read_csv(config.classes, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{option('classes', config.classes)} cannot be read: {error}") from error
    if not {"label", "class_id"} <= set(table.columns):
        raise UserError(
            f"{option('classes', config.classes)} needs columns label, class_id;"
            f" it has {', '.join(table.columns)}"
        )
    n_classes = len(network.classes)
    mapping: dict[str, int] = {}
    for label, class_id in zip(table["label"], table["class_id"], strict=True):
        if not class_id.isdecimal() or int(class_id) >= n_classes:
            raise UserError(
                f"{option('classes', config.classes)} maps {label!r} to class {class_id!r};"
                f" {network.name} has classes 0 to {n_classes - 1}"
            )
        mapping[label] = int(class_id)
    if labels and not labels & set(mapping):
        raise UserError(
            f"{option('classes', config.classes)} names none of the dataset's labels,"
            f" such as {sorted(labels)[0]!r}; it names {sorted(mapping)[0]!r}"
        )
    names = table["name"] if "name" in table else [""] * len(table)
    named = {
        str(mapping[label]): str(name) for label, name in zip(table["label"], names, strict=True)
    }
    return mapping, {class_id: name for class_id, name in named.items() if name}
