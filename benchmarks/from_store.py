"""Factorizes shards on disk, in a process of its own so that its memory can be watched.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.
"""

from __future__ import annotations

from pipeline.system.heap import share_heap

if __name__ == "__main__":
    share_heap()

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import nmf
from pipeline.runs.fit import FitData, fit_concepts
from pipeline.store import ACTIVATIONS, ShardStore


@dataclass(frozen=True)
class Timing:
    """Seconds until W stands, the evidence of its stability included; of encoding all of H then."""

    n_positions: int
    n_passes: int
    fit: float
    encode: float
    error: float


def factorize(store: ShardStore, k: int, seed: int = 0) -> Timing:
    """Go from shards to W, and once more through them to all of H, which is not kept."""
    start = time.perf_counter()
    image_ids = frozenset(
        int(image_id) for arrays in store.iterate(["image_id"]) for image_id in arrays["image_id"]
    )
    data = FitData(store, image_ids, seed, "none")
    found = fit_concepts(data, (k,))
    fitted = time.perf_counter()
    blocks = data.blocks(found.transform)
    for V in blocks:
        nmf.encode(V, found.W)
    end = time.perf_counter()
    return Timing(
        blocks.n_positions, found.n_passes, fitted - start, end - fitted, float(found.error)
    )


def repeat_shards(store: ShardStore, target: Path, times: int) -> ShardStore:
    """Make a store of any size: copies of a store's shards, over and over.

    Parameters
    ----------
    store : ShardStore
    target : Path
        Folder to make.
    times : int
        How often each shard is to be in it.

    Returns
    -------
    ShardStore
    """
    target.mkdir(parents=True)
    repeated = ShardStore(target, store.encoding, store.n_shards * times)
    for index in range(repeated.n_shards):
        shutil.copyfile(store.path(index % store.n_shards), repeated.path(index))
    return repeated


def main(argv: Sequence[str] | None = None) -> None:
    """Factorize the shards of a folder and print the timing; without shards, only import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("n_shards", type=int)
    parser.add_argument("k", type=int)
    given = parser.parse_args(argv)
    if given.n_shards:
        timing = factorize(ShardStore(given.folder, ACTIVATIONS, given.n_shards), given.k)
        values = (timing.n_positions, timing.n_passes, timing.fit, timing.encode, timing.error)
        print(*np.round(values, 6).tolist())


if __name__ == "__main__":
    main()
