"""What an atlas is made from: tables, short ones whole and long ones by SQL, and images' arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LONG = ("images", "image_concepts", "regions", "objects", "duplicates")
"""Tables with a row per image or more; they are asked by SQL, never read whole."""


@dataclass(frozen=True)
class AtlasData:
    """One run, as the atlas sees it.

    Attributes
    ----------
    title : str
        Name of the run.
    summary : mapping of str to str
        Facts of the run to show: dataset, model, layer, k, number of images, error, ...
    tables : mapping of str to pandas.DataFrame
        The short tables of a run by name, with at least their documented columns; any may be empty.
    sql : callable
        DuckDB query over all tables, by their names -> pandas.DataFrame. Called in one
        thread only.
    read_image : callable
        (image_id, longest) -> uint8 (height, width, 3), the image's pixels, RGB; scaled down where
        its longer side has more than `longest`. This and the following are called in several
        threads at once.
    read_heatmap : callable
        image_id -> float32 (k, h, w), gauge units, on the layer's grid.
    upsample : callable
        (maps (k, h, w), image_id, height, width) -> float32 (k, height, width): the maps over the
        image scaled to that size, cell centres honoured; 0 where the network saw nothing.
    object_mask : callable or None
        (image_id, height, width) -> bool (height, width), the co-localized object over the image
        scaled to that size; None where a run has none.
    fetch : callable
        Ids of images that are asked for next, to read them together.
    reading_order : callable
        Ids of images -> the same in the order in which they lie on the disk.
    logits : callable or None
        image_id -> (the predicted class's logit for D(0), its logit for the image).
    settings : mapping of str to str
        The resolved configuration, for the overview.
    label_classes : mapping of str to int
        The network's class of each dataset label that has one.
    speaker : str
        What calls concepts by classes: the network, or a probe in the place of its head.
    is_multi_label : bool
        Whether classes are independent of each other: probabilities of one image do not sum to one.
    notice : str
        What a reader is told of the pictures, on every page.
    pages : sequence of str
        Plug-ins of the group ``concordance.pages`` that add theirs.
    no_suspects : str
        Why the table ``suspects`` is empty, where it is.
    siblings : mapping of str to str
        Folders' names of runs at other layers that lie beside this one's, by layer.
    """

    title: str
    summary: Mapping[str, str]
    tables: Mapping[str, pd.DataFrame]
    sql: Callable[[str], pd.DataFrame]
    read_image: Callable[[int, int], Bytes]
    read_heatmap: Callable[[int], Floats]
    upsample: Callable[[Floats, int, int, int], Floats]
    object_mask: Callable[[int, int, int], Mask] | None = None
    fetch: Callable[[Sequence[int]], object] = lambda _: None
    reading_order: Callable[[Sequence[int]], Sequence[int]] = list
    logits: Callable[[int], tuple[float, float]] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    label_classes: Mapping[str, int] = field(default_factory=dict)
    speaker: str = "network"
    is_multi_label: bool = False
    notice: str = ""
    pages: Sequence[str] = ()
    no_suspects: str = "none was looked for"
    siblings: Mapping[str, str] = field(default_factory=dict)
