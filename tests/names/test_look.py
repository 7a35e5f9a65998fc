"""Words of colour and texture: patches and gratings whose words are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.names.look import COLOURS, TEXTURES, WORDS, looks, shares, texture_words, worded

Pixels = NDArray[np.uint8]


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((0, 0, 0), "black"), ((255, 255, 255), "white"), ((128, 128, 128), "grey"),
        ((220, 20, 30), "red"), ((255, 192, 203), "pink"), ((255, 140, 0), "orange"),
        ((139, 69, 19), "brown"), ((222, 200, 170), "beige"), ((255, 240, 0), "yellow"),
        ((30, 120, 40), "green"), ((124, 252, 0), "green"), ((135, 206, 235), "blue"),
        ((20, 40, 160), "blue"), ((0, 0, 255), "blue"), ((128, 0, 160), "purple"),
    ],
)  # fmt: skip
def test_colours_have_their_names(rgb: tuple[int, int, int], word: str) -> None:
    pixels: Pixels = np.tile(np.array(rgb, np.uint8), (20, 20, 1))
    found = worded(pixels)
    assert {COLOURS[each] for each in np.unique(found.colour)} == {word}
    assert {TEXTURES[each] for each in np.unique(found.texture)} == {"smooth"}


def centre(L: NDArray[np.floating]) -> str:
    found = texture_words(L.astype(np.float32))[30, 30]
    return "" if found < 0 else TEXTURES[found]


def test_textures_have_their_names() -> None:
    y, x = np.mgrid[:60, :60].astype(np.float64)
    rng = np.random.default_rng(0)
    assert centre(np.full((60, 60), 50.0)) == "smooth"
    assert centre(50 + 0.5 * x) == "smooth"
    for angle in np.linspace(0, np.pi, 7):
        along = np.cos(angle) * x + np.sin(angle) * y
        assert centre(50 + 30 * np.sin(along * 2 * np.pi / 5)) == "striped"
    assert centre(50 + 25 * rng.standard_normal((60, 60))) == "fine texture"
    assert centre(50 + 20 * np.sin(x * 1.3) * np.sin(y * 1.3)) == "fine texture"


def test_an_edge_is_no_texture_and_a_coarse_wave_neither() -> None:
    y, x = np.mgrid[:60, :60].astype(np.float64)
    assert centre(np.where(x < 30, 20.0, 80.0)) == ""
    assert centre(50 + 30 * np.sin(x * 2 * np.pi / 40)) != "striped"
    assert centre(np.where((x < 30) & (y < 30), 20.0, 80.0)) == ""


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 2)])
def test_small_pictures_have_words_too(shape: tuple[int, int]) -> None:
    found = worded(np.zeros((*shape, 3), np.uint8))
    assert found.colour.shape == found.texture.shape == shape


def scene(here: tuple[int, int, int], elsewhere: tuple[int, int, int]) -> Pixels:
    pixels: Pixels = np.tile(np.array(elsewhere, np.uint8), (40, 40, 1))
    pixels[:20] = here
    return pixels


def place() -> NDArray[np.float32]:
    strength = np.zeros((40, 40), np.float32)
    strength[:20] = 1
    return strength


def measured(*pictures: Pixels) -> NDArray[np.float64]:
    found = [shares(worded(each), place(), 0.5) for each in pictures]
    return np.stack([each for each in found if each is not None])


BLUE, GREEN, RED = (40, 90, 200), (40, 140, 60), (200, 30, 40)


def test_shares_are_those_of_the_place_and_of_elsewhere() -> None:
    found = measured(scene(BLUE, GREEN))[0]
    assert found[0, WORDS.index("blue")] == found[1, WORDS.index("green")] == 1
    assert found[0, WORDS.index("green")] == 0
    assert found[0, : len(COLOURS)].sum() == found[1, : len(COLOURS)].sum() == 1


def test_the_place_is_where_it_is_at_least_half_as_strong() -> None:
    strength = place()
    strength[:10] = 4  # the other half of the place is present, and weak
    picture = scene(BLUE, GREEN)
    picture[:10] = RED
    found = shares(worded(picture), strength, 0.5)
    assert found is not None
    assert found[0, WORDS.index("red")] == 1
    assert found[1, WORDS.index("blue")] == 0
    assert shares(worded(picture), np.ones((40, 40), np.float32), 0.5) is None  # no elsewhere
    unseen = np.where(place() > 0, 1, np.nan).astype(np.float32)
    assert shares(worded(picture), unseen, 0.5) is None


def test_a_word_is_said_where_it_holds_in_most_and_not_elsewhere() -> None:
    said = looks(measured(*[scene(BLUE, GREEN)] * 9, *[scene(RED, GREEN)] * 3))
    assert [(each.word, each.n, each.of) for each in said] == [("blue", 9, 12)]
    assert said[0].here == 0.75
    assert said[0].elsewhere == 0


@pytest.mark.parametrize(
    "pictures",
    [
        [scene(BLUE, BLUE)] * 12,  # no more than elsewhere
        [scene(BLUE, GREEN)] * 6 + [scene(RED, GREEN)] * 6,  # in half of them
        [scene(BLUE, GREEN)] * 7,  # too few
        [],
    ],
)
def test_nothing_is_said_otherwise(pictures: list[Pixels]) -> None:
    found = measured(*pictures) if pictures else np.empty((0, 2, len(WORDS)))
    assert not looks(found)


def test_random_places_of_an_image_have_no_words() -> None:
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (40, 40, 3), dtype=np.uint8) for _ in range(24)]
    assert not looks(measured(*pictures))
