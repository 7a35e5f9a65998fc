"""Which concept tells which label of the dataset, and which part of the truth; see `alignment`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..images import Affine, unit_hash
from ..localize.alignment import align
from ..truth import Truth
from .run import Run

MOST_POSITIONS = 200_000
"""Positions that parts are scored on, at most."""


def align_labels(run: Run) -> pd.DataFrame:
    """Choose the concept of each label on the images fitted on, and score it on held-out ones."""
    images = run.table("images")
    images = images[images["label"].notna() & (images["split"] != "copy")]
    labels = run.workspace.listing.labels[run.workspace.listing.places(images["image_id"])]
    places = {image_id: row for row, image_id in enumerate(images["image_id"])}
    strength = np.zeros((len(images), len(run.table("concepts"))), np.float32)
    said = run.sql("select image_id, concept_id, max from image_concepts")
    said = said[said["image_id"].isin(places)]
    rows = said["image_id"].map(places).to_numpy(np.int64)
    strength[rows, said["concept_id"].to_numpy(np.int64)] = said["max"].to_numpy(np.float32)
    names = sorted({label for each in labels for label in each})
    members = np.array([[name in each for name in names] for each in labels], np.bool_)
    choose = (images["split"] == "fit").to_numpy()
    return align(strength, members.reshape(len(labels), -1), names, choose, "label")


class Parts:
    """Collects the strengths of concepts where parts of the truth are."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._strength: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.int64]] = []
        self._chosen: list[NDArray[np.bool_]] = []

    def add(self, image_id: int, truth: Truth) -> None:
        """Take the cells of an image's grid, and what the truth says at their centres."""
        assert truth.labels is not None
        data, grid = self._run.image_data, self._run.workspace.grid
        affine = Affine(*data.entry(image_id)["affine"].tolist())
        centres = np.stack(np.meshgrid(grid.centres_x, grid.centres_y), -1) + 0.5
        x, y = np.moveaxis(affine.to_image(centres), -1, 0)
        height, width = truth.labels.shape
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        place = y[seen].astype(int), x[seen].astype(int)
        if truth.void is not None:
            seen[seen] = ~truth.void[place]
            place = y[seen].astype(int), x[seen].astype(int)
        H = data.grid_heatmap(image_id)
        self._strength.append(np.ascontiguousarray(H[:, seen].T))
        self._labels.append(truth.labels[place])
        half = unit_hash(image_id, 0, "evaluate") < 0.5
        self._chosen.append(np.full(int(seen.sum()), half))

    def aligned(self) -> pd.DataFrame:
        """Choose the concept of each part on one half of the images, and score it on the other."""
        if not self._labels:
            return pd.DataFrame()
        labels = np.concatenate(self._labels)
        step = max(1, len(labels) // MOST_POSITIONS)
        labels = labels[::step]
        values = [value for value in np.unique(labels) if value]
        names = [f"#{value:06x}" if value > 0xFFFF else str(value) for value in values]
        return align(
            np.concatenate(self._strength)[::step],
            labels[:, None] == np.array(values, np.int64),
            names,
            np.concatenate(self._chosen)[::step],
            "part",
        )
