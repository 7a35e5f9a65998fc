"""Near-duplicates are found, all of them within a radius, and nothing else is taken for one."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from pipeline.images import Affine, fit_to_input
from pipeline.images.alike import (
    MOST_BITS,
    MOST_BITS_ALL,
    N_AGREE,
    N_BLOCKS,
    agreement,
    first_of_groups,
    near_pairs,
    pack,
)
from pipeline.images.look import SIDE, hashes, picture_within, thumbnail
from pipeline.sample.scenes import render_scene

Change = Callable[[Image.Image], Image.Image]
EXACT = N_BLOCKS - N_AGREE


def look(picture: Image.Image, size: int = 224) -> NDArray[np.uint8]:
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
    return thumbnail(fit_to_input(pixels, size)[0])


def near(looks: NDArray[np.uint8]) -> set[tuple[int, int]]:
    """Return the pairs that are taken for near-duplicates."""
    found = hashes(looks)
    told = np.flatnonzero(found != "")
    pairs = told[near_pairs(pack(found[told].tolist()))]
    agreed = agreement(looks[pairs[:, 0]], looks[pairs[:, 1]])
    return {(int(a), int(b)) for a, b in pairs[agreed > 0]}


def encoded(quality: int) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer)

    return change


def scaled(factor: float) -> Change:
    return lambda picture: picture.resize([round(each * factor) for each in picture.size])


def brightened(factor: float) -> Change:
    return lambda picture: ImageEnhance.Brightness(picture).enhance(factor)


def cropped(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    return picture.crop((round(0.02 * width), 0, width, round(0.98 * height)))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    scenes = [render_scene(3, index, 200) for index in range(40)]
    return [Image.fromarray(scene.image) for scene in scenes]


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (encoded(30), 0.95), (encoded(60), 0.95), (encoded(95), 0.95), (scaled(0.5), 0.95),
        (scaled(2), 0.95), (brightened(0.9), 0.95), (cropped, 0.7),
    ],
)  # fmt: skip
def test_changed_pictures_are_found_and_no_others(
    pictures: list[Image.Image], change: Change, least: float
) -> None:
    looks = np.stack([look(each) for each in [*pictures, *map(change, pictures)]])
    n, found = len(pictures), near(looks)
    assert not found - {(index, index + n) for index in range(n)}
    assert len(found) >= least * n


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(1, 60))
def test_no_pair_within_the_radius_is_missed(seed: int, n: int, n_planted: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**64, (n, 2), dtype=np.uint64)
    planted = codes[rng.integers(0, n, n_planted)]
    for row in planted:
        for bit in rng.choice(64, rng.integers(0, EXACT + 1), replace=False):
            row[0] ^= np.uint64(1) << np.uint64(bit)
        row[1] ^= np.uint64(rng.integers(0, 2**8))
    codes = np.concatenate([codes, planted])[rng.permutation(n + n_planted)]
    ours = set(map(tuple, near_pairs(codes).tolist()))
    apart = {
        (a, b): [int(each).bit_count() for each in codes[a] ^ codes[b]]
        for a, b in combinations(range(len(codes)), 2)
    }
    assert all(apart[pair][0] <= MOST_BITS and sum(apart[pair]) <= MOST_BITS_ALL for pair in ours)
    crowd = np.bincount([b for a, b in ours], minlength=len(codes)).max(initial=0)
    wanted = {pair for pair, (first, rest) in apart.items() if first <= EXACT and rest <= 16}
    assert wanted <= ours or crowd >= 16


def test_even_images_and_those_of_one_wave_have_no_hash() -> None:
    rng = np.random.default_rng(0)
    even = [Image.fromarray(rng.integers(100, 103, (64, 64), dtype=np.uint8)) for _ in range(20)]
    x = np.arange(256) / 256
    waves = [Image.fromarray((x[None] * f + x[:, None] * 90).astype(np.uint8)) for f in range(9)]
    horizons = [Image.fromarray(np.where(x[:, None] < y, 200, 90 + 0 * x)) for y in (0.4, 0.41)]
    everything = [*even, *waves, *(each.convert("L") for each in horizons)]
    assert set(hashes(np.stack([look(each) for each in everything]))) == {""}
    assert hashes(np.zeros((0, SIDE, SIDE), np.uint8)).tolist() == []


def test_simple_graphics_are_not_taken_for_each_other() -> None:
    from sklearn.datasets import load_digits

    digits = [Image.fromarray((each * 15.9).astype(np.uint8)) for each in load_digits().images]
    looks = np.stack([look(each.resize((28, 28), Image.Resampling.BILINEAR)) for each in digits])
    assert not near(looks)


@pytest.mark.parametrize(
    "shape", [(224, 224), (299, 240), (17, 31), (9, 13), (1, 1), (4200, 20)], ids=str
)
def test_a_thumbnail_is_of_exact_means(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (3, *shape), dtype=np.uint8)
    grey = np.tensordot([77, 150, 29], pixels.astype(np.int64), 1) / 256
    edges = [[index * side // SIDE for index in range(SIDE + 1)] for side in shape]
    rows, columns = ([slice(a, max(a + 1, b)) for a, b in pairwise(each)] for each in edges)
    means = np.array([[grey[row, column].mean() for column in columns] for row in rows])
    least, most = means.min(), means.max()
    wanted = (means - least) * (255 / (most - least)) if most - least >= 8 else means
    assert np.abs(thumbnail(torch.from_numpy(pixels)) - wanted).max() <= 0.5 + 1e-9


def test_added_borders_are_left_out() -> None:
    rng = np.random.default_rng(2)
    picture = torch.from_numpy(rng.integers(0, 256, (3, 60, 200), dtype=np.uint8))
    fitted, affine = fit_to_input(picture, 160, "pad")
    assert picture_within(fitted, affine, (200, 60)).shape == (3, 48, 160)
    whole, affine = fit_to_input(picture, 160, "squash")
    assert picture_within(whole, affine, (200, 60)).shape == (3, 160, 160)
    assert picture_within(whole, Affine(1, 1, -20, -20), (500, 500)).shape == (3, 160, 160)


def test_a_chain_ends_where_an_image_is_no_longer_like_the_first() -> None:
    n = 50
    chain = np.array([(a, a + step) for a in range(n) for step in (1, 2) if a + step < n])
    first = first_of_groups(n, chain)
    assert (np.arange(n) - first).max() == 2
    assert (first[first] == first).all()
    assert first_of_groups(3, np.zeros((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_ten_thousand_frames_of_one_scene_are_one_group_and_soon_found() -> None:
    rng = np.random.default_rng(3)
    codes = np.repeat(rng.integers(0, 2**64, (1, 2), dtype=np.uint64), 10_000, axis=0)
    for _ in range(2):
        codes[:, 0] ^= np.uint64(1) << rng.integers(0, 64, len(codes), dtype=np.uint64)
    pairs = near_pairs(codes)
    assert len(pairs) <= 16 * len(codes)
    assert (first_of_groups(len(codes), pairs) == 0).mean() > 0.99
