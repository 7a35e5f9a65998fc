"""What a run holds of one image: its pixels, its heatmaps, its object mask."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.encode import load_image
from pipeline.errors import UserError
from pipeline.images import Affine, upsample
from pipeline.jobs.workspace import Workspace
from pipeline.localize import Foreground
from pipeline.store import Classification, read_classification

_KEPT = 32  # images whose arrays stay in memory: several calls about one image follow each other


class ImageMaps:
    """The images of a run one by one; nothing but the image asked for is read.

    Every method may be called from several threads at once, and raises `UserError` where the run
    has no such image.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.entry = lru_cache(maxsize=_KEPT)(self._read)

    def pixels(self, image_id: int) -> NDArray[np.uint8]:
        """Return an image's original pixels, uint8 (height, width, 3), RGB, upright."""
        path = self._workspace.listing.frame["path"].iloc[self._position(image_id)]
        return load_image(self._workspace.image_file(path))

    def grid_heatmap(self, image_id: int) -> NDArray[np.float32]:
        """Return an image's heatmaps on the layer's grid, float32 (k, h, w), gauge units."""
        H = self.entry(int(image_id))["H"]
        return np.ascontiguousarray(np.moveaxis(H, -1, 0), dtype=np.float32)

    def upsample(
        self, maps: NDArray[np.float32], image_id: int, shape: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Raise maps (n, h, w) on the layer's grid over an image, at its size or at `shape`.

        Returns
        -------
        ndarray
            float32 (n, height, width); NaN where the network did not see the image.
        """
        entry = self.entry(int(image_id))
        width, height = entry["size"].tolist()
        affine = Affine(*entry["affine"].tolist())
        return upsample(maps, self._workspace.grid, affine, (width, height), shape)

    def object_mask(self, image_id: int) -> NDArray[np.bool_]:
        """Return where an image's co-localized object is, bool (height, width), original size."""
        entry = self.entry(int(image_id))
        H, top = entry["H"].astype(np.float32), entry["logits"].argmax()
        strength = self._foreground.maps(H[None], np.array([top]))
        raised = np.nan_to_num(self.upsample(strength, image_id)[0])
        mask: NDArray[np.bool_] = raised >= self._foreground.threshold
        return mask

    def logits(self, image_id: int) -> tuple[float, float]:
        """Return the predicted class's logit for D(0), and its logit for the image."""
        logits = self.entry(int(image_id))["logits"]
        top = int(logits.argmax())
        return float(self.classification.nothing[top]), float(logits[top])

    @cached_property
    def classification(self) -> Classification:
        """What the head says of the concepts."""
        return read_classification(self._workspace.classes_path)

    @cached_property
    def _foreground(self) -> Foreground:
        found = self.classification
        return Foreground(found.foreground_weights, found.foreground_threshold)

    @cached_property
    def _order(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The image ids ascending, and the place of each in the working order."""
        image_ids = self._workspace.listing.frame["image_id"].to_numpy(np.int64)
        places = np.argsort(image_ids)
        return image_ids[places], places

    def _position(self, image_id: int) -> int:
        """Return an image's place in the working order, which says in which shard it is."""
        image_ids, places = self._order
        at = int(np.searchsorted(image_ids, int(image_id)))
        if at == len(image_ids) or image_ids[at] != image_id:
            raise self._no_image(image_id)
        return int(places[at])

    def _read(self, image_id: int) -> dict[str, NDArray[Any]]:
        shard = self._position(image_id) // self._workspace.listing.images_per_shard
        with self._workspace.heatmaps.open(shard) as file:
            rows = np.flatnonzero(file["image_id"][()] == image_id)
            if len(rows) == 0:
                raise self._no_image(image_id)
            names = ("H", "contribution", "logits", "size", "affine")
            return {name: file[name][int(rows[0])] for name in names}

    def _no_image(self, image_id: int) -> UserError:
        folder = self._workspace.folder
        return UserError(f"there is no image {image_id} in {folder}; see the table images")
