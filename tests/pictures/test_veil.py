"""Pictures in the place of others show nothing that could be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.pictures.veil import CELL, SIDE, blurred, placeholder


@pytest.mark.parametrize(
    "size", [(12, 12), (28, 28), (64, 48), (160, 160), (1000, 30), (2000, 1500)]
)
def test_a_blurred_picture_has_few_cells_of_many_pixels(size: tuple[int, int]) -> None:
    """Pictures alike in the means of their cells come out the same, whatever is finer."""
    height, width = size
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = blurred(picture)
    assert found.shape == picture.shape
    n = max(1, min(SIDE, max(size) // CELL))
    # Of a picture with n cells a side no more than n * n numbers a channel are left.
    spectrum = np.abs(np.fft.rfft2(found.mean(2) - found.mean()))
    kept = spectrum[: n + 1, : n + 1].max(initial=0) if min(size) > 2 * n else spectrum.max()
    assert spectrum[n + 1 : -n - 1, 2 * n + 1 :].max(initial=0) < max(1.0, 0.35 * kept)
    if max(size) < 2 * CELL:
        assert (found == found[:1, :1]).all()


def test_a_placeholder_says_its_word_and_is_grey_without_one() -> None:
    assert len(np.unique(placeholder(40, 30).reshape(-1, 3), axis=0)) == 1
    assert placeholder(40, 30, "gone").shape == (30, 40, 3)
    assert len(np.unique(placeholder(200, 100, "gone").reshape(-1, 3), axis=0)) > 2
