"""Rows of a shard in its corners: no image in it, and images without any concept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.images import Grid
from pipeline.localize import Foreground
from pipeline.tables import TABLES, shard_rows

K, CLASSES = 3, 5
CENTRES = np.array([3.5, 11.5, 19.5, 27.5])
GRID = Grid(CENTRES, CENTRES, 32)
SHARES, GRAM = np.full((1, K), 0.7, np.float32), np.eye(K, dtype=np.float32)
FOREGROUND = Foreground((), SHARES, GRAM, threshold=1.0, spread=1.0)


def shard(H: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    n = len(H)
    return {
        "H": H,
        "logits": np.zeros((n, CLASSES), np.float32),
        "affine": np.tile(np.array([1.0, 1.0, 0.0, 0.0]), (n, 1)),
        "size": np.full((n, 2), 32, np.int32),
        "image_id": np.arange(n),
        "image_residual": np.ones(n, np.float32),
        "contribution": np.zeros((n, K), np.float32),
    }


@pytest.mark.parametrize("n", [0, 1, 4])
def test_without_concepts_there_are_images_and_nothing_else(n: int) -> None:
    H = np.zeros((n, 4, 4, K), np.float32)
    found = shard_rows(shard(H), np.full(K, 0.1, np.float32), GRID, FOREGROUND, [()] * n)
    assert found.images["image_id"].tolist() == list(range(n))
    assert found.images["pred_prob"].to_numpy() == pytest.approx(np.full(n, 1 / CLASSES))
    for name in ("image_concepts", "regions", "objects"):
        rows = getattr(found, name)
        assert rows.empty
        assert set(rows) <= set(TABLES[name].column_names), name
    assert found.present_positions.tolist() == [0] * K
    assert found.n_positions == n * 16
