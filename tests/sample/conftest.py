"""Scenes that no training has seen, rendered once."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from pipeline.sample import render_scene
from pipeline.sample.network import IMAGE_SIZE
from pipeline.sample.scenes import Scene

FRESH_SEED = 9_000  # no scene of the training or of the bundled sample starts here
N_FRESH = 320


def fresh_scene(index: int) -> Scene:
    return render_scene(FRESH_SEED, index, IMAGE_SIZE)


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """Scenes that no training has seen."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(fresh_scene, range(N_FRESH), chunksize=8))
