"""A network's input that is no square, from the first image to the atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import discover, open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.runs.workspace import Workspace

OPTIONS: dict[str, Any] = {"model": "sample", "k": 6, "precision": "fp32", "layer": "edges"}
PLACES = [(8, 20), (30, 100), (52, 60)]
"""Row and column of the bright square's centre in an image of 64 x 128."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark images with one bright square, whose place is in their names."""
    folder = tmp_path_factory.mktemp("rectangle") / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        row, column = PLACES[number % len(PLACES)]
        pixels = random.integers(20, 24, (64, 128, 3), dtype=np.uint8)
        pixels[row - 6 : row + 6, column - 6 : column + 6] = 250 - pixels[:12, :12]
        Image.fromarray(pixels).save(folder / f"{number:02d}-{row}-{column}.png")
    return folder


SLOW = [pytest.param(each, marks=pytest.mark.slow) for each in ("pad", "crop")]


@pytest.mark.parametrize("resize", ["squash", *SLOW])
def test_concepts_stand_where_they_are(images: Path, tmp_path: Path, resize: str) -> None:
    run = discover(images, run=tmp_path / "run", image_size="128x64", resize=resize, **OPTIONS)
    config = Workspace.open(run.folder).config
    assert (config.image_size, config.input_size) == ("128x64", (64, 128))
    layer = run.workspace.record.layer
    assert (layer.height, layer.width) == (16, 32)
    table = run.table("images")
    maps, truth = [], []
    for image_id, path in table[["image_id", "path"]].itertuples(index=False):
        heat = run.heatmap(image_id)
        assert heat.shape == (6, 64, 128)
        row, column = map(int, Path(path).stem.split("-")[1:])
        true = np.zeros((64, 128))
        true[row - 6 : row + 6, column - 6 : column + 6] = 1
        mask = ~np.isnan(heat[0])
        maps.append(np.where(mask, heat, 0))
        truth.append(np.where(mask, true, 0))
        assert run.object_mask(image_id).shape == (64, 128)
    there, elsewhere = (
        max(
            np.corrcoef(np.ravel([each[j] for each in maps]), np.ravel(masks))[0, 1]
            for j in range(6)
        )
        for masks in (truth, truth[1:] + truth[:1])
    )
    assert there > 0.5, "one of the concepts is the square, where it is"
    assert elsewhere < 0.3
    again = open_run(run.folder)
    image = images / Path(table["path"].iloc[0]).name
    np.testing.assert_allclose(
        again.explain(image).heatmaps, again.heatmap(int(table["image_id"].iloc[0])), atol=0.02
    )
    assert again.meaning.blur(0).n_images > 0
    assert again.bank.encode(str(image)).H.shape == (1, 6, 16, 32)
    assert (run.folder / "atlas" / "index.html").is_file()


@pytest.mark.parametrize(
    ("given", "size", "shape"),
    [
        ("320x240", "320x240", (240, 320)),
        ("320X240", "320x240", (240, 320)),
        ("320 × 240", "320x240", (240, 320)),
        ((240, 320), "320x240", (240, 320)),
        ("224x224", 224, 224),
        ("224", 224, 224),
        (224, 224, 224),
        (None, None, None),
    ],
)
def test_sizes_as_they_are_written(given: Any, size: Any, shape: Any) -> None:
    config = make_config({"image_size": given})
    assert (config.image_size, config.input_size) == (size, shape)
    assert make_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("given", ["x240", "320x", "0x10", "-3", "1x2x3", "20000", (1, 2, 3)])
def test_what_is_no_size(given: Any) -> None:
    with pytest.raises(UserError, match=r"image_size=.* is not possible.*320x240"):
        make_config({"image_size": given})


def test_what_takes_squares_alone_says_so(images: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"model": "vit_b_16", "weights": "random", "image_size": "64x32"}
    with pytest.raises(UserError, match="takes square images alone"):
        discover(images, run=tmp_path / "run", **given)
