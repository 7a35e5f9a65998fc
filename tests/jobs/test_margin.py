"""A margin from the first image to what is asked of a finished run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import discover, explain, open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.runs.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.long]

OPTIONS: dict[str, Any] = {
    "model": "sample", "k": 3, "precision": "fp32", "layer": "edges", "image_size": 64,
    "atlas_images": "none",
}  # fmt: skip
PLACES = [(8, 20), (30, 52), (54, 10)]
"""Row and column of the bright square's centre in an image of 64 x 64."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark images with one bright square, whose place is in their names."""
    folder = tmp_path_factory.mktemp("margin") / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(18):
        row, column = PLACES[number % len(PLACES)]
        pixels = random.integers(20, 24, (64, 64, 3), dtype=np.uint8)
        pixels[row - 6 : row + 6, column - 6 : column + 6] = 250 - pixels[:12, :12]
        Image.fromarray(pixels).save(folder / f"{number:02d}-{row}-{column}.png")
    return folder


@pytest.fixture(scope="module")
def made(images: Path) -> dict[int, Any]:
    """Runs with and without a margin."""
    return {
        margin: discover(images, run=images.parent / f"run-{margin}", margin=margin, **OPTIONS)
        for margin in (0, 16)
    }


def square_of(path: str) -> tuple[int, int]:
    row, column = map(int, Path(path).stem.split("-")[1:])
    return row, column


@pytest.mark.parametrize("margin", [0, 16])
def test_what_stands_somewhere_is_found_there(made: dict[int, Any], margin: int) -> None:
    run = made[margin]
    here, aside = [], []
    for image_id, path in run.table("images")[["image_id", "path"]].itertuples(index=False):
        row, column = square_of(path)
        true = np.zeros((64, 64))
        true[row - 6 : row + 6, column - 6 : column + 6] = 1
        moved = np.roll(true, (16, 16), axis=(0, 1))  # by a margin that was forgotten
        heat = run.heatmap(image_id).reshape(3, -1)
        here.append([np.corrcoef(each, true.ravel())[0, 1] for each in heat])
        aside.append([np.corrcoef(each, moved.ravel())[0, 1] for each in heat])
    assert np.mean(here, axis=0).max() > 0.3
    assert np.mean(aside, axis=0).max() < 0.1


def test_margin_is_of_the_run(made: dict[int, Any], images: Path) -> None:
    run, plain = made[16], made[0]
    layer, without = run.workspace.record.layer, plain.workspace.record.layer
    assert run.workspace.record.config["margin"] == 16
    assert (layer.height, layer.centres_y) == (without.height, without.centres_y)
    image = sorted(images.iterdir())[0]
    image_id = int(run.table("images").set_index("path").loc[image.name, "image_id"])
    again = open_run(run.folder)
    encoded = again.bank.encode(image).H[0]
    shard = int(run.workspace.listing.shards_of(run.workspace.listing.places([image_id]))[0])
    arrays = run.workspace.heatmaps.read(shard, ["H", "image_id"])
    stored = arrays["H"][arrays["image_id"] == image_id][0].transpose(2, 0, 1)
    np.testing.assert_allclose(encoded, stored, atol=5e-3 * float(stored.max()))
    explained = again.explain(image)
    np.testing.assert_allclose(
        explained.heatmaps, run.heatmap(image_id), atol=5e-3 * float(stored.max())
    )


def test_one_image_takes_a_margin(images: Path) -> None:
    image = sorted(images.iterdir())[0]
    found = explain(image, model="sample", layer="edges", image_size=64, k=2, margin=16)
    assert found.heatmaps.shape == (2, 64, 64)


def test_a_run_goes_on_with_its_margin_alone(
    made: dict[int, Any], images: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(made[16].folder, tmp_path / "run"))
    for file in (copy / "activations").glob("shard-*"):
        file.unlink()
    for file in (copy / "activations").rglob("*.json"):
        file.unlink()
    given = {name: str(value) for name, value in OPTIONS.items()} | {"dataset": str(images)}
    with pytest.raises(UserError, match="margin=16, now it is 0"):
        prepare(make_config(given), copy)
    with pytest.raises(UserError, match="margin=16, now it is 32"):
        prepare(make_config(given | {"margin": "32"}), copy)
    discover(images, run=copy, margin=16, **OPTIONS)
    before, after = (
        open_run(each).workspace.activations.read(0, ["V", "logits"])
        for each in (made[16].folder, copy)
    )
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_shards_of_another_margin_are_not_taken(made: dict[int, Any]) -> None:
    digests = {run.workspace.inputs_digest(0) for run in made.values()}
    assert len(digests) == 2
