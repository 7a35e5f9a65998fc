"""Blurring a concept's pixels beside moved regions, and telling how new an image is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.classify import blur_concept, moved_region, novelty, quantiles, unexplained
from pipeline.classify.novelty import EVERY
from pipeline.errors import UserError

EIGHT = np.ones((3, 3), dtype=int)


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_a_moved_region_has_the_same_area_and_pieces(seed: int, n_pieces: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 48), dtype=bool)
    for _ in range(n_pieces):
        y, x = rng.integers(0, 34), rng.integers(0, 42)
        mask[y : y + rng.integers(1, 7), x : x + rng.integers(1, 7)] = True
    moved = moved_region(mask, rng)
    assert moved is not None
    assert moved.sum() == mask.sum()
    assert ndimage.label(moved, EIGHT)[1] == ndimage.label(mask, EIGHT)[1]


def test_a_region_is_really_moved_or_refused() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((64, 64), dtype=bool)
    mask[:8, :8] = True
    places = [moved_region(mask, rng) for _ in range(50)]
    assert np.mean([(each & mask).sum() for each in places if each is not None]) < 10
    assert moved_region(np.zeros((8, 8), dtype=bool), rng) is None
    two = np.ones((9, 9), dtype=bool)
    two[4] = False  # two halves that touch wherever one of them is moved
    two[:, 0] = False
    found = moved_region(two, rng)
    assert found is None or ndimage.label(found, EIGHT)[1] == 2


def detector(images: torch.Tensor) -> torch.Tensor:
    """Answer with class 0 as far as there is contrast in the upper left quarter, else class 1."""
    corner = images.float()[:, :, :16, :16].flatten(1).std(dim=1)
    return torch.stack([corner / 8, torch.full_like(corner, 4.0), torch.zeros_like(corner)], dim=1)


def test_the_class_of_the_blurred_pixels_falls() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (6, 3, 64, 64), generator=generator, dtype=torch.uint8)
    masks = np.zeros((6, 64, 64), dtype=bool)
    masks[:, :16, :16] = True
    found = blur_concept(detector, pixels, masks)
    first = found.classes.iloc[0]
    assert first.class_id == 0
    assert first["drop"] > 0.5
    assert first.drop_random < first["drop"] / 2
    assert 0 < first.ci_low < first.difference < first.ci_high
    assert found.classes.iloc[-1].class_id == 1
    assert found.changed == 1
    assert found.changed_random < 0.5
    assert (found.n_images, found.n_unmatched) == (6, 0)
    assert found.classes.equals(blur_concept(detector, pixels, masks).classes)


def test_images_whose_region_fits_nowhere_else_are_counted() -> None:
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    masks = np.zeros((2, 32, 32), dtype=bool)
    masks[0, :4, :4] = True
    found = blur_concept(detector, pixels, masks)
    assert (found.n_images, found.n_unmatched) == (1, 1)
    with pytest.raises(UserError, match="none of the 1 regions fits elsewhere"):
        blur_concept(detector, pixels[1:], masks[1:])


def test_what_is_left_is_measured_against_the_whole_image() -> None:
    V = torch.zeros(1, 1, 4, 2)
    V[0, 0, :, 0] = torch.tensor([4.0, 4.0, 4.0, 0.0])
    relative = torch.tensor([[[0.5, 0.0, 0.0, 1.0]]])
    residual, left = unexplained(V, relative)
    typical = (48 / 4) ** 0.5
    assert left[0, 0].tolist() == pytest.approx([2 / typical, 0, 0, 0])
    assert residual[0] == pytest.approx(2 / 48**0.5)


def test_percentiles_are_those_of_the_class_where_it_has_images() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat([3, 5, 7], [100, 60, 5])
    residual = (np.where(classes == 3, 0.2, 0.6) + 0.1 * rng.random(165)).astype(np.float32)
    usual = quantiles(residual, 2 * residual, classes)
    assert usual.classes.tolist() == [EVERY, 3, 5]
    assert usual.n.tolist() == [165, 100, 60]
    new = novelty(usual, 0.25, 0.5, 3)
    assert (new.class_id, new.n) == (3, 100)
    assert 35 < new.residual < 65
    assert new.peak == pytest.approx(new.residual, abs=1)
    assert novelty(usual, 0.25, 0.5, 5).residual == 0
    assert novelty(usual, 0.9, 0.0, 3).residual == 100
    rare = novelty(usual, 0.65, 1.3, 7)
    assert (rare.class_id, rare.n) == (EVERY, 165)
    share = float((residual < 0.65).mean())
    assert rare.residual == pytest.approx(100 * share, abs=2)
