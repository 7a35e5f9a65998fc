"""What is object in a run's images, and which concept's each position is, learned on a sample.

It is kept in ``bank/objects.h5``. Of what is object, the coarse part needs the concepts' heatmaps
alone and serves every image; the fine part exists where ``AUX_LAYERS`` were stored whose grid is
finer than the concepts'. Which concept's a position is, is learned from the layer and all of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import store
from ..classify import top_classes
from ..errors import UserError
from ..images import Grid, between_grids
from ..localize import (
    FineForeground,
    Foreground,
    Winners,
    WinnersFit,
    affinities,
    fit_fine,
    fit_foreground,
    stack_layers,
    unit_length,
)
from ..runs.workspace import Workspace

N_IMAGES = 1_024
"""Images from which it is learned what is foreground: a random sample, the first of the run."""

N_POSITIONS = 200_000
"""Positions of the finer grid that the fine part is learned from, about; whole images."""

N_WINNERS = (512, 50_000)
"""Images and positions from which it is learned whose a position is, at most: the sums take seconds
where a layer has thousands of channels, and more did not score better on the sample."""


@dataclass(frozen=True)
class ObjectModel:
    """What is object: `coarse` from the concepts, `fine` from finer layers, if there are any.

    `winners` says which concept's a position is.
    """

    coarse: Foreground
    fine: FineForeground | None
    winners: Winners


def fit_objects(workspace: Workspace) -> ObjectModel:
    """Find on a sample of the run's images what is object, and write it down."""
    parts = _read_sample(workspace)
    H = np.concatenate([part["H"] for part in parts])[:N_IMAGES].astype(np.float32)
    top = top_classes(np.concatenate([part["logits"] for part in parts])[:N_IMAGES])
    image_ids = np.concatenate([part["image_id"] for part in parts])[:N_IMAGES]
    groups = groups_of(workspace, image_ids, top)
    coarse = fit_foreground(H, groups, workspace.bank.W)
    fine = _fit_fine(workspace, coarse.maps(H, groups))
    found = ObjectModel(coarse, fine, _fit_winners(workspace))
    arrays = {
        name: {field.name: getattr(part, field.name) for field in fields(part)}
        for name, part in vars(found).items()
        if part is not None
    }
    store.write_objects(workspace.objects_path, str(workspace.config.layer), arrays)
    return found


def read_objects(workspace: Workspace) -> ObjectModel:
    """Read what `fit_objects` wrote.

    Raises
    ------
    UserError
        The file is missing, damaged, or of another format.
    """
    path = workspace.whole("classes", "objects.h5")
    parts = store.read_objects(path, _sizes(workspace))
    try:
        return ObjectModel(
            Foreground(**parts["coarse"]),
            FineForeground(**parts["fine"]) if "fine" in parts else None,
            Winners(**parts["winners"]),
        )
    except (KeyError, TypeError) as error:  # arrays are missing, or others are there
        raise UserError(f"{path} is damaged ({error})") from error


def _sizes(workspace: Workspace) -> dict[str, int]:
    """Return how many concepts there are, and channels that the fine part and the winners take."""
    sizes = {"k": workspace.bank.k, "fine": 0, "winners": workspace.record.layer.channels}
    if workspace.config.aux_layers:
        channels = {
            name: workspace.cut.shapes[f"aux/{name}"][-1] for name in workspace.cut.aux_layers
        }
        sizes["fine"] = sum(channels[name] for name in finer_layers(workspace))
        sizes["winners"] += sum(channels.values())
    return sizes


def groups_of(
    workspace: Workspace, image_ids: NDArray[np.int64], top: NDArray[np.int64]
) -> list[tuple[str, ...]]:
    """Name the groups whose objects each image is searched for: its labels, else its top class."""
    places = workspace.listing.places(image_ids)
    if (places < 0).any():
        raise ValueError("an image is not of this run")
    labels = workspace.listing.labels[places].tolist()
    return [
        tuple(f"label {label}" for label in several) or (f"class {index}",)
        for several, index in zip(labels, top.tolist(), strict=True)
    ]


def finer_layers(workspace: Workspace) -> dict[str, Grid]:
    """Return the auxiliary layers whose grids are finer than the concepts', with their grids."""
    coarse = len(workspace.grid.centres_y)
    grids = _auxiliary_grids(workspace)
    return {name: grid for name, grid in grids.items() if len(grid.centres_y) > coarse}


def fine_features(
    maps: Mapping[str, NDArray[Any]], layers: Mapping[str, Grid]
) -> tuple[NDArray[np.float32], Grid]:
    """Put the auxiliary layers' maps, by name, side by side on the finest grid."""
    arrays = [maps[name].astype(np.float32) for name in layers]
    return stack_layers(arrays, list(layers.values()))


def winner_features(
    workspace: Workspace, maps: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.float32], Grid, float]:
    """Put the directions of the layer (``V``) and the auxiliary layers side by side.

    Returns
    -------
    features : ndarray
        float32 (n, h, w, channels), for `Winners`.
    grid : Grid
        The finest of the layers'.
    cell : float
        Side of a cell of the concepts' layer in cells of that grid.
    """
    grids = {"V": workspace.grid} | _auxiliary_grids(workspace)
    arrays = [unit_length(maps[name].astype(np.float32)) for name in grids]
    features, finest = stack_layers(arrays, list(grids.values()))
    return features, finest, len(finest.centres_y) / len(workspace.grid.centres_y)


def _auxiliary_grids(workspace: Workspace) -> dict[str, Grid]:
    centres = workspace.cut.aux_centres if workspace.config.aux_layers else {}
    size = workspace.grid.image_size
    return {name: Grid(*each, image_size=size) for name, each in centres.items()}


def _sampled(workspace: Workspace) -> frozenset[int]:
    """Return the ids of the images that are learned from."""
    frame = workspace.images
    return frozenset(map(int, frame["image_id"][frame["split"] != "copy"].head(N_IMAGES)))


def _read_sample(workspace: Workspace) -> list[dict[str, NDArray[Any]]]:
    parts: list[dict[str, NDArray[Any]]] = []
    names = ["H", "logits", "image_id"]
    for arrays in workspace.heatmaps.iterate(names, _sampled(workspace)):
        parts.append(arrays)
        if sum(len(part["H"]) for part in parts) >= N_IMAGES:
            break
    return parts


def _fit_fine(workspace: Workspace, strength: NDArray[np.float32]) -> FineForeground | None:
    layers = finer_layers(workspace)
    if not layers:
        return None
    n_cells = max(len(grid.centres_y) * len(grid.centres_x) for grid in layers.values())
    n_images = min(len(strength), max(1, N_POSITIONS // n_cells))
    parts = [*_read_layers(workspace, list(layers), n_images)]
    maps = {name: np.concatenate([part[name] for part in parts]) for name in layers}
    features, grid = fine_features(maps, layers)
    start = between_grids(strength[:n_images, ..., None], workspace.grid, grid)
    return fit_fine(features, start[..., 0])


def _fit_winners(workspace: Workspace) -> Winners:
    bank, grids = workspace.bank, _auxiliary_grids(workspace)
    n_cells = max(len(g.centres_y) * len(g.centres_x) for g in (workspace.grid, *grids.values()))
    n_images = min(N_WINNERS[0], max(1, N_WINNERS[1] // n_cells))
    fit = None
    layers = _read_layers(workspace, ["V", *grids], n_images)
    heatmaps = workspace.heatmaps.iterate(["H"], _sampled(workspace))
    for maps, arrays in zip(layers, heatmaps, strict=False):
        H = arrays["H"][: len(maps["V"])].astype(np.float32)
        features, grid, _ = winner_features(workspace, maps)
        fit = fit or WinnersFit(features.shape[-1], bank.k)
        fit.add(features, between_grids(affinities(H, bank.W), workspace.grid, grid))
    assert fit is not None  # runs have shards
    return fit.solve()


def _read_layers(
    workspace: Workspace, names: Sequence[str], n_images: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Read the first images' activations of layers, shard by shard; ``V`` is the concepts'."""
    stored = {name: name if name == "V" else f"aux/{name}" for name in names}
    for arrays in workspace.activations.iterate([*stored.values()], _sampled(workspace)):
        yield {name: arrays[kept][:n_images] for name, kept in stored.items()}
        n_images -= len(arrays[stored[names[0]]])
        if n_images <= 0:
            return
