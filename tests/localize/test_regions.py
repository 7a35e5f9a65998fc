"""Regions: which count, in which order they come, and their boxes in pixels."""

from __future__ import annotations

import numpy as np

from pipeline.localize.regions import MIN_AREA, find_regions


def test_regions_come_by_map_then_size_then_place() -> None:
    maps = np.zeros((2, 8, 10), np.float32)
    maps[1, 0, 0] = maps[1, 6, 4] = maps[1, 2, 4] = maps[1, 0, 8] = 1.0
    maps[1, 4, 0:3] = maps[0, 7, 9] = 2.0
    found = find_regions(maps, np.ones(2, np.float32), min_area=0.0)
    assert found.map_index.tolist() == [0, 1, 1, 1, 1, 1]
    corners = (found.box[:, :2] * [10, 8]).round().astype(int).tolist()
    # The largest first; of those as large by x, then by y.
    assert corners == [[9, 7], [0, 4], [0, 0], [4, 2], [4, 6], [8, 0]]
    assert found.area.tolist() == [1 / 80, 3 / 80, 1 / 80, 1 / 80, 1 / 80, 1 / 80]
    assert found.score.tolist() == [2, 2, 1, 1, 1, 1]


def test_neighbours_by_a_corner_are_one_region_and_maps_are_not_neighbours() -> None:
    maps = np.zeros((2, 6, 6), np.float32)
    maps[:, 1, 1] = maps[:, 2, 2] = 1.0
    found = find_regions(maps, np.ones(2, np.float32))
    assert found.map_index.tolist() == [0, 1]
    assert np.allclose(found.box * 6, [1, 1, 3, 3])


def test_what_just_reaches_the_threshold_or_the_least_area_counts() -> None:
    maps = np.zeros((1, 10, 10), np.float32)
    maps[0, 0, 0:2] = 0.5
    assert len(find_regions(maps, np.full(1, 0.5, np.float32), min_area=0.02).area) == 1
    assert len(find_regions(maps, np.full(1, 0.5, np.float32), min_area=0.021).area) == 0
    assert len(find_regions(maps, np.full(1, 0.51, np.float32), min_area=0.0).area) == 0


def test_a_cell_of_interpolation_is_no_region_by_default() -> None:
    for side, n in ((22, 1), (23, 0)):  # 1 / 22² is more than the least area, 1 / 23² is less
        assert (1 / side**2 >= MIN_AREA) == bool(n)
        maps = np.zeros((1, side, side), np.float32)
        maps[0, 5, 5] = 1.0
        assert len(find_regions(maps, np.ones(1, np.float32)).area) == n


def test_what_was_not_seen_is_in_no_region() -> None:
    maps = np.full((1, 6, 6), np.nan, np.float32)
    assert len(find_regions(maps, np.zeros(1, np.float32)).area) == 0
    maps[0, 2:4, 2:4] = [[1, 2], [3, 6]]
    found = find_regions(maps, np.ones(1, np.float32))
    assert found.score.tolist() == [3]
    assert np.allclose(found.box * 6, [[2, 2, 4, 4]])


def test_boxes_in_pixels_hold_the_whole_region() -> None:
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 1:3, 1:3] = 1.0
    found = find_regions(maps, np.ones(2, np.float32))
    sizes = np.array([[100, 50], [101, 51]], np.int32)  # width and height
    assert found.pixels(sizes).tolist() == [[25, 12, 75, 38], [25, 12, 76, 39]]
    assert found.pixels(np.array([[40, 80], [4, 4]], np.int32)).tolist() == [
        [10, 20, 30, 60],
        [1, 1, 3, 3],
    ]
