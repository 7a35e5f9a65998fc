"""Rows by image: what each shard of heatmaps says about its images, concepts, regions, objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..classify import top_classes
from ..images import Affine, Grid, upsample
from ..localize import Foreground, find_regions
from ..models.link import Link
from .column import BOX, CONCEPT_ID, FLOAT32, IMAGE_ID, INT32, INTS, TEXT, TEXTS, Column, Table
from .concept_classes import probabilities
from .truth import TRUTH

FINER, MOST = 4, 64
"""Regions are found on maps raised to four times the grid, or to about 64 cells per side where that
is less: boxes finer than a cell, at a cost that fine grids do not drive up."""

MOSTLY = 0.5
"""A concept is part of an object if more than half of it is foreground."""

IMAGES = Table(
    "images",
    "an image",
    (
        IMAGE_ID,
        Column("path", TEXT, "path within the dataset, undecodable bytes percent-escaped"),
        Column("label", TEXT, "the dataset's label, or several with ';' between them; null: none"),
        Column("width", INT32, "original pixels, upright", "pixels"),
        Column("height", INT32, "original pixels, upright", "pixels"),
        Column(
            "split",
            TEXT,
            "fit: W was fitted on it; heldout: kept for measuring; copy: the network sees the same"
            " in another image of the run, and that one counts",
        ),
        Column("pred_class", INT32, "the network's top class; null: it has none"),
        Column("pred_label", TEXT, "name of that class"),
        Column("pred_prob", FLOAT32, "its probability", "probability"),
        Column(
            "residual", FLOAT32, "‖v − D(W h)‖ / ‖v‖ over the image's positions", "relative norm"
        ),
        Column(
            "damage",
            TEXT,
            "what is wrong in the file, as its decoder says; the rest of it was used. null: nothing"
            " was noticed",
            is_later=True,
        ),
        Column("labels", TEXTS, "the dataset's labels", is_later=True),
        Column(
            "note",
            TEXT,
            "what was read of a file that holds more than that; null: all of it",
            is_later=True,
        ),
        *TRUTH,
    ),
    order=("path",),
)

IMAGE_CONCEPTS = Table(
    "image_concepts",
    "a concept in an image, where it is not zero throughout",
    (
        IMAGE_ID,
        CONCEPT_ID,
        Column("mean", FLOAT32, "mean strength over the positions, gauge units", "gauge units"),
        Column("max", FLOAT32, "largest strength, gauge units", "gauge units"),
        Column("area", FLOAT32, "share of the image's positions where it is present", "share"),
        Column("peak_x", FLOAT32, "where it is strongest, original pixels", "pixels"),
        Column("peak_y", FLOAT32, "where it is strongest, original pixels", "pixels"),
        Column(
            "contribution",
            FLOAT32,
            "to the predicted class, logits; before a head that must run, of more than twelve"
            " concepts, those that matter less to the image are the gradient's estimates",
            "logits",
        ),
    ),
    order=("concept_id", "-max", "image_id"),
)

REGIONS = Table(
    "regions",
    "a connected region of a concept in an image",
    (
        IMAGE_ID,
        CONCEPT_ID,
        *BOX,
        Column("score", FLOAT32, "mean strength within, gauge units", "gauge units"),
    ),
    order=("concept_id", "image_id", "-area", "y0", "x0"),
)

OBJECTS = Table(
    "objects",
    "a co-localized object of an image",
    (
        IMAGE_ID,
        Column(
            "concept_ids",
            INTS,
            "concepts present in it that are mostly foreground in images of its label",
        ),
        *BOX,
        Column(
            "score",
            FLOAT32,
            "mean foreground strength within: root of the length of its foreground part",
            "roots of activation",
        ),
    ),
    order=("image_id", "-area", "y0", "x0"),
)


@dataclass(frozen=True)
class ShardRows:
    """Rows of one shard, and the sums that the tables by concept need."""

    images: pd.DataFrame
    image_concepts: pd.DataFrame
    regions: pd.DataFrame
    objects: pd.DataFrame
    present_positions: NDArray[np.int64]
    n_positions: int


def shard_rows(
    arrays: dict[str, NDArray[Any]],
    thresholds: NDArray[np.float32],
    grid: Grid,
    foreground: Foreground,
    groups: Sequence[tuple[str, ...]],
    link: Link = "softmax",
) -> ShardRows:
    """Turn one shard of heatmaps into rows.

    Parameters
    ----------
    arrays : dict
        A shard as the localize stage wrote it, with H (n, h, w, k).
    thresholds : ndarray
        float32 (k,), presence thresholds in gauge units.
    grid : Grid
        The layer's cells in the network's input.
    foreground : Foreground
        Which concepts are foreground in which group.
    groups : sequence of tuple of str
        The groups of each image.
    link : {'softmax', 'sigmoid'}
        How logits become probabilities.
    """
    H = arrays["H"].astype(np.float32)
    top = top_classes(arrays["logits"])
    raised, seen = _raise(H, arrays, grid)
    object_maps, _ = _raise(foreground.maps(H, groups)[..., None], arrays, grid)
    present = thresholds <= H
    return ShardRows(
        images=_image_rows(arrays, top, link),
        image_concepts=_concept_rows(arrays, H, raised, present),
        regions=_region_rows(arrays, raised, thresholds),
        objects=_object_rows(
            arrays, object_maps[:, 0], raised, thresholds, foreground, foreground.weights(groups)
        ),
        present_positions=present.sum(axis=(0, 1, 2)),
        n_positions=int(seen * H.shape[1] * H.shape[2]),
    )


def _raise(
    H: NDArray[np.float32], arrays: dict[str, NDArray[Any]], grid: Grid
) -> tuple[NDArray[np.float32], int]:
    """Return maps (n, k, Y, X) that cover each image evenly, and the number of images."""
    n, h, w, k = H.shape
    finer = max(1, min(FINER, MOST // max(h, w)))
    shape = (finer * h, finer * w)
    raised = np.zeros((n, k, *shape), dtype=np.float32)
    maps = np.ascontiguousarray(np.moveaxis(H, -1, 1))
    places = np.column_stack([arrays["affine"], arrays["size"]])
    for place in np.unique(places, axis=0):  # images of one size are raised together
        which = np.flatnonzero((places == place).all(1))
        affine, size = Affine(*place[:4]), (int(place[4]), int(place[5]))
        found = upsample(maps[which].reshape(-1, h, w), grid, affine, size, shape)
        raised[which] = found.reshape(-1, k, *shape)
    return raised, n


def _image_rows(
    arrays: dict[str, NDArray[Any]], top: NDArray[np.int64], link: Link
) -> pd.DataFrame:
    logits = arrays["logits"]
    has_classes = logits.shape[1] > 0
    return pd.DataFrame(
        {
            "image_id": arrays["image_id"],
            "width": arrays["size"][:, 0],
            "height": arrays["size"][:, 1],
            "pred_class": top if has_classes else None,
            "pred_prob": probabilities(logits, link).max(1) if has_classes else np.nan,
            "residual": arrays["image_residual"],
            "damage": _texts(arrays, "damage"),
            "note": _texts(arrays, "note"),
        }
    )


def _texts(arrays: dict[str, NDArray[Any]], name: str) -> list[str | None]:
    """Return what is said of each image's file, as far as shards of its time know."""
    if name not in arrays:
        return [None] * len(arrays["image_id"])
    return [each.decode() or None for each in arrays[name]]


def _concept_rows(
    arrays: dict[str, NDArray[Any]],
    H: NDArray[np.float32],
    raised: NDArray[np.float32],
    present: NDArray[np.bool_],
) -> pd.DataFrame:
    peaks = H.max(axis=(1, 2))
    image, concept = np.nonzero(peaks > 0)
    height, width = raised.shape[2:]
    planes = raised[image, concept].reshape(len(image), height * width)
    planes[np.isnan(planes)] = -1
    row, column = np.divmod(planes.argmax(1), width)
    size = arrays["size"][image]
    return pd.DataFrame(
        {
            "image_id": arrays["image_id"][image],
            "concept_id": concept,
            "mean": H.mean(axis=(1, 2))[image, concept],
            "max": peaks[image, concept],
            "area": present.mean(axis=(1, 2))[image, concept],
            "peak_x": (column + 0.5) * size[:, 0] / width,
            "peak_y": (row + 0.5) * size[:, 1] / height,
            "contribution": arrays["contribution"][image, concept],
        }
    )


def _region_rows(
    arrays: dict[str, NDArray[Any]], raised: NDArray[np.float32], thresholds: NDArray[np.float32]
) -> pd.DataFrame:
    n, k = raised.shape[:2]
    found = find_regions(raised.reshape(n * k, *raised.shape[2:]), np.tile(thresholds, n))
    box = found.pixels(np.repeat(arrays["size"], k, axis=0))
    return _boxed(
        box,
        found.area,
        found.score,
        image_id=arrays["image_id"][found.map_index // k],
        concept_id=found.map_index % k,
    )


def _object_rows(
    arrays: dict[str, NDArray[Any]],
    maps: NDArray[np.float32],
    raised: NDArray[np.float32],
    thresholds: NDArray[np.float32],
    foreground: Foreground,
    shares: NDArray[np.float32],
) -> pd.DataFrame:
    level = np.full(len(maps), foreground.threshold, dtype=np.float32)
    found = find_regions(maps, level, min_area=0.01)
    height, width = maps.shape[1:]
    concept_ids = []
    for index, (x0, y0, x1, y1) in zip(found.map_index, found.box, strict=True):
        rows = slice(round(y0 * height), round(y1 * height))
        inside = raised[index][:, rows, round(x0 * width) : round(x1 * width)]
        held = np.nanmax(inside, axis=(1, 2)) >= thresholds
        concept_ids.append(np.flatnonzero((shares[index] >= MOSTLY) & held).tolist())
    return _boxed(
        found.pixels(arrays["size"]),
        found.area,
        found.score,
        image_id=arrays["image_id"][found.map_index],
        concept_ids=pd.Series(concept_ids, dtype=object),
    )


def _boxed(
    box: NDArray[np.int32], area: NDArray[np.float64], score: NDArray[np.float64], **keys: Any
) -> pd.DataFrame:
    edges = {name: box[:, column] for column, name in enumerate(("x0", "y0", "x1", "y1"))}
    return pd.DataFrame(keys | edges | {"area": area, "score": score})
