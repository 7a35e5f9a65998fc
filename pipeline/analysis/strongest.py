"""Where each concept of a run is strongest, and what chance looks like: maps moved elsewhere.

Notation: as in `pipeline.classify.verdict`: H (n, positions, k), V (n, positions, channels), a map
the strengths h_jp of one image where concept j is present, x = Σ_p h_jp V_p / Σ_p h_jp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..classify import top_classes
from ..localize import Foreground
from ..runs.workspace import Workspace
from .objects import groups_of
from .samples import AT_ONCE, RunSamples

N_ELSEWHERE, FEWEST_ELSEWHERE = 1_024, 128
"""Images, a random sample, that maps are moved to: at most and at least."""

MOVED_AT_ONCE = 16
"""Concepts whose maps are moved together: an image's activations are read once for them."""

HELD = 256 << 20
"""Bytes that their activations may take, in float16."""


@dataclass(frozen=True)
class Places:
    """Strong maps, and their mean activations.

    Attributes
    ----------
    concept : ndarray
        int64 (m,), rising.
    rank : ndarray
        int64 (m,), 0 is the strongest image of its concept.
    image : ndarray
        int64 (m,), image ids.
    maps : Tensor
        float32 (m, positions), strengths where present, else 0; they sum to 1.
    vectors : Tensor
        float32 (m, channels).
    inside : Tensor
        float32 (m,), share of each map on what is object in its image.
    """

    concept: NDArray[np.int64]
    rank: NDArray[np.int64]
    image: NDArray[np.int64]
    maps: torch.Tensor
    vectors: torch.Tensor
    inside: torch.Tensor


@dataclass(frozen=True)
class Elsewhere:
    """Images that maps are moved to.

    Attributes
    ----------
    image : ndarray
        int64 (n,), image ids.
    V : Tensor
        float16 (n, positions, channels).
    holds : ndarray
        bool (n, k): which of them hold which concept.
    """

    image: NDArray[np.int64]
    V: torch.Tensor
    holds: NDArray[np.bool_]


def find_places(sample: RunSamples, foreground: Foreground, n_strongest: int) -> Places:
    """Find the images in which each concept is strongest, none twice, and what stands there."""
    concept, rank, image = strongest_images(sample.workspace, n_strongest)
    workspace = sample.workspace
    thresholds = torch.from_numpy(workspace.bank.thresholds).float()
    wanted = sorted(set(image.tolist()))
    n_positions = workspace.cut.height * workspace.cut.width
    maps = torch.zeros(len(image), n_positions)
    vectors, inside = torch.zeros(len(image), workspace.cut.channels), torch.zeros(len(image))
    for images in sample.read(wanted):
        H, V = workspace.bank.strengths(images.V), images.V.flatten(1, 2)
        groups = groups_of(workspace, images.image_id, top_classes(images.logits.numpy()))
        is_object = torch.from_numpy(foreground.maps(H.numpy(), groups) >= foreground.threshold)
        H, is_object = H.flatten(1, 2), is_object.flatten(1)
        for row, image_id in enumerate(images.image_id.tolist()):
            mine = np.flatnonzero(image == image_id)
            j = torch.from_numpy(concept[mine])
            h = H[row][:, j].T
            kept = torch.where(h >= thresholds[j, None], h, 0)
            kept = kept / kept.sum(1, keepdim=True).clamp_min(1e-12)
            maps[mine], vectors[mine] = kept, kept @ V[row]
            inside[mine] = kept[:, is_object[row]].sum(1).clamp(0, 1)
    return Places(concept, rank, image, maps, vectors, inside)


def look_elsewhere(sample: RunSamples) -> Elsewhere:
    """Read a random sample of a run's images, to move maps to."""
    workspace = sample.workspace
    cut, thresholds = workspace.cut, torch.from_numpy(workspace.bank.thresholds).float()
    fitting = HELD // (2 * cut.height * cut.width * cut.channels)
    n = min(N_ELSEWHERE, max(FEWEST_ELSEWHERE, fitting))
    image, V, holds = [], [], []
    for images in sample.read(sample.image_ids(n)):
        H = workspace.bank.strengths(images.V)
        image.append(images.image_id)
        V.append(images.V.flatten(1, 2).half())
        holds.append((H.amax((1, 2)) >= thresholds).numpy())
    return Elsewhere(np.concatenate(image), torch.cat(V), np.concatenate(holds))


def move(
    places: Places, elsewhere: Elsewhere, concepts: range, seed: int, most: int | None = None
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    """Lay maps of each concept, drawn at random, on all images that do not hold it, or so many.

    Yields
    ------
    image : ndarray
        int64 (n,).
    vectors : Tensor
        float32 (n, channels).
    """
    n_images, n_channels = len(elsewhere.V), elsewhere.V.shape[2]
    for start in range(concepts.start, concepts.stop, MOVED_AT_ONCE):
        some = range(start, min(start + MOVED_AT_ONCE, concepts.stop))
        chosen = [_drawn(places, elsewhere, each, seed, most) for each in some]
        maps = torch.zeros(n_images, len(some), places.maps.shape[1])
        for at, (rows, drawn) in enumerate(chosen):
            maps[rows, at] = places.maps[drawn]
        moved = torch.empty(n_images, len(some), n_channels)
        for part in torch.arange(n_images).split(AT_ONCE):
            torch.bmm(maps[part], elsewhere.V[part].float(), out=moved[part[0] : part[-1] + 1])
        for at, (rows, _) in enumerate(chosen):
            yield elsewhere.image[rows], moved[rows, at]


def _drawn(
    places: Places, elsewhere: Elsewhere, concept: int, seed: int, most: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw a map of a concept for each image that does not hold it: rows of both, int64 (n,)."""
    rows = np.flatnonzero(~elsewhere.holds[:, concept])
    mine = np.flatnonzero(places.concept == concept)
    if not len(mine):
        return rows[:0], mine
    rng = np.random.default_rng((seed, concept))
    if most is not None and len(rows) > most:
        rows = np.sort(rng.choice(rows, most, replace=False))
    return rows, mine[rng.integers(0, len(mine), len(rows))]


def strongest_images(workspace: Workspace, n: int) -> tuple[NDArray[np.int64], ...]:
    """Find the images in which each concept is strongest, of those that hold it; copies left out.

    Parameters
    ----------
    workspace : Workspace
        With its heatmaps.
    n : int
        Images of a concept, at most; of equally strong ones those of the smaller ids.

    Returns
    -------
    concept, rank, image : ndarray
        int64 (m,) each, by concept and falling strength; rank 0 is the strongest.
    """
    thresholds, distinct = workspace.bank.thresholds, workspace.distinct_ids
    best = np.zeros((0, workspace.bank.k), dtype=np.float32)
    ids = np.zeros((0, workspace.bank.k), dtype=np.int64)
    for arrays in workspace.heatmaps.iterate(["H", "image_id"], distinct):
        peaks = arrays["H"].max((1, 2)).astype(np.float32)
        owners = np.broadcast_to(arrays["image_id"][:, None], peaks.shape)
        best, ids = np.concatenate([best, peaks]), np.concatenate([ids, owners])
        order = np.lexsort((ids, -best), axis=0)[:n]
        best = np.take_along_axis(best, order, axis=0)
        ids = np.take_along_axis(ids, order, axis=0)
    held = (best >= thresholds).T
    concept, rank = np.nonzero(held)
    return concept, rank, ids.T[concept, rank]
