"""Which images look alike: all pairs whose hashes are near, a closer look at each, and groups.

Pairs are found without comparing all with all: hashes are cut into blocks, and only those that
agree in whole blocks are compared (Manku, Jain, Das Sarma, "Detecting Near-Duplicates for Web
Crawling", 2007). Hashes that differ in at most `N_BLOCKS` − `N_AGREE` bits agree in `N_AGREE`
blocks at least, so none of these is missed; many that differ more are found as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from .look import N_BITS, SIDE, n_waves, waves_of

N_CUT = 64
"""Bits that are cut into blocks, those of the longest waves."""

N_BLOCKS, N_AGREE = 7, 2
"""Blocks of these bits, and how many must agree. At a million images one pair in 10,000 is left."""

MOST_BITS = 12
"""How many of these bits may differ at most."""

MOST_BITS_ALL = 32
"""How many of all bits may differ at most."""

MOST_TOGETHER, NEXT = 64, 16
"""Images that agree in the same blocks and are all compared with each other. Of more, as of frames
of one scene, each is compared with the earliest and, in the order of their hashes, with so many
next to it: time stays in proportion to the number of images."""

MOST_LOOKED_AT = 16
"""Earlier images, the earliest ones, that are looked at closer for each image."""

SAME = 0.97
"""Share of the differences between neighbouring cells that the other image explains as it is:
pictures that were encoded, scaled or brightened anew."""

SAME_MOVED = 0.8
"""The same once the other is moved and stretched: cropped pictures."""

RICH_WAVES, RICH_PLACES = 25.0, 40.0
"""Only for images of so many waves and so many steep places: a disc on plain ground, or a stroke,
can be moved onto any other."""

STEPS = 3
"""Of aligning one image with the other."""

MOST_SHIFT = 0.12
"""How far an edge may be moved by that, in halves of the side."""

_AT_ONCE = 4096
_KEYS = 1 << 22


def pack(hashes: Iterable[bytes | str]) -> NDArray[np.uint64]:
    """Bring hashes as `look.hashes` writes them to numbers.

    Returns
    -------
    ndarray
        uint64 (n, `N_BITS` / 64), the bits of the longest waves first.

    Raises
    ------
    ValueError
        One of them is no hash.
    """
    texts = [each.decode() if isinstance(each, bytes) else each for each in hashes]
    if any(len(each) != N_BITS // 4 for each in texts):
        raise ValueError("a hash of another length")
    joined = bytes.fromhex("".join(texts))
    return np.frombuffer(joined, dtype=">u8").astype(np.uint64).reshape(-1, N_BITS // 64)


def near_pairs(
    codes: NDArray[np.uint64], most: int = MOST_BITS, most_all: int = MOST_BITS_ALL
) -> NDArray[np.int64]:
    """Find pairs of near hashes.

    Parameters
    ----------
    codes : ndarray
        uint64 (n, 2), as `pack` gives them.
    most, most_all : int
        Bits that may differ, of the first 64 and of all.

    Returns
    -------
    ndarray
        int64 (pairs, 2), places of the two, the smaller first, each pair once; of an image with
        more than `MOST_LOOKED_AT` before it those with the earliest.
    """
    n = len(codes)
    joined, found, n_found = np.zeros(0, dtype=np.int64), [], 0
    for blocks in combinations(_masks(), N_AGREE if n else N_BLOCKS + 1):
        for i, j in _together(codes[:, 0], np.uint64(sum(blocks))):
            apart = np.bitwise_count(codes[i, 0] ^ codes[j, 0])
            near = apart <= most
            i, j, apart = i[near], j[near], apart[near].astype(np.int64)
            near = apart + np.bitwise_count(codes[i, 1] ^ codes[j, 1]) <= most_all
            i, j = i[near], j[near]
            found.append(np.maximum(i, j) * n + np.minimum(i, j))
            n_found += len(i)
            if n_found > _KEYS:
                joined, found, n_found = _earliest(joined, found, n), [], 0
    later, earlier = np.divmod(_earliest(joined, found, n), max(1, n))
    return np.stack([earlier, later], axis=1)


def _earliest(
    joined: NDArray[np.int64], found: list[NDArray[np.int64]], n: int
) -> NDArray[np.int64]:
    """Join pairs (later · n + earlier), each once; of each image those with the earliest ones."""
    pairs = np.sort(np.concatenate([joined, *found]))  # numpy's unique takes ten times as long
    pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]
    later = pairs // max(1, n)
    starts = np.flatnonzero(np.diff(later, prepend=-1))
    place = np.arange(len(pairs)) - np.repeat(starts, np.diff(np.r_[starts, len(pairs)]))
    kept: NDArray[np.int64] = pairs[place < MOST_LOOKED_AT]
    return kept


def _masks() -> list[int]:
    """Return the blocks of the first 64 bits: longest waves together, for they change together."""
    edges = np.linspace(0, N_CUT, N_BLOCKS + 1).round().astype(int).tolist()
    return [(1 << (N_CUT - low)) - (1 << (N_CUT - high)) for low, high in pairwise(edges)]


def _together(
    codes: NDArray[np.uint64], mask: np.uint64
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield images (i, j) that are to be compared, for their codes agree under a mask."""
    keys = codes & mask
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    sizes = np.diff(np.r_[starts, len(keys)])
    of_many = np.flatnonzero(np.repeat(sizes > MOST_TOGETHER, sizes))
    order[of_many] = order[of_many[np.lexsort((codes[order[of_many]], keys[of_many]))]]
    within = np.arange(len(keys)) - np.repeat(starts, sizes)
    reach = np.minimum(within, np.repeat(np.where(sizes > MOST_TOGETHER, NEXT, sizes), sizes))
    right = np.arange(len(keys))
    for back in range(1, MOST_TOGETHER):
        right = right[reach[right] >= back]
        if not len(right):
            break
        for start in range(0, len(right), _KEYS):
            part = right[start : start + _KEYS]
            yield order[part - back], order[part]
    if len(of_many):
        earliest = np.repeat(np.minimum.reduceat(order, starts), sizes)[of_many]
        others = earliest != order[of_many]
        yield earliest[others], order[of_many][others]


def agreement(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Say how well pairs of thumbnails agree; those that are not near have 0.

    Parameters
    ----------
    a, b : ndarray
        uint8 (pairs, `SIDE`, `SIDE`).

    Returns
    -------
    ndarray
        float64 (pairs,): share of the energy of the differences between neighbouring cells that
        the other thumbnail explains, the better of both directions: as it is, where that is at
        least `SAME`; else moved and stretched a little, where that is at least `SAME_MOVED` and
        both are rich; else 0.
    """
    parts = [np.zeros(0)]
    for start in range(0, len(a), _AT_ONCE):
        left, right = (each[start : start + _AT_ONCE].astype(np.float64) for each in (a, b))
        found = np.maximum(_explained(left, right, 0), _explained(right, left, 0))
        found[found < SAME] = 0
        rest = np.flatnonzero((found == 0) & _is_rich(left) & _is_rich(right))
        left, right = left[rest], right[rest]
        moved = np.maximum(_explained(left, right, STEPS), _explained(right, left, STEPS))
        found[rest] = np.where(moved >= SAME_MOVED, moved, 0)
        parts.append(found)
    return np.concatenate(parts)


def _is_rich(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say of which thumbnails an alignment tells something."""
    energies = _slopes(maps) ** 2
    places = energies.sum(1) ** 2 / np.maximum((energies**2).sum(1), 1e-9)
    rich: NDArray[np.bool_] = (places >= RICH_PLACES) & (n_waves(waves_of(maps)) >= RICH_WAVES)
    return rich


def _explained(A: NDArray[np.float64], B: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Return how much of B is explained by A, aligned by Gauss-Newton: shift, stretch."""
    moved = np.zeros((len(A), 4))  # shift x, y, stretch x, y
    wanted = _slopes(B)
    whole = (wanted**2).sum(1)
    best = np.zeros(len(A))
    seen = A
    for step in range(steps + 1):
        slopes = _slopes(seen)
        both, own = (slopes * wanted).sum(1), (slopes**2).sum(1)
        best = np.maximum(best, both.clip(0) ** 2 / np.maximum(own * whole, 1e-9))
        if step < steps:
            moved = (moved + _step(seen, slopes, wanted)).clip(-MOST_SHIFT, MOST_SHIFT)
            down, across = _sampled(moved[:, 1], moved[:, 3]), _sampled(moved[:, 0], moved[:, 2])
            seen = down @ A @ across.transpose(0, 2, 1)
    return best.clip(0, 1)


def _step(
    seen: NDArray[np.float64], slopes: NDArray[np.float64], wanted: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much to shift and stretch on, (n, 4): least squares on the derivatives."""
    x = np.linspace(-1, 1, SIDE)
    dy, dx = (each * (SIDE - 1) / 2 for each in np.gradient(seen, axis=(1, 2)))
    moves = (dx, dy, dx * x, dy * x[:, None])
    base = np.stack([slopes, *(_slopes(np.asarray(each)) for each in moves)], axis=2)
    gram = base.transpose(0, 2, 1) @ base
    gram += (2e-5 * np.trace(gram, axis1=1, axis2=2) + 1e-6)[:, None, None] * np.eye(5)
    found = np.linalg.solve(gram, base.transpose(0, 2, 1) @ wanted[..., None])[..., 0]
    gain = np.where(np.abs(found[:, :1]) > 0.2, found[:, :1], 1)
    step: NDArray[np.float64] = found[:, 1:] / gain
    return step


def _slopes(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the differences of neighbouring cells, (n, 2 · SIDE · (SIDE − 1))."""
    shape = (len(maps), SIDE * (SIDE - 1))
    across, down = maps[:, :, 1:] - maps[:, :, :-1], maps[:, 1:] - maps[:, :-1]
    return np.concatenate([across.reshape(shape), down.reshape(shape)], axis=1)


def _sampled(shift: NDArray[np.float64], stretch: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return matrices (n, SIDE, SIDE) that sample an axis anew: cubic convolution (Keys 1981)."""
    places = np.linspace(-1, 1, SIDE) * (1 + stretch[:, None]) + shift[:, None]
    at = ((places + 1) * (SIDE - 1) / 2).clip(0, SIDE - 1)
    far = np.abs(at[..., None] - np.arange(SIDE))
    near = (1.5 * far - 2.5) * far**2 + 1
    outer = ((-0.5 * far + 2.5) * far - 4) * far + 2
    weights = np.where(far < 1, near, np.where(far < 2, outer, 0.0))
    sampled: NDArray[np.float64] = weights / weights.sum(2, keepdims=True)
    return sampled


def first_of_groups(n: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group images: each joins the earliest that is the first of a group and is near to it.

    So every image of a group is near to its first one; chains from frame to frame end where a frame
    is no longer like the first.

    Parameters
    ----------
    n : int
        Number of images.
    pairs : ndarray
        int64 (pairs, 2), places of images that are near each other, the smaller first.

    Returns
    -------
    ndarray
        int64 (n,), the place of the first of each image's group: its own, where it is that one.
    """
    first = np.arange(n)
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    for earlier, later in pairs[order].tolist():
        if first[later] == later and first[earlier] == earlier:
            first[later] = earlier
    return first
