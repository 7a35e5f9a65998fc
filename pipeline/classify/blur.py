"""Blur the pixels of a concept in the input, run the whole network, and see which classes fall.

Beside it the same region moved elsewhere: every connected piece keeps its shape and lands at a
random place where it touches no other, so that area and number of pieces are exactly the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import UserError
from ..models.link import Link, probabilities
from .statistics import interval

SIGMA = 1 / 24
"""Width of the blur, as a share of the image's side: 9 pixels of 224, which leaves no texture and
no part of an object, and no edge that black or grey would bring."""

N_CONTROLS = 3
"""Regions moved at random for each image."""

TRIES = 100
"""Places tried for each piece before the region counts as one that fits nowhere else."""

EIGHT = np.ones((3, 3), dtype=int)

Mask = NDArray[np.bool_]
Network = Callable[[torch.Tensor], torch.Tensor]
"""From uint8 images (n, 3, size, size) to logits (n, classes)."""


@dataclass(frozen=True)
class Blurred:
    """What the network loses with a concept's pixels.

    Attributes
    ----------
    classes : DataFrame
        A row per class, the one that falls most first: class_id, prob (mean probability, nothing
        blurred), drop (mean fall with the concept blurred), drop_random (with moved regions),
        difference of the two with ci_low, ci_high (95 % interval, over images).
    changed, changed_random : float
        Share of the images whose top class is another then; mean over the moved regions.
    n_images, n_unmatched : int
        Images measured, and those left out because their region fits nowhere else.
    """

    classes: pd.DataFrame
    changed: float
    changed_random: float
    n_images: int
    n_unmatched: int


def blur_concept(
    network: Network, images: torch.Tensor, masks: Mask, seed: int = 0, link: Link = "softmax"
) -> Blurred:
    """Blur a concept's region in images, and moved regions, and compare what falls.

    Parameters
    ----------
    network : callable
        The whole network.
    images : Tensor
        uint8 (n, 3, size, size).
    masks : ndarray
        bool (n, size, size), where the concept is.
    seed : int
        Of the moved regions.
    link : {'softmax', 'sigmoid'}
        How logits become probabilities.

    Raises
    ------
    UserError
        No image has a region that can be moved.
    """
    rng = np.random.default_rng(seed)
    moved = [[moved_region(mask, rng) for _ in range(N_CONTROLS)] for mask in masks]
    kept = [i for i, found in enumerate(moved) if all(each is not None for each in found)]
    if not kept:
        raise UserError(f"none of the {len(masks)} regions fits elsewhere in its image")
    images = images[kept]
    soft = blurred(images)
    before = network(images).double()
    after = _answer(network, images, soft, masks[kept])
    controls = [
        _answer(network, images, soft, np.array([moved[i][each] for i in kept]))
        for each in range(N_CONTROLS)
    ]
    likely, less, *random = (
        probabilities(each, link).numpy() for each in (before, after, *controls)
    )
    drop_random = np.mean([likely - each for each in random], axis=0)
    top = before.argmax(1)
    return Blurred(
        classes=_by_class(likely, likely - less, drop_random, seed),
        changed=float((after.argmax(1) != top).double().mean()),
        changed_random=float(
            np.mean([float((each.argmax(1) != top).double().mean()) for each in controls])
        ),
        n_images=len(kept),
        n_unmatched=len(masks) - len(kept),
    )


def moved_region(mask: Mask, rng: np.random.Generator) -> Mask | None:
    """Move every connected piece of a region to a random place, none touching another.

    Parameters
    ----------
    mask : ndarray
        bool (height, width).
    rng : Generator
        Decides the places; every piece is mirrored at random too.

    Returns
    -------
    ndarray or None
        bool (height, width) with the same area and number of pieces (8 neighbours); None where
        the region is empty or no place was found for a piece.
    """
    labels, n_pieces = ndimage.label(mask, structure=EIGHT)
    boxes = ndimage.find_objects(labels)
    pieces = [labels[box] == index for index, box in enumerate(boxes, 1)]
    moved = np.zeros_like(mask)
    taken = np.zeros_like(mask)  # what is placed, and its neighbours
    for piece in sorted(pieces, key=lambda each: -each.sum()):
        turned = piece[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
        place = _place(turned, taken, rng)
        if place is None:
            return None
        moved[place] |= turned
        taken = ndimage.binary_dilation(moved, structure=EIGHT)
    return moved if n_pieces else None


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Blur whole images uint8 (n, 3, size, size), by a Gaussian of `SIGMA` of their side."""
    sigma = SIGMA * images.shape[-1]
    width = 2 * int(np.ceil(2.5 * sigma)) + 1
    width = min(width, images.shape[-1] // 2 * 2 - 1)  # reflection at the edges allows no more
    from torchvision.transforms.functional import gaussian_blur  # takes a second and more

    soft: torch.Tensor = gaussian_blur(images, [width, width], [sigma, sigma])
    return soft


def _place(piece: Mask, taken: Mask, rng: np.random.Generator) -> tuple[slice, slice] | None:
    height, width = (whole - part for whole, part in zip(taken.shape, piece.shape, strict=True))
    for _ in range(TRIES):
        y, x = rng.integers(height + 1), rng.integers(width + 1)
        place = (slice(y, y + piece.shape[0]), slice(x, x + piece.shape[1]))
        if not (taken[place] & piece).any():
            return place
    return None


def _answer(
    network: Network, images: torch.Tensor, soft: torch.Tensor, masks: Mask
) -> torch.Tensor:
    mixed = torch.where(torch.from_numpy(masks)[:, None], soft, images)
    return network(mixed).double()


def _by_class(
    before: NDArray[np.float64],
    drop: NDArray[np.float64],
    drop_random: NDArray[np.float64],
    seed: int,
) -> pd.DataFrame:
    difference, low, high = interval(drop - drop_random, seed)
    frame = pd.DataFrame(
        {
            "class_id": np.arange(before.shape[1]),
            "prob": before.mean(0),
            "drop": drop.mean(0),
            "drop_random": drop_random.mean(0),
            "difference": difference,
            "ci_low": low,
            "ci_high": high,
        }
    )
    return frame.sort_values("drop", ascending=False, kind="stable", ignore_index=True)
