"""Where each concept of a run is strongest, and what chance looks like: maps moved elsewhere.

Notation: as in `pipeline.classify.verdict`: H (n, positions, k), V (n, positions, channels), a map
the strengths h_jp of one image where concept j is present, x = Σ_p h_jp V_p / Σ_p h_jp.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..classify import top_classes
from ..localize import Foreground
from .objects import groups_of
from .samples import RunSamples

N_ELSEWHERE = 1_024
"""Images, a random sample, that maps are moved to."""

PER_IMAGE = {True: 8, False: 1}
"""Maps moved to each, by whether the head is a linear map, which costs nothing."""


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
    """Maps on images that were not chosen for them.

    Attributes
    ----------
    image : ndarray
        int64 (n,), image ids.
    vectors : Tensor
        float32 (n, channels).
    holds : Tensor
        bool (n, k): whether the image holds a concept.
    """

    image: NDArray[np.int64]
    vectors: torch.Tensor
    holds: torch.Tensor


def find_places(sample: RunSamples, foreground: Foreground, n_strongest: int) -> Places:
    """Find the images in which each concept is strongest, none twice, and what stands there."""
    concept, rank, image = _ranked(sample, n_strongest)
    workspace = sample.workspace
    thresholds = torch.from_numpy(workspace.bank.thresholds).float()
    wanted = sorted(set(image.tolist()))
    n_positions = workspace.cut.height * workspace.cut.width
    maps = torch.zeros(len(image), n_positions)
    vectors, inside = torch.zeros(len(image), workspace.cut.channels), torch.zeros(len(image))
    for images in sample.read(wanted):
        H, V = workspace.bank.encode(images.V)[0], images.V.flatten(1, 2)
        groups = groups_of(workspace, images.image_id, top_classes(images.logits.numpy()))
        is_object = torch.from_numpy(foreground.maps(H.numpy(), groups) >= foreground.threshold)
        H, is_object = H.flatten(1, 2), is_object.flatten(1)
        for row, image_id in enumerate(images.image_id.tolist()):
            for each in np.flatnonzero(image == image_id).tolist():
                h = H[row, :, concept[each]]
                kept = torch.where(h >= thresholds[concept[each]], h, 0)
                maps[each] = kept / kept.sum().clamp_min(1e-12)
                vectors[each] = maps[each] @ V[row]
                inside[each] = maps[each][is_object[row]].sum().clamp(0, 1)
    return Places(concept, rank, image, maps, vectors, inside)


def move(sample: RunSamples, places: Places, seed: int = 0) -> Elsewhere:
    """Lay strong maps, drawn at random, on a random sample of images that hold not their concept.

    Where all images hold a concept, its maps are moved to none.
    """
    workspace = sample.workspace
    thresholds = torch.from_numpy(workspace.bank.thresholds).float()
    n_each = PER_IMAGE[workspace.cut.linear is not None]
    owners, vectors, holds = [], [], []
    for images in sample.read(sample.image_ids(N_ELSEWHERE)):
        H = workspace.bank.encode(images.V)[0].flatten(1, 2)
        present = H.amax(1) >= thresholds
        for row, image_id in enumerate(images.image_id.tolist()):
            is_free = ~present[row].numpy()[places.concept] & (places.image != image_id)
            generator = np.random.default_rng((seed, image_id))
            drawn = generator.permutation(np.flatnonzero(is_free))[:n_each]
            vectors.append(places.maps[drawn] @ images.V[row].flatten(0, 1))
            owners += [image_id] * len(drawn)
            holds.append(present[row].expand(len(drawn), -1))
    return Elsewhere(np.array(owners, dtype=np.int64), torch.cat(vectors), torch.cat(holds))


def _ranked(sample: RunSamples, n: int) -> tuple[NDArray[np.int64], ...]:
    """Return concept, rank and image of the strongest places, by concept and falling strength."""
    workspace = sample.workspace
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
