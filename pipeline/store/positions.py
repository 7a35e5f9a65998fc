"""Reading activations for the factorization: shards as blocks of positions, and seeded samples.

Notation: V positions × channels, one row per position; rows of one image are contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..nmf import Transform, shortened, thin
from .shards import Arrays, ShardStore


@dataclass(frozen=True)
class PositionBlocks:
    """The positions of some images, one block per shard, in a fixed order; iterable many times.

    Parameters
    ----------
    store : ShardStore
        Activations.
    image_ids : frozenset of int
        The images whose positions count.
    transform : Transform
        Applied to every block.
    weights : mapping of int to float, optional
        A factor for the rows of each image, so that images count as ``BALANCE`` says.
    power : float
        Rows are divided by so high a power of their length first; see `nmf.shortened`.
    """

    store: ShardStore
    image_ids: frozenset[int]
    transform: Transform
    weights: Mapping[int, float] | None = None
    power: float = 0.0

    @cached_property
    def n_positions(self) -> int:
        """Number of rows of one pass."""
        if not self.store.n_shards:
            return 0
        _, height, width, _ = self.store.shape(0, "V")
        n_images = 0
        for index in range(self.store.n_shards):
            ids = self.store.read(index, ["image_id"])["image_id"]
            n_images += int(np.isin(ids, list(self.image_ids)).sum())
        return n_images * height * width

    @cached_property
    def n_channels(self) -> int:
        """Number of columns: channels after the transform."""
        return self.transform.n_channels_out(self.store.shape(0, "V")[-1])

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield (positions, channels), one block per shard, as stored where that can be: float16 is
        half the memory, and is raised to float32 a few rows at a time.
        """
        for arrays in self.store.iterate(["V", "image_id"], self.image_ids):
            if len(arrays["V"]):
                maps = torch.from_numpy(arrays["V"])
                V = self._lengths(self.transform.forward(maps.reshape(-1, maps.shape[-1])))
                yield V if self.weights is None else V * self._factors(arrays)

    def rows(self, image_id: int, maps: NDArray[np.float16] | NDArray[np.float32]) -> torch.Tensor:
        """Return float32 (positions, channels) of one image, (height, width, channels)."""
        V = self._lengths(self.transform.forward(_rows(maps)))
        return V if self.weights is None else V * self.weights[image_id]

    def _lengths(self, V: torch.Tensor) -> torch.Tensor:
        return shortened(V.float(), self.power) if self.power else V

    def _factors(self, arrays: Arrays) -> torch.Tensor:
        assert self.weights is not None
        factors = torch.tensor([self.weights[each] for each in arrays["image_id"].tolist()])
        _, height, width, _ = arrays["V"].shape
        return factors.repeat_interleave(height * width)[:, None]


PER_IMAGE = 16
"""Positions drawn of one image while the images last: neighbours in an image are much alike."""


def n_sampled(n: int, positions: int) -> int:
    """Return of how many images, of so many positions each, n positions are drawn, at most."""
    return -(-n // min(PER_IMAGE, positions))


def sample_positions(
    store: ShardStore, image_ids: frozenset[int], n: int, seed: int
) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Draw positions evenly over images, without replacement, by seed.

    Working order is random, so the first images of it are a random sample: reading stops as soon
    as there are enough positions, and the cost does not grow with the dataset.

    Parameters
    ----------
    store : ShardStore
        Activations.
    image_ids : frozenset of int
        Images to draw from.
    n : int
        How many positions to draw; all there are where there are no more.
    seed : int
        Every image draws by (seed, image_id): the sample does not depend on the shards.

    Returns
    -------
    Tensor
        float32 (≤ n, channels), not transformed, in reading order.
    ndarray
        int64 (≤ n,), the image each row is of.

    Raises
    ------
    UserError
        None of the images is in the store.
    """
    per_image = max(PER_IMAGE, -(-n // max(1, len(image_ids))))
    rows: list[torch.Tensor] = []
    owners: list[NDArray[np.int64]] = []
    n_drawn = 0
    for image_id, maps in _images(store, image_ids):
        V = maps.reshape(-1, maps.shape[-1])
        generator = np.random.default_rng((seed, image_id))
        drawn = np.sort(generator.permutation(len(V))[:per_image])
        rows.append(torch.from_numpy(V[drawn]))
        owners.append(np.full(len(drawn), image_id, dtype=np.int64))
        n_drawn += len(drawn)
        if n_drawn >= n:
            break
    if not rows:
        raise UserError(f"{store.folder} holds none of the {len(image_ids)} images asked for")
    return torch.cat(rows)[:n].float(), np.concatenate(owners)[:n]


def sample_by_energy(blocks: PositionBlocks, n: int, seed: int) -> torch.Tensor:
    """Draw positions to fit on, evenly over images and, within one, in proportion to their ‖v‖².

    Reading stops as soon as there are enough, as for `sample_positions`.

    Parameters
    ----------
    blocks : PositionBlocks
        The positions to draw from, with their transform and weights.
    n : int
        How many to draw; fewer where there are fewer.
    seed : int
        Every image draws by (seed, image_id).

    Returns
    -------
    Tensor
        float32 (about n, channels), transformed, weighted, and scaled as `pipeline.nmf.thin` does.
    """
    per_image = max(PER_IMAGE, -(-n // max(1, len(blocks.image_ids))))
    rows: list[torch.Tensor] = []
    n_drawn = 0
    for image_id, maps in _images(blocks.store, blocks.image_ids):
        own_seed = int(np.random.default_rng((seed, image_id)).integers(2**31))
        rows.append(thin(blocks.rows(image_id, maps), per_image, own_seed))
        n_drawn += len(rows[-1])
        if n_drawn >= n:
            break
    if not rows:
        raise UserError(f"{blocks.store.folder} holds none of the images asked for")
    return torch.cat(rows)


def whole_images(blocks: PositionBlocks, n_positions: int) -> torch.Tensor:
    """Read whole images while there are fewer positions than asked for, one at least.

    Returns
    -------
    Tensor
        float32 (images, positions, channels), transformed; of none of them (0, 0, channels).
    """
    found: list[torch.Tensor] = []
    for image_id, maps in _images(blocks.store, blocks.image_ids):
        found.append(blocks.rows(image_id, maps))
        if len(found) * len(found[0]) >= n_positions:
            break
    return torch.stack(found) if found else torch.zeros(0, 0, blocks.n_channels)


def _images(
    store: ShardStore, image_ids: frozenset[int]
) -> Iterator[tuple[int, NDArray[np.float16] | NDArray[np.float32]]]:
    for arrays in store.iterate(["V", "image_id"], image_ids):
        yield from zip(arrays["image_id"].tolist(), arrays["V"], strict=True)


def _rows(maps: NDArray[np.float16] | NDArray[np.float32]) -> torch.Tensor:
    return torch.from_numpy(maps).float().reshape(-1, maps.shape[-1])
