"""Places in the frame, planted beside contents that look like them in the mean."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline.analysis.samples import RunSamples
from pipeline.classify.place import DIRECTIONS, Place, place_words, places
from pipeline.config import make_config
from pipeline.images.geometry import mirrored
from pipeline.jobs import places as jobs_places
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.jobs.places import find_places
from pipeline.runs.prepare import prepare

N, SIDE, STEP = 120, 8, 2


def world(seed: int) -> NDArray[np.float32]:
    """Contents of N images, far larger than the frame: what a moved frame shows is there."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((N, 3 * SIDE, 3 * SIDE))
    smooth: NDArray[np.float64] = gaussian_filter(noise, (0, 1, 1))
    return np.maximum(smooth, 0).astype(np.float32)


def framed(contents: NDArray[np.float32], shifts: NDArray[np.int64]) -> NDArray[np.float32]:
    cut = [
        each[SIDE - down : 2 * SIDE - down, SIDE - right : 2 * SIDE - right]
        for each, (down, right) in zip(contents, shifts.tolist(), strict=True)
    ]
    return np.stack(cut)


def told(
    still: NDArray[np.float32],
    moved: NDArray[np.float32],
    shifts: NDArray[np.int64],
    seed: int = 0,
) -> list[Place]:
    ways = [(down, right) for down, right in shifts.tolist()]
    return places(zip(still, moved, ways, strict=True), seed)


def planted(seed: int) -> list[Place]:
    """Contents anywhere; contents at the top, as sky; a top edge of the frame; nothing but noise;
    the frame's edge in one image of five, with contents beside it."""
    random = np.random.default_rng(seed)
    shifts = STEP * np.array([DIRECTIONS[i % 4] for i in range(N)], dtype=np.int64)
    still = np.zeros_like(shifts)
    anywhere, sky = world(seed), 4 * world(seed + 1)
    sky *= (np.arange(3 * SIDE) < SIDE + 2)[:, None]  # above the frame it goes on
    edge = np.zeros((SIDE, SIDE), np.float32)
    edge[0] = 1
    strength = random.uniform(0.5, 1.5, (N, 1, 1)).astype(np.float32)
    rare = edge * (np.arange(N) % 5 == 0)[:, None, None].astype(np.float32)
    both = []
    for moves in (still, shifts):
        noise = random.normal(0, 0.02, (5, N, SIDE, SIDE)).astype(np.float32)
        parts = [framed(anywhere, moves), framed(sky, moves), strength * edge, np.zeros_like(rare)]
        parts.append(2 * rare + 0.3 * framed(anywhere, moves))
        both.append(np.maximum(np.stack(parts) + noise, 0).transpose(1, 2, 3, 0))
    return told(both[0], both[1], shifts, seed)


@pytest.mark.parametrize("seed", range(3))
def test_what_stays_in_the_frame_is_a_place_and_what_moves_is_none(seed: int) -> None:
    anywhere, sky, edge, noise, rare = planted(seed)
    assert [each.is_place for each in (anywhere, sky, edge, noise, rare)] == [
        False, False, True, False, True,
    ]  # fmt: skip
    assert anywhere.share < 0.1
    assert sky.share < 0.1
    assert edge.share > 0.9
    assert edge.words == rare.words == "top edge"
    assert sky.words in ("top edge", "upper half")  # by its mean map alone it would be the same


def test_noise_is_a_place_at_the_nominal_rate_at_most() -> None:
    random = np.random.default_rng(0)
    shape = (40, 6, 6, 200)
    still, moved = (random.random(shape, dtype=np.float32) for _ in range(2))
    shifts = np.array([DIRECTIONS[i % 4] for i in range(40)], dtype=np.int64)
    found = told(still, moved, shifts)
    assert sum(each.is_place for each in found) <= 2


def test_a_concept_that_is_nowhere_is_no_place() -> None:
    nothing = np.zeros((8, 4, 4, 1), np.float32)
    shifts = np.array(DIRECTIONS * 2, dtype=np.int64)
    (found,) = told(nothing, nothing, shifts)
    assert told(nothing[:5], nothing[:5], shifts[:5]) == []  # too few to tell
    assert not found.is_place
    assert np.isnan(found.share)
    assert found.words == ""


def test_shares_are_those_of_nonnegative_least_squares() -> None:
    from scipy.optimize import nnls

    random = np.random.default_rng(1)
    still, moved = (random.random((6, 5, 7, 30), dtype=np.float32) for _ in range(2))
    moved += 0.3 * still
    shifts = np.array([(1, 2), (-1, 0), (0, -2), (2, 1), (-2, -2), (1, -1)], dtype=np.int64)
    found = told(still, moved, shifts)
    for concept in range(30):
        columns = []
        for h, g, (down, right) in zip(still, moved, shifts.tolist(), strict=True):
            cells = [
                (h[y - down, x - right, concept], h[y, x, concept], g[y, x, concept])
                for y in range(5)
                for x in range(7)
                if 0 <= y - down < 5 and 0 <= x - right < 7
            ]
            columns.append(np.array(cells, dtype=np.float64) - np.mean(cells, axis=0))
        table = np.concatenate(columns)
        a, b = nnls(table[:, :2], table[:, 2])[0]
        assert found[concept].share == pytest.approx(b / (a + b), abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        (slice(0, 1), slice(None), "top edge"),
        (slice(0, 2), slice(None), "top edge"),
        (slice(None), slice(6, 7), "right edge"),
        (slice(5, 7), slice(0, 2), "bottom left corner"),
        (slice(2, 5), slice(2, 5), "centre"),
        (slice(4, 7), slice(None), "lower half"),
    ],
)
def test_words_say_where_a_map_is_strong(rows: slice, columns: slice, words: str) -> None:
    mean = np.full((7, 7), 0.1)
    mean[rows, columns] += 1
    assert place_words(mean) == words
    assert place_words(mean.repeat(2, 0).repeat(2, 1)) == words


def test_words_of_all_corners_and_of_the_whole_border() -> None:
    ring = np.ones((7, 7))
    ring[1:-1, 1:-1] = 0
    assert place_words(ring) == "edges"
    corners = np.zeros((7, 7))
    corners[np.ix_([0, 6], [0, 6])] = 1
    assert place_words(corners) == "corners"
    assert place_words(np.ones((7, 7))) == ""


def test_a_window_beyond_the_border_is_mirrored_as_torch_does() -> None:
    image = torch.rand(3, 9, 11)
    expected = torch.nn.functional.pad(image, (5, 5, 4, 4), mode="reflect")
    assert torch.equal(mirrored(image, range(-4, 13), range(-5, 16)), expected)
    assert torch.equal(mirrored(image, range(9), range(11)), image)
    assert mirrored(image[:, :1, :1], range(-3, 4), range(-3, 4)).shape == (3, 7, 7)


NETWORK = '''
import torch
from torch import nn

class Padded(nn.Module):
    """One channel that sees the zeros around the image, one that sees bright squares."""
    num_classes = 2
    def __init__(self):
        super().__init__()
        convolution = nn.Conv2d(3, 2, 3, stride=2, padding=1)
        self.seen = nn.Sequential(convolution, nn.ReLU())
        self.last = nn.Conv2d(2, 2, 1)
        with torch.no_grad():
            convolution.weight[0] = -1 / 9
            convolution.bias[0] = 4.2
            convolution.weight[1] = 1.0
            convolution.bias[1] = -60.0
            self.last.weight.copy_(torch.eye(2)[:, :, None, None])
            self.last.bias.zero_()
    def forward(self, images):
        return torch.relu(self.last(self.seen(images))).mean((2, 3))

def make():
    return Padded()
'''


def test_concepts_of_padding_are_found_by_moving_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(110, 130, (48, 48, 3), dtype=np.uint8)
        row, column = random.integers(0, 36, 2)
        pixels[row : row + 12, column : column + 12] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "padded.py").write_text(NETWORK)
    monkeypatch.setenv("CONCORDANCE_CODE", f"{tmp_path / 'padded.py'}:make")
    options = {
        "dataset": str(folder), "model": f"{tmp_path / 'padded.py'}:make", "layer": "seen",
        "image_size": "48", "k": "2", "mean": "0", "std": "0.3",
    }  # fmt: skip
    workspace = prepare(make_config(options), tmp_path / "run")
    for job in (extract, factorize, localize):
        job(workspace)
    monkeypatch.setattr(jobs_places, "N_PICTURES", 192)  # as anywhere but in tests
    monkeypatch.setattr(jobs_places, "FEWEST", 48)
    found = find_places(RunSamples(workspace))
    by_kind = sorted(found, key=lambda each: each.share)
    assert [each.is_place for each in by_kind] == [False, True]
    assert by_kind[1].words == "top and left edges"  # of stride 2: the last cell sees no padding
    shutil.rmtree(folder)
    assert find_places(RunSamples(workspace)) == []  # they are needed no more, and so not known
