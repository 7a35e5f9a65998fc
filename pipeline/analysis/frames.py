"""What the concepts mean, as data frames with the ids of their images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..classify import Curves, Split
from ..errors import UserError


def curve_rows(image_ids: NDArray[np.int64], found: Curves) -> pd.DataFrame:
    """Return a row per image and level: see `Meaning.curves`."""
    n, n_levels = found.deletion.shape
    return pd.DataFrame(
        {
            "image_id": np.repeat(image_ids, n_levels),
            "level": np.tile(found.levels, n),
            **{name: getattr(found, name).ravel() for name in ("deletion", "insertion", "random")},
        }
    )


def split_rows(image_ids: NDArray[np.int64], found: Split, names: Sequence[str]) -> pd.DataFrame:
    """Return a row per image: see `Meaning.split`."""
    classes, contributions = found.classes.tolist(), found.contributions.numpy()
    return pd.DataFrame(
        {
            "image_id": image_ids,
            "class_id": classes,
            "label": [names[each] for each in classes],
            "logit": found.logit.numpy(),
            "bias": found.bias.numpy(),
            **{f"concept_{each}": column for each, column in enumerate(contributions.T)},
            "residual": found.residual.numpy(),
            "exact": found.is_exact,
        }
    )


def as_asked(parts: Sequence[pd.DataFrame], image_ids: Sequence[int]) -> pd.DataFrame:
    """Join rows, one per image, in the order that was asked for.

    Raises
    ------
    UserError
        An image was refused when it was read, and is in no row.
    """
    if lacking := set(image_ids) - {each for part in parts for each in part["image_id"]}:
        raise UserError(f"image {min(lacking)} was refused; see the table rejected")
    rows = pd.concat(parts, ignore_index=True)
    return rows.set_index("image_id").loc[list(image_ids)].reset_index()
