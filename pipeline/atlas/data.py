"""What an atlas is made from: plain tables and functions that give an image's arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AtlasData:
    """One run, as the atlas sees it. All functions are called from several threads at once.

    Attributes
    ----------
    title : str
        Name of the run.
    summary : mapping of str to str
        Facts of the run to show: dataset, model, layer, k, number of images, error, ...
    tables : mapping of str to pandas.DataFrame
        The tables of a run by name, with exactly their documented columns; any may be empty.
    read_image : callable
        image_id -> uint8 (height, width, 3), the original pixels, RGB.
    read_heatmap : callable
        image_id -> float32 (k, h, w), gauge units, on the layer's grid.
    upsample : callable
        (maps (k, h, w), image_id, height, width) -> float32 (k, height, width): the maps over the
        image scaled to that size, cell centres honoured; 0 where the network saw nothing.
    object_mask : callable or None
        image_id -> bool (height, width), the co-localized object; None where a run has none.
    """

    title: str
    summary: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    read_image: Callable[[int], Bytes]
    read_heatmap: Callable[[int], Floats]
    upsample: Callable[[Floats, int, int, int], Floats]
    object_mask: Callable[[int], Mask] | None = None
