"""The table ``duplicates``: images that are the same picture as others, group by group."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .column import FLAG, FLOAT32, IMAGE_ID, INT, INT32, TEXT, Column, Table

DUPLICATES = Table(
    "duplicates",
    "an image that is the same picture as another one, or as good as",
    (
        Column("group_id", INT32, "number of its group, from 0, in working order"),
        IMAGE_ID,
        Column("path", TEXT, "path within the dataset, undecodable bytes percent-escaped"),
        Column("first_id", INT, "image_id of the first image of the group in working order"),
        Column(
            "kind",
            TEXT,
            "first: it is that one; identical: the network sees the same in both; near: encoded,"
            " scaled, brightened or cropped anew",
        ),
        Column(
            "agreement",
            FLOAT32,
            "share of the differences within the image that the first one explains, both of 16 × 16"
            " cells; 1 where they are identical",
            "share",
        ),
        Column(
            "same_label", FLAG, "it has the label of the first one; null: one of them has no label"
        ),
        Column("split", TEXT, "as in images: one for all of the group but copies"),
    ),
    order=("group_id", "path"),
    is_later=True,
)


def duplicate_rows(
    images: pd.DataFrame,
    first: NDArray[np.int64],
    agreement: NDArray[np.float64],
    is_identical: NDArray[np.bool_],
) -> pd.DataFrame:
    """Return the table ``duplicates``.

    Parameters
    ----------
    images : DataFrame
        image_id, path, label and split of n images, in working order.
    first : ndarray
        int64 (n,), the place of the first of each image's group.
    agreement : ndarray
        float64 (n,), with that one.
    is_identical : ndarray
        bool (n,), whether the network sees in it what it sees in that one.
    """
    sizes = np.bincount(first, minlength=len(first))
    rows = np.flatnonzero(sizes[first] > 1)
    of_first = first[rows]
    label, other = (images["label"].iloc[each].to_numpy(object) for each in (rows, of_first))
    kind = np.where(is_identical[rows], "identical", "near")
    kind = np.where(of_first == rows, "first", kind)
    chosen = images.iloc[rows]
    return pd.DataFrame(
        {
            "group_id": np.unique(of_first, return_inverse=True)[1].astype(np.int32),
            "image_id": chosen["image_id"].to_numpy(),
            "path": chosen["path"].to_numpy(object),
            "first_id": images["image_id"].to_numpy()[of_first],
            "kind": kind.astype(object),
            "agreement": agreement[rows],
            "same_label": np.array(
                [
                    None if mine is None or theirs is None else mine == theirs
                    for mine, theirs in zip(label, other, strict=True)
                ],
                dtype=object,
            ),
            "split": chosen["split"].to_numpy(object),
        }
    )
