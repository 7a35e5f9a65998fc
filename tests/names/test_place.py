"""Where in the object concepts sit: shapes whose place is known, and places that are none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.names.place import MEASURES, Shape, measure, place_in_frame, place_in_object

SIDE = 60
OBJECT = (slice(12, 48), slice(6, 54))  # 36 rows, 48 columns
PLACES: dict[str, tuple[tuple[slice, slice], ...]] = {
    "top": ((slice(12, 22), slice(14, 46)),),
    "low": ((slice(38, 48), slice(14, 46)),),
    "left side": ((slice(20, 40), slice(6, 16)),),
    "right side": ((slice(20, 40), slice(44, 54)),),
    "low both sides": ((slice(38, 48), slice(6, 16)), (slice(38, 48), slice(44, 54))),
    "middle": ((slice(26, 34), slice(24, 36)),),
    "all of it": (OBJECT,),
    "background": ((slice(0, 10), slice(0, 60)),),
}


def measured(
    s: NDArray[np.float32], mask: NDArray[np.bool_], threshold: float
) -> NDArray[np.float64]:
    """Measure a concept beside an object where the network saw it."""
    return measure(s, Shape(mask & ~np.isnan(s)), threshold)


def mask() -> NDArray[np.bool_]:
    found = np.zeros((SIDE, SIDE), np.bool_)
    found[OBJECT] = True
    return found


def strength(*parts: tuple[slice, slice]) -> NDArray[np.float32]:
    found = np.zeros((SIDE, SIDE), np.float32)
    for part in parts:
        found[part] = 1.0
    return found


def many(*maps: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.stack([measured(each, mask(), 0.5) for each in maps])


@pytest.mark.parametrize("place", PLACES)
def test_a_place_is_said_as_it_is(place: str) -> None:
    found = place_in_object(many(*[strength(*PLACES[place])] * 12))
    assert " ".join(found.words) == place
    assert found.agreeing == (12,) * len(found.words)


def test_a_ring_along_the_edge_is_the_rim() -> None:
    ring = strength(OBJECT)
    ring[15:45, 9:51] = 0
    assert place_in_object(many(*[ring] * 8)).words == ("rim",)


def test_the_measures_are_those_of_the_closed_forms() -> None:
    found = dict(
        zip(MEASURES, measured(strength(PLACES["left side"][0]), mask(), 0.5), strict=True)
    )
    assert found["inside"] == 1
    assert found["area"] == pytest.approx(36 * 48 / SIDE**2)
    assert found["down"] == pytest.approx((30 - 12) / 36)
    assert found["right"] == pytest.approx((11 - 6) / 48)
    assert (found["left_third"], found["right_third"]) == (1, 0)
    assert found["cover"] == pytest.approx(200 / (36 * 48))
    assert (found["x"], found["y"]) == pytest.approx((11 / SIDE, 30 / SIDE))


def test_places_are_by_the_area_of_the_object_not_by_its_box() -> None:
    """A triangle on its base: half of its area is below 0.71 of its height."""
    triangle = np.tri(SIDE, dtype=np.bool_)
    s = np.zeros((SIDE, SIDE), np.float32)
    s[42, :42] = 1
    down = measured(s, triangle, 0.5)[MEASURES.index("down")]
    assert down == pytest.approx(0.5 * (SIDE * 42.5 / 42.5 / SIDE), abs=0.02)


def test_what_is_below_the_threshold_or_was_not_seen_counts_nowhere() -> None:
    s = strength(PLACES["top"][0])
    s[40:48] += 0.4
    s[:, 50:] = np.nan
    found = measured(s, mask(), 0.5)
    alone = measured(np.where(np.isnan(s), np.nan, strength(PLACES["top"][0])), mask(), 0.5)
    assert np.allclose(found, alone)
    for value in (np.nan, 0.0):
        empty = np.full((4, 4), value, np.float32)
        assert np.isnan(measured(empty, np.ones((4, 4), np.bool_), 0.5)).all()


def test_nothing_is_said_where_images_disagree_are_few_or_have_no_object() -> None:
    top, low = (strength(PLACES[each][0]) for each in ("top", "low"))
    assert place_in_object(many(*[top, low] * 8)).words == ()
    assert place_in_object(many(*[top] * 5)).words == ()
    nothing = np.stack([measured(top, np.zeros_like(mask()), 0.5)] * 12)
    assert place_in_object(nothing).n == 0
    everything = np.stack([measured(top, np.ones_like(mask()), 0.5)] * 12)
    assert place_in_object(everything).words == ()


def test_two_of_three_images_are_enough() -> None:
    top, low = (strength(PLACES[each][0]) for each in ("top", "low"))
    assert place_in_object(many(*[top] * 8, *[low] * 4)).words == ("top",)
    assert place_in_object(many(*[top] * 7, *[low] * 5)).words == ()


def test_random_places_have_no_words() -> None:
    rng = np.random.default_rng(0)
    said = 0
    for _ in range(12):
        maps = []
        for _ in range(24):
            y, x = rng.integers(12, 42), rng.integers(6, 48)
            maps.append(strength((slice(y, y + 6), slice(x, x + 6))))
        said += bool(place_in_object(many(*maps)).words)
    assert said <= 1


def test_places_in_the_picture() -> None:
    corner = many(*[strength((slice(0, 8), slice(0, 8)))] * 8)
    assert place_in_frame(corner).word == "top left"
    right = many(*[strength((slice(20, 40), slice(50, 60)))] * 8)
    assert place_in_frame(right).word == "right"
    assert place_in_frame(right).x == pytest.approx(55 / SIDE)
    assert place_in_frame(many(*[strength(OBJECT)] * 8)).word == ""
    assert place_in_frame(corner[:3]).word == ""


def test_what_stays_where_it_is_while_objects_move_is_at_one_place() -> None:
    rng = np.random.default_rng(3)
    mark = strength((slice(26, 34), slice(22, 38)))
    rows, part_rows = [], []
    for _ in range(24):
        y, x = rng.integers(0, 20), rng.integers(0, 20)
        moved = np.roll(mask(), (y - 10, x - 10), axis=(0, 1))
        rows.append(measured(mark, moved, 0.5))
        part_rows.append(measured(np.roll(mark, (y - 10, x - 10), axis=(0, 1)), moved, 0.5))
    assert place_in_frame(np.stack(rows)).is_fixed
    assert place_in_frame(np.stack(rows)).word == "middle"
    assert not place_in_frame(np.stack(part_rows)).is_fixed
    assert place_in_frame(np.stack(part_rows)).word == ""
    without_object = np.stack([measured(mark, np.zeros_like(mask()), 0.5)] * 8)
    assert place_in_frame(without_object).is_fixed
