"""Columns of images: which class their labels are, and whether the network takes them so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from .column import FLAG, INT32, TEXT, Column

TRUTH = (
    Column(
        "true_class",
        INT32,
        "the network's class of the label, of several the first that has one; null: none has",
        is_later=True,
    ),
    Column(
        "label_name",
        TEXT,
        "the label by the name of its class, or as it is; several with ';' between them",
        is_later=True,
    ),
    Column(
        "correct",
        FLAG,
        "whether the network's top class is that of a label; null: no label has one",
        is_later=True,
    ),
)


def truth_columns(
    images: pd.DataFrame, class_names: Sequence[str], class_of: Mapping[str, int]
) -> pd.DataFrame:
    """Say of each image which class its labels are, what they are called, and if it was taken so.

    Parameters
    ----------
    images : DataFrame
        With labels and pred_class.
    class_names : sequence of str
        The network's classes.
    class_of : mapping of str to int
        The network's class of each label that has one.
    """
    true = [[class_of[each] for each in labels if each in class_of] for labels in images["labels"]]
    named = [
        ";".join(class_names[class_of[each]] if each in class_of else each for each in labels)
        for labels in images["labels"]
    ]
    said = images["pred_class"].tolist()
    columns = {
        "true_class": pd.array([each[0] if each else None for each in true], dtype="Int64"),
        "label_name": pd.Series([name or None for name in named], dtype=object),
        "correct": pd.array(
            [top in each if each else None for top, each in zip(said, true, strict=True)],
            dtype="boolean",
        ),
    }
    return images.assign(**{name: pd.Series(each) for name, each in columns.items()})
