"""Localization: upsampling by cell centres, thresholds, regions and objects, in closed form."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.images import Affine, Grid, fit_to_input, upsample
from pipeline.localize import find_regions, presence_thresholds

CENTRES = np.arange(0.0, 224.0, 32.0)
GRID = Grid(CENTRES, CENTRES, 224)


def test_a_linear_map_comes_back_linear_in_image_coordinates() -> None:
    size = (500, 300)
    _, affine = fit_to_input(torch.zeros(3, 300, 500, dtype=torch.uint8), 224, "squash")
    ramp = np.tile(np.arange(7, dtype=np.float32) * 32 + 0.5, (7, 1))[None]
    raised = upsample(ramp, GRID, affine, size)[0]
    x_input = (np.arange(500) + 0.5) * 224 / 500
    assert raised.shape == (300, 500)
    assert raised[150] == pytest.approx(np.clip(x_input, 0.5, 192.5), abs=1e-3)


def test_what_was_not_seen_is_nan() -> None:
    size = (400, 200)
    _, affine = fit_to_input(torch.zeros(3, 200, 400, dtype=torch.uint8), 224, "crop")
    raised = upsample(np.ones((2, 7, 7), np.float32), GRID, affine, size)
    seen = ~np.isnan(raised[0])
    assert 0.3 < seen.mean() < 0.5
    assert seen[100, 200]
    assert not seen[100, 10]
    assert np.nanmin(raised) == np.nanmax(raised) == 1


def test_the_whole_can_be_had_at_any_size() -> None:
    affine = Affine(224 / 448, 224 / 448, 0, 0)
    maps = np.random.default_rng(0).random((3, 7, 7)).astype(np.float32)
    full = upsample(maps, GRID, affine, (448, 448))
    half = upsample(maps, GRID, affine, (448, 448), (224, 224))
    pooled = full.reshape(3, 224, 2, 224, 2).mean(axis=(2, 4))
    assert np.abs(half - pooled).max() < 0.02


def test_one_cell_covers_everything() -> None:
    grid = Grid(np.array([111.5]), np.array([111.5]), 224)
    raised = upsample(np.full((1, 1, 1), 3, np.float32), grid, Affine(1, 1, 0, 0), (224, 224))
    assert (raised == 3).all()


def test_strengths_that_hardly_differ_are_not_parted() -> None:
    rng = np.random.default_rng(0)
    for step in (0.0, 1e-7, 1e-6, 1e-5, 1e-3):
        values = (1 + step * rng.random(40)).astype(np.float32)
        found = presence_thresholds(values[:, None])
        assert 0.1 <= found.values[0] <= 1
        few = found.reasons[0].startswith("half of the typical strength")
        assert few == (np.ptp(values) <= 256 * np.spacing(np.float32(2)))


def test_thresholds_part_weak_from_strong() -> None:
    rng = np.random.default_rng(0)
    weak, strong = rng.normal(0.05, 0.01, 700), rng.normal(1.2, 0.1, 300)
    H = np.concatenate([np.zeros(9000), weak, strong]).clip(0).astype(np.float32)
    never = np.zeros_like(H)
    found = presence_thresholds(np.stack([H * 2, never, np.ones_like(H), H * 20, H / 9], axis=1))
    assert 0.1 <= found.values[0] < 0.9
    assert found.values[1] == found.values[2] == 0.5
    assert found.values[3:].tolist() == pytest.approx([1.0, 0.1])
    assert found.reasons[0] == "Otsu over 1000 positive strengths"
    assert "0 positive strengths show nothing" in found.reasons[1]
    assert re.search(r"gives 1\.\d+, bounded by the typical strength", found.reasons[3])
    assert re.search(r"gives 0\.0\d+, bounded by a tenth", found.reasons[4])


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_regions_agree_with_one_map_at_a_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = ndimage.gaussian_filter(rng.random((4, 24, 30)), (0, 2, 2)).astype(np.float32)
    maps = (maps - maps.min()) / np.ptp(maps)
    thresholds = rng.uniform(0.3, 0.9, 4).astype(np.float32)
    found = find_regions(maps, thresholds, min_area=0)
    for index in range(4):
        labels, n = ndimage.label(maps[index] >= thresholds[index], np.ones((3, 3)))
        mine = found.map_index == index
        assert mine.sum() == n
        areas = np.sort(np.bincount(labels.ravel())[1:])[::-1] / labels.size
        assert found.area[mine] == pytest.approx(areas)
    boxes = found.pixels(np.full((4, 2), (300, 240), np.int32))
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert (boxes[:, [0, 2]] <= 300).all()
    assert (boxes[:, [1, 3]] <= 240).all()
    assert (found.score >= thresholds[found.map_index] - 1e-6).all()


def test_a_region_has_the_box_it_covers() -> None:
    maps = np.zeros((2, 10, 20), np.float32)
    maps[1, 2:5, 4:9] = 2
    maps[1, 9, 19] = np.nan
    found = find_regions(maps, np.array([0.5, 0.5], np.float32))
    assert found.map_index.tolist() == [1]
    assert found.pixels(np.array([[1, 1], [200, 100]], np.int32)).tolist() == [[40, 20, 90, 50]]
    assert found.area.tolist() == [15 / 200]
    assert found.score.tolist() == [2.0]


def test_nothing_present_gives_no_regions() -> None:
    found = find_regions(np.zeros((2, 4, 4), np.float32), np.ones(2, np.float32))
    assert len(found.map_index) == 0
    assert found.pixels(np.ones((2, 2), np.int32)).shape == (0, 4)
