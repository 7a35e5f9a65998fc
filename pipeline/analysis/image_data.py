"""What a run holds of one image: its pixels, its heatmaps, its object mask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .. import plugins
from ..classify import top_classes
from ..errors import UserError
from ..images import Affine, DecodeError, Grid, decoded, network_input, upsample
from ..localize import CENTRED, ObjectModel, Refiner, centred, working_shape
from ..pictures.scale import shrunk
from ..pictures.veil import placeholder
from ..runs.workspace import Workspace
from ..store import Classification
from .arguments import image_id_of
from .objects import (
    fine_features,
    finer_layers,
    groups_of,
    labels_of,
    read_objects,
    winner_features,
)

_KEPT = 32  # images whose arrays stay in memory: several calls about one image follow each other
_NAMES = ("H", "residual", "contribution", "logits", "size", "affine")

Entry = dict[str, NDArray[Any]]


class GoneError(UserError):
    """An image whose pixels are not there any more as the network saw them."""


class ImageData:
    """The images of a run one by one; nothing but the image asked for is read.

    Every method may be called from several threads at once, and raises `UserError` where the run
    has no such image.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._lock = Lock()

    def entry(self, image_id: int) -> Entry:
        """Return an image's arrays as they are stored, by name."""
        with self._lock:
            if image_id in self._entries:
                self._entries.move_to_end(image_id)
                return self._entries[image_id]
        return self.fetch([image_id])[0]

    def fetch(self, image_ids: Sequence[int]) -> list[Entry]:
        """Read several images' arrays; shards are opened once, and what was read stays a while."""
        shards: dict[int, list[int]] = {}
        for image_id in image_ids:
            shards.setdefault(self._shard(image_id), []).append(image_id)
        read: dict[int, Entry] = {}
        for shard, wanted in shards.items():
            read |= self._read(shard, frozenset(wanted))
        if missing := [each for each in image_ids if each not in read]:
            raise self._no_image(missing[0])
        with self._lock:
            for image_id, entry in read.items():
                self._entries[image_id] = entry
                self._entries.move_to_end(image_id)
            while len(self._entries) > max(_KEPT, len(read)):
                self._entries.popitem(last=False)
        return [read[each] for each in image_ids]

    def size(self, image_id: int) -> tuple[int, int]:
        """Return an image's original width and height."""
        width, height = self.entry(int(image_id))["size"].tolist()
        return width, height

    def pixels(self, image_id: int, longest: int | None = None) -> NDArray[np.uint8]:
        """Return an image's pixels, uint8 (height, width, 3), RGB, upright.

        They are scaled down where the longer side has more than `longest`, before their memory is
        given back.

        Raises
        ------
        GoneError
            They cannot be read any more, or are others than those the network saw.
        """
        record = self._workspace.listing.record(self._position(image_id))
        seen = self.entry(image_id).get("content")
        try:
            reduced = longest is not None
            source, rule = self._workspace.source, self._workspace.pixel_rule
            with decoded(source, record, rule, reduced=reduced) as (picture, digest):
                if seen is not None and seen.item().decode() != digest:
                    raise GoneError(
                        f"image {image_id}, {record.path}, is not the one that the network saw: it"
                        " was replaced since"
                    )
                pixels: NDArray[np.uint8] = picture.pixels.permute(1, 2, 0).contiguous().numpy()
                return pixels if longest is None else np.asarray(shrunk(pixels, longest))
        except DecodeError as error:
            raise GoneError(f"image {image_id}, {record.path}, cannot be used: {error}") from error

    def picture(self, image_id: int) -> NDArray[np.uint8]:
        """Return an image's pixels to look at; where it is gone, a grey picture that says so."""
        try:
            return self.pixels(image_id)
        except GoneError:
            return placeholder(*self.size(image_id), "gone")

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

    def residual(self, image_id: int) -> NDArray[np.float32]:
        """Return how little the concepts explain, ‖v − D(W h)‖ / ‖v‖, float32 (height, width)."""
        residual = self.entry(int(image_id))["residual"].astype(np.float32)
        raised: NDArray[np.float32] = self.upsample(residual[None], image_id)[0]
        return raised

    def concept_map(
        self, image_id: int, shape: tuple[int, int] | None, most_residual: float
    ) -> NDArray[np.int16]:
        """Return the concept of each pixel; see `Run.concept_map`."""
        entry = self.entry(int(image_id))
        features, grid, cell = winner_features(self._workspace, self._layers(image_id))
        claims = np.moveaxis(self.objects.winners.maps(features, cell)[0], -1, 0)
        width, height = entry["size"].tolist()
        affine = Affine(*entry["affine"].tolist())
        raised = upsample(np.ascontiguousarray(claims), grid, affine, (width, height), shape)
        residual = self.upsample(entry["residual"].astype(np.float32)[None], image_id, shape)[0]
        nothing = np.isnan(residual) | (residual > most_residual)
        winner = np.nan_to_num(raised).argmax(0).astype(np.int16)
        return np.where(nothing, np.int16(-1), winner)

    def object_mask(self, image_id: int, *, refined: bool | str = True) -> NDArray[np.bool_]:
        """Return where an image's co-localized object is; see `Run.object_mask`."""
        width, height = self.size(image_id)
        if refined is False:
            return self.coarse_mask(image_id, (height, width))
        found = self._refined(image_id, refined)
        mask: NDArray[np.bool_] = found > 0.5
        return mask

    def object_strength(self, image_id: int, *, refined: bool | str = True) -> NDArray[np.float32]:
        """Return how probably object is where; see `Run.object_strength`."""
        width, height = self.size(image_id)
        if refined is False:
            evidence = self.object_evidence(image_id, (height, width))
            strength: NDArray[np.float32] = np.nan_to_num(expit(evidence))
            return strength
        return self._refined(image_id, refined).astype(np.float32)

    def _refined(self, image_id: int, refined: bool | str) -> NDArray[Any]:
        """Return what a mask refiner finds: a mask, or the probability of object."""
        if not isinstance(refined, bool | str):
            raise UserError(f"refined is True, False or a mask refiner's name, this is {refined!r}")
        width, height = self.size(image_id)
        evidence = self.object_evidence(image_id, working_shape(width, height))
        name = refined if isinstance(refined, str) else "edges"
        refiner: Refiner = plugins.load(plugins.REFINERS, name)
        found = refiner(self.pixels(image_id), evidence)
        if found.shape != (height, width) or found.dtype not in (np.bool_, np.float32):
            raise UserError(
                f"the mask refiner {name!r} gave {found.dtype} {found.shape} for an image of"
                f" {width} × {height} pixels, not bool or float32 {(height, width)}"
            )
        if found.dtype == np.float32 and not ((found >= 0) & (found <= 1)).all():
            raise UserError(
                f"the mask refiner {name!r} gave values from {found.min():.3g} to"
                f" {found.max():.3g}, not probabilities"
            )
        return found

    def coarse_mask(self, image_id: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return where the object is by its evidence alone, bool of `shape`."""
        mask: NDArray[np.bool_] = self.object_evidence(image_id, shape) >= 0
        return mask

    def object_evidence(self, image_id: int, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return how much speaks for object, float32 of `shape`: object above 0, in standard
        deviations of foreground strength; NaN where the network did not see the image."""
        entry = self.entry(int(image_id))
        strength, grid = self._strength(int(image_id), entry)
        width, height = entry["size"].tolist()
        affine = Affine(*entry["affine"].tolist())
        raised = upsample(strength, grid, affine, (width, height), shape)[0]
        evidence: NDArray[np.float32] = raised + CENTRED * centred(shape)
        return evidence

    def _strength(self, image_id: int, entry: Entry) -> tuple[NDArray[np.float32], Grid]:
        """Return an image's evidence for object (1, h, w), and the grid it is on."""
        workspace, model, ids = self._workspace, self.objects, np.array([image_id])
        H = entry["H"].astype(np.float32)[None]
        if model.fine is not None:
            maps = self._layers(image_id) if finer_layers(workspace) else {}
            stacked, raised, grid = fine_features(workspace, maps, H)
            return model.fine.evidence(stacked, raised, H, labels_of(workspace, ids)), grid
        groups = groups_of(workspace, ids, top_classes(entry["logits"][None]))
        coarse = model.coarse
        strength = (coarse.maps(H, groups) - coarse.threshold) / coarse.spread
        return strength.astype(np.float32), workspace.grid

    def logits(self, image_id: int) -> tuple[float, float]:
        """Return the predicted class's logit for D(0), and its logit for the image."""
        logits, nothing = self.entry(int(image_id))["logits"], self.classification.nothing
        if logits.shape != nothing.shape:
            raise UserError(
                f"{self._workspace.classes_path} is of {len(nothing)} classes, and the heatmaps of"
                f" image {image_id} are of {len(logits)}; they are not of one run"
            )
        if not len(logits):
            raise UserError(
                f"{self._workspace.config.model} has no classes, so there are no logits"
            )
        top = int(logits.argmax())
        return float(nothing[top]), float(logits[top])

    @cached_property
    def classification(self) -> Classification:
        """What the head says of the concepts."""
        return self._workspace.classification

    @cached_property
    def objects(self) -> ObjectModel:
        """What is object in the run's images."""
        return read_objects(self._workspace)

    def _layers(self, image_id: int) -> dict[str, NDArray[Any]]:
        """Return an image's activations (1, h, w, channels), stored or computed anew.

        ``V`` are those of the concepts' layer, the others go by their names.
        """
        config, cut = self._workspace.config, self._workspace.cut
        store = self._workspace.activations
        shard = self._shard(image_id)
        if store.path(shard).exists():
            stored = {"V": "V"} | {name: f"aux/{name}" for name in cut.aux_layers}
            arrays = store.read(shard, [*stored.values()], frozenset([image_id]))
            return {name: arrays[kept] for name, kept in stored.items()}
        square, _ = network_input(
            self.pixels(image_id), cut.network.image_size, config.resize, cut.network.scaling
        )
        forward = cut.forward(square[None])
        return {"V": forward.V.numpy()} | {name: each.numpy() for name, each in forward.aux.items()}

    def _position(self, image_id: int) -> int:
        """Return an image's place in the working order, which says in which shard it is."""
        known = image_id_of(self._workspace, image_id)
        return int(self._workspace.listing.places([known])[0])

    def _shard(self, image_id: int) -> int:
        return int(self._workspace.listing.shards_of(self._position(image_id)))

    def _read(self, shard: int, wanted: frozenset[int]) -> dict[int, Entry]:
        arrays = self._workspace.heatmaps.read(
            shard, ("image_id", *_NAMES), wanted, optional=("content",)
        )
        image_ids = arrays.pop("image_id").tolist()
        return {
            image_id: {name: array[row] for name, array in arrays.items()}
            for row, image_id in enumerate(image_ids)
        }

    def _no_image(self, image_id: int) -> UserError:
        folder = self._workspace.folder
        return UserError(f"there is no image {image_id} in {folder}; see the table images")
