"""Two runs side by side: which concept of one is which of the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from .. import nmf
from ..errors import UserError
from .image_data import ImageData
from .run import Run, open_run

N_IMAGES, SIDE = 256, 24
"""Images in which concepts of two layers are matched, and cells along each side of one."""


@dataclass(frozen=True)
class Comparison:
    """Concepts of two runs, matched one to one.

    Attributes
    ----------
    pairs : DataFrame
        A row per pair, by the first run's concepts: concept_a, label_a, concept_b, label_b, cosine
        of what they are matched by.
    only_a, only_b : tuple of int
        Concepts without a partner, where one run has more than the other.
    by : {'directions', 'maps'}
        What they are matched by: their directions on one layer, or where they stand in the images
        that both runs have.
    """

    pairs: pd.DataFrame
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]
    by: Literal["directions", "maps"] = "directions"


def compare(a: Run | str | Path, b: Run | str | Path) -> Comparison:
    """Match the concepts of two runs, one to one.

    On one layer of one network by the cosine of their directions. Directions of two layers, or of
    two networks, have nothing in common: concepts are matched by where they stand then, the cosine
    of their heatmaps over the images that both runs have (256 of them at most).

    Raises
    ------
    UserError
        One of them is no run, or they have neither layer nor images in common.
    """
    a, b = (each if isinstance(each, Run) else open_run(each) for each in (a, b))
    by: Literal["directions", "maps"] = "directions" if _layer(a) == _layer(b) else "maps"
    columns_a, columns_b = (a.bank.W, b.bank.W) if by == "directions" else _maps(a, b)
    partners, cosines = nmf.match(torch.from_numpy(columns_a), torch.from_numpy(columns_b))
    labels = [run.table("concepts").set_index("concept_id")["top_label"] for run in (a, b)]
    rows = [
        (left, labels[0][left], right, labels[1][right], cosine)
        for left, (right, cosine) in enumerate(
            zip(partners.tolist(), cosines.tolist(), strict=True)
        )
        if right >= 0
    ]
    columns = ["concept_a", "label_a", "concept_b", "label_b", "cosine"]
    pairs = pd.DataFrame(rows, columns=columns)
    only_a = set(range(a.bank.W.shape[1])) - set(pairs["concept_a"])
    only_b = set(range(b.bank.W.shape[1])) - set(pairs["concept_b"])
    return Comparison(pairs, tuple(sorted(only_a)), tuple(sorted(only_b)), by)


def _layer(run: Run) -> tuple[str, str, int]:
    return run.workspace.config.model, str(run.workspace.config.layer), run.bank.W.shape[0]


def _maps(a: Run, b: Run) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return where concepts stand in common images, float32 (images · cells, k) of each run."""
    others = set(b.workspace.images["image_id"])
    common = [each for each in a.workspace.images["image_id"].tolist() if each in others]
    if not common:
        raise UserError(
            f"{a.folder} is of {a.workspace.config.model} {a.workspace.config.layer}, {b.folder} of"
            f" {b.workspace.config.model} {b.workspace.config.layer}, and they have no image in"
            " common in which concepts could be matched"
        )
    return _seen(a, common[:N_IMAGES]), _seen(b, common[:N_IMAGES])


def _seen(run: Run, image_ids: list[int]) -> NDArray[np.float32]:
    data = ImageData(run.workspace)
    maps = [
        np.nan_to_num(data.upsample(data.grid_heatmap(each), each, (SIDE, SIDE)))
        for each in image_ids
    ]
    return np.concatenate([each.reshape(len(each), -1) for each in maps], axis=1).T.copy()
