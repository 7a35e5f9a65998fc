"""What is object in a run's images, and which concept's each position is, learned on a sample.

It is kept in ``bank/objects.h5``. Of what is object, the coarse part needs the concepts' heatmaps
alone; the fine part learns from it on the finest grid there is, that of ``AUX_LAYERS`` where they
were stored and are finer than the concepts'. Which concept's a position is, is learned from the
layer and all of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import store
from ..classify import top_classes
from ..errors import UserError
from ..images import Grid, between_grids
from ..localize import (
    FineModel,
    Groups,
    ObjectModel,
    Winners,
    WinnersFit,
    affinities,
    fit_fine_model,
    fit_foreground,
    of_parts,
    stack_layers,
    to_parts,
    unit_length,
    whitening_of_layers,
)
from ..localize.fine_model import N_CONCEPTS, N_DIRECTIONS
from ..localize.whiten import N_POSITIONS
from ..runs.workspace import Workspace

N_IMAGES = 1_024
"""Images from which it is learned what is foreground: a random sample, the first of the run."""

N_VALUES = 2**26
"""Features of positions that the fine part is learned from, 256 MB; whole images."""

N_WINNERS = (512, 50_000)
"""Images and positions from which it is learned whose a position is, at most: the sums take seconds
where a layer has thousands of channels, and more did not score better on the sample."""


def fit_objects(workspace: Workspace) -> ObjectModel:
    """Find on a sample of the run's images what is object, and write it down."""
    parts = _read_sample(workspace)
    H = np.concatenate([part["H"] for part in parts])[:N_IMAGES].astype(np.float32)
    top = top_classes(np.concatenate([part["logits"] for part in parts])[:N_IMAGES])
    image_ids = np.concatenate([part["image_id"] for part in parts])[:N_IMAGES]
    groups = groups_of(workspace, image_ids, top)
    coarse = fit_foreground(H, groups, workspace.bank.W)
    fine = fit_fine_part(workspace, H, labels_of(workspace, image_ids), coarse.maps(H, groups))
    found = ObjectModel(coarse, fine, _fit_winners(workspace))
    store.write_objects(workspace.objects_path, str(workspace.config.layer), to_parts(found))
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
        return of_parts(parts, workspace.bank.k)
    except (KeyError, TypeError, ValueError) as error:  # arrays are missing, or do not fit
        raise UserError(f"{path} is damaged ({error})") from error


def _sizes(workspace: Workspace) -> dict[str, int]:
    """Return how many concepts there are, and channels that the fine part and the winners take."""
    sizes = {"k": workspace.bank.k, "fine": 0, "winners": workspace.record.layer.channels}
    if workspace.config.aux_layers:
        channels = {
            name: workspace.cut.shapes[f"aux/{name}"][-1] for name in workspace.cut.aux_layers
        }
        sizes["fine"] = sum(fine_channels(workspace))
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


def labels_of(workspace: Workspace, image_ids: NDArray[np.int64]) -> Groups:
    """Return the labels of images, by which they are grouped; none of images without."""
    labels = workspace.listing.labels[workspace.listing.places(image_ids)].tolist()
    return [tuple(f"label {label}" for label in several) for several in labels]


def finer_layers(workspace: Workspace) -> dict[str, Grid]:
    """Return the auxiliary layers whose grids are finer than the concepts', with their grids."""
    coarse = len(workspace.grid.centres_y)
    grids = _auxiliary_grids(workspace)
    return {name: grid for name, grid in grids.items() if len(grid.centres_y) > coarse}


def fine_features(
    workspace: Workspace, maps: Mapping[str, NDArray[Any]], H: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], Grid]:
    """Put what the fine part looks at on the finest grid.

    Parameters
    ----------
    workspace : Workspace
    maps : mapping
        Activations (n, h, w, channels) of `finer_layers`, by name.
    H : ndarray
        float32 (n, h', w', k).

    Returns
    -------
    maps : ndarray
        float32 (n, h, w, all channels); without finer layers no channels.
    raised : ndarray
        float32 (n, h, w, k), the strengths on that grid.
    grid : Grid
    """
    layers = finer_layers(workspace)
    if not layers:
        return np.zeros((*H.shape[:3], 0), np.float32), H, workspace.grid
    arrays = [maps[name].astype(np.float32) for name in layers]
    stacked, grid = stack_layers(arrays, list(layers.values()))
    return stacked, between_grids(H, workspace.grid, grid), grid


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


def sampled_ids(workspace: Workspace) -> frozenset[int]:
    """Return the ids of the images that are learned from."""
    frame = workspace.images
    return frozenset(map(int, frame["image_id"][frame["split"] != "copy"].head(N_IMAGES)))


def _read_sample(workspace: Workspace) -> list[dict[str, NDArray[Any]]]:
    parts: list[dict[str, NDArray[Any]]] = []
    names = ["H", "logits", "image_id"]
    for arrays in workspace.heatmaps.iterate(names, sampled_ids(workspace)):
        parts.append(arrays)
        if sum(len(part["H"]) for part in parts) >= N_IMAGES:
            break
    return parts


def fit_fine_part(
    workspace: Workspace, H: NDArray[np.float32], labels: Groups, strength: NDArray[np.float32]
) -> FineModel | None:
    """Learn the fine part; activations of one shard are in memory at once, features of all are.

    Parameters
    ----------
    workspace : Workspace
    H : ndarray
        float32 (n, h, w, k), heatmaps of the first images of the run, of which the first are used.
    labels : sequence of tuple of str
        Of each of these images.
    strength : ndarray
        float32 (n, h, w), foreground strength to start from.
    """
    grids = [*finer_layers(workspace).values()] or [workspace.grid]
    finest = max(grids, key=lambda grid: len(grid.centres_y))
    n_cells = len(finest.centres_y) * len(finest.centres_x)
    n_features = N_DIRECTIONS + N_CONCEPTS + workspace.bank.k
    n = min(len(H), max(1, N_VALUES // (n_cells * n_features)))
    H, labels = H[:n], labels[:n]
    raised = between_grids(H, workspace.grid, finest)
    coarse = between_grids(strength[:n, ..., None], workspace.grid, finest)[..., 0]
    whitening = whitening_of_layers(_some_positions(workspace, n))
    Z = np.zeros((*raised.shape[:3], 0), np.float32)
    if finer_layers(workspace):
        Z = np.concatenate([whitening.apply(each) for each in _stacked(workspace, n)])
    return fit_fine_model(whitening, Z, raised, H, labels, coarse)


def _stacked(workspace: Workspace, n_images: int) -> Iterator[NDArray[np.float32]]:
    """Read the finer layers' maps (n, h, w, all channels) of the first images, shard by shard."""
    layers = finer_layers(workspace)
    for maps in _read_layers(workspace, list(layers), n_images) if layers else ():
        arrays = [maps[name].astype(np.float32) for name in layers]
        yield stack_layers(arrays, list(layers.values()))[0]


def _some_positions(workspace: Workspace, n_images: int) -> NDArray[np.float32]:
    """Return enough positions (n, all channels) of the finer layers to learn directions from."""
    parts = [np.zeros((0, sum(fine_channels(workspace))), np.float32)]
    for stacked in _stacked(workspace, n_images):
        parts.append(stacked.reshape(-1, stacked.shape[-1]))
        if sum(map(len, parts)) >= N_POSITIONS:
            break
    return np.concatenate(parts)


def fine_channels(workspace: Workspace) -> list[int]:
    """Return how many channels each of `finer_layers` has."""
    return [workspace.cut.shapes[f"aux/{name}"][-1] for name in finer_layers(workspace)]


def _fit_winners(workspace: Workspace) -> Winners:
    bank, grids = workspace.bank, _auxiliary_grids(workspace)
    n_cells = max(len(g.centres_y) * len(g.centres_x) for g in (workspace.grid, *grids.values()))
    n_images = min(N_WINNERS[0], max(1, N_WINNERS[1] // n_cells))
    fit = None
    layers = _read_layers(workspace, ["V", *grids], n_images)
    heatmaps = workspace.heatmaps.iterate(["H"], sampled_ids(workspace))
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
    for arrays in workspace.activations.iterate([*stored.values()], sampled_ids(workspace)):
        yield {name: arrays[kept][:n_images] for name, kept in stored.items()}
        n_images -= len(arrays[stored[names[0]]])
        if n_images <= 0:
            return
