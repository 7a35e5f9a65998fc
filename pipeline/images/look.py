"""What an image looks like in the small: a grey thumbnail, and a hash of its coarsest waves.

Pictures that are re-encoded, rescaled, brightened or a little cropped keep both, nearly. The hash
is the perceptual hash of Zauner ("Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010): signs of the lowest coefficients of a discrete cosine transform. Colours are not
looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .geometry import Affine

SIDE = 16
"""Cells of a thumbnail per side."""

N_BITS = 128
"""Bits of a hash, those of the longest waves first."""

LEAST_CONTRAST = 8
"""Grey levels between the darkest and the lightest cell, below which an image is even."""

LEAST_WAVES = 12.0
"""Waves that make up an image in effect, below which too many different images are alike: skies
over a horizon, single strokes. Of photographs one in a hundred has fewer."""

_GREY = np.array([77.0, 150.0, 29.0])
"""Weights of red, green and blue, in 256ths."""


def thumbnail(pixels: torch.Tensor) -> NDArray[np.uint8]:
    """Return an image's grey thumbnail, the same on every machine: sums are of whole numbers.

    Parameters
    ----------
    pixels : Tensor
        uint8 (3, height, width).

    Returns
    -------
    ndarray
        uint8 (`SIDE`, `SIDE`), the darkest cell 0 and the lightest 255; of even images (see
        `LEAST_CONTRAST`) grey levels as they are.
    """
    (rows, tall), (columns, wide) = map(_cells, pixels.shape[1:])
    sums = _sums_of_columns(_sums_of_rows(pixels, rows, tall), columns, wide)
    grey = np.tensordot(_GREY, sums, 1) / (256.0 * tall[:, None] * wide)
    darkest, lightest = grey.min(), grey.max()
    if lightest - darkest >= LEAST_CONTRAST:
        grey = (grey - darkest) * (255 / (lightest - darkest))
    small: NDArray[np.uint8] = np.rint(grey).astype(np.uint8)
    return small


def picture_within(pixels: torch.Tensor, affine: Affine, size: tuple[int, int]) -> torch.Tensor:
    """Leave out the borders that were added to an image, for all images have the same.

    Parameters
    ----------
    pixels : Tensor
        uint8 (3, height, width), the network's input.
    affine : Affine
        From the image to it.
    size : (int, int)
        Width and height of the image.
    """
    left, top = round(max(0.0, affine.offset_x)), round(max(0.0, affine.offset_y))
    right = round(affine.offset_x + affine.scale_x * size[0])
    bottom = round(affine.offset_y + affine.scale_y * size[1])
    return pixels[:, top : max(top + 1, bottom), left : max(left + 1, right)]


def hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.object_]:
    """Hash thumbnails.

    Parameters
    ----------
    thumbnails : ndarray
        uint8 (n, `SIDE`, `SIDE`).

    Returns
    -------
    ndarray
        object (n,), `N_BITS` / 4 hexadecimal digits each; empty for images that are even, or made
        up of so few waves that a hash tells nothing of them.
    """
    waves = waves_of(thumbnails.astype(np.float64))
    spread = thumbnails.reshape(-1, SIDE * SIDE)
    contrast = spread.max(1).astype(int) - spread.min(1) if len(spread) else np.zeros(0)
    tells = (contrast >= LEAST_CONTRAST) & (n_waves(waves) >= LEAST_WAVES)
    # A little above 0, where rounding decides of waves that are not there.
    packed = np.packbits(waves[:, _ORDER] > _NEAR_0, axis=1)
    texts = [row.tobytes().hex() if told else "" for row, told in zip(packed, tells, strict=True)]
    return np.array(texts, dtype=object)


def waves_of(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the coefficients of the cosine transform of maps (n, `SIDE`, `SIDE`), (n, `SIDE`²)."""
    found: NDArray[np.float64] = _COSINES @ maps @ _COSINES.T
    return found.reshape(-1, SIDE * SIDE)


def n_waves(waves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many waves make up images in effect: (Σe)² / Σe² of the energies of their slopes.

    Parameters
    ----------
    waves : ndarray
        float64 (n, `SIDE`²), coefficients.

    Returns
    -------
    ndarray
        float64 (n,), from 0 for even images to `SIDE`² − 1.
    """
    energies = waves**2 * _STEEPNESS
    whole = energies.sum(1)
    shares = energies / np.where(whole > 0, whole, 1)[:, None]
    squares = (shares**2).sum(1)
    return np.where(whole > 0, 1 / np.where(squares > 0, squares, 1), 0.0)


def _cells(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the cells along a side begin, and how many pixels each of them takes."""
    at = np.arange(SIDE + 1) * side // SIDE
    return at[:-1], np.maximum(1, np.diff(at))


def _sums_of_rows(
    pixels: torch.Tensor, rows: NDArray[np.int64], tall: NDArray[np.int64]
) -> NDArray[Any]:
    """Sum the rows of each cell, whole numbers (3, SIDE, width), in the fastest way there is."""
    channels, height, width = pixels.shape
    summed: NDArray[Any]
    if tall.max() > 256:  # 16 bits hold the sum of 257 values
        summed = np.add.reduceat(pixels.numpy(), rows, axis=1, dtype=np.uint64)
    elif height % SIDE == 0:
        parts = pixels.numpy().reshape(channels, SIDE, height // SIDE, width)
        summed = parts.sum(2, dtype=np.uint16)
    else:
        at = np.arange(height)
        takes = (at >= rows[:, None]) & (at < (rows + tall)[:, None])
        # Exact: factors have 8 bits at most, and sums 16.
        sums = torch.from_numpy(takes.astype(np.float32)) @ pixels.float()
        summed = sums.numpy().astype(np.uint16)
    return summed


def _sums_of_columns(
    sums: NDArray[Any], columns: NDArray[np.int64], wide: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sum the columns of each cell, whole numbers (3, SIDE, SIDE)."""
    numbers = sums.astype(np.float64)  # which holds them exactly, in whatever order they are added
    if sums.shape[2] % SIDE:
        return np.add.reduceat(numbers, columns, axis=2)
    summed: NDArray[np.float64] = numbers.reshape(-1, wide[0]) @ np.ones(wide[0])
    return summed.reshape(len(sums), SIDE, SIDE)


def _cosines() -> NDArray[np.float64]:
    """Return the orthonormal DCT-II, float64 (waves, cells)."""
    wave, cell = np.mgrid[:SIDE, :SIDE]
    matrix = np.cos(np.pi * wave * (2 * cell + 1) / (2 * SIDE)) * np.sqrt(2 / SIDE)
    matrix[0] /= np.sqrt(2)
    found: NDArray[np.float64] = matrix
    return found


_COSINES = _cosines()
_NEAR_0 = 1e-3
_WAVE_Y, _WAVE_X = np.mgrid[:SIDE, :SIDE].reshape(2, -1)
_STEEPNESS = (np.sin(np.pi * _WAVE_Y / (2 * SIDE)) ** 2) + np.sin(np.pi * _WAVE_X / (2 * SIDE)) ** 2
"""Energy of the differences of neighbouring cells, for a wave of energy 1 (up to a factor)."""
_ORDER = np.lexsort((_WAVE_Y, np.maximum(_WAVE_Y, _WAVE_X), _WAVE_Y + _WAVE_X))[1 : 1 + N_BITS]
"""Longest waves first, the mean left out."""
