"""Copies of an image are evidence of nothing: what is measured is measured on distinct ones."""

from __future__ import annotations

import shutil
from itertools import count, islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from pipeline.analysis.objects import read_objects
from pipeline.images import make_image_id, unit_hash
from pipeline.jobs.discover import discover
from pipeline.sample import write_sample

OPTIONS: dict[str, Any] = {"model": "sample", "k": "2", "image_size": "64"}


def black(folder: Path) -> None:
    for n in range(12):  # other files, the same to the network
        Image.new("RGB", (64 + n, 64 + n)).save(folder / f"{n}.png")


def copies(folder: Path) -> None:
    write_sample(folder.parent / "sample", n_images=1, size=64)
    image = next((folder.parent / "sample" / "images").rglob("*.jpg"))
    for n in range(12):
        shutil.copyfile(image, folder / f"{n}.jpg")


@pytest.mark.parametrize("make", [black, copies])
def test_twelve_copies_are_one_image(tmp_path: Path, make: object) -> None:
    (tmp_path / "images").mkdir()
    make(tmp_path / "images")  # type: ignore[operator]
    run = discover(dataset=str(tmp_path / "images"), run=str(tmp_path / "run"), **OPTIONS)
    assert "12 images, 1 distinct" in (run.folder / "logs" / "run.log").read_text()
    assert run.table("images")["split"].value_counts().to_dict() == {"copy": 11, "fit": 1}
    concepts = run.table("concepts")
    assert not concepts["top_significant"].any()
    assert not concepts["kind"].isin(["class", "group", "shared", "place"]).any()
    assert run.suspects().empty
    assert concepts["stability"].isna().all()
    assert concepts["reappears"].isna().all()
    assert run.workspace.record.stage("extract").counts["distinct"] == 1


def copies_after(image: Path, folder: Path, n: int) -> None:
    """Copy an image under names that come after its own in working order."""

    def turn(path: Path) -> float:
        image_id = make_image_id(path.relative_to(folder).as_posix())
        return unit_hash(image_id, 0, "order")

    names = (image.with_name(f"{image.stem}-{index}.jpg") for index in count())
    for path in islice((each for each in names if turn(each) > turn(image)), n):
        shutil.copyfile(image, path)


@pytest.mark.slow
def test_what_is_concluded_does_not_hang_on_copies(tmp_path: Path) -> None:
    """An image that is there sixty times: all but counts of images is as without its copies."""
    write_sample(tmp_path / "sample", n_images=40, size=64)
    images, more = tmp_path / "sample" / "images", tmp_path / "more"
    shutil.copytree(images, more)
    plain = discover(dataset=str(images), run=str(tmp_path / "plain"), **OPTIONS)
    held = plain.images_with(0)
    copies_after(more / held["path"].iloc[0], more, 60)
    run = discover(dataset=str(more), run=str(tmp_path / "run"), **OPTIONS)
    assert run.table("images")["split"].eq("copy").sum() == 60
    assert pytest.approx(plain.bank.W, rel=1e-3, abs=1e-4) == run.bank.W
    objects = [read_objects(each.workspace).coarse for each in (run, plain)]
    assert objects[0].threshold == pytest.approx(objects[1].threshold, rel=1e-3)
    assert objects[0].spread == pytest.approx(objects[1].spread, rel=1e-3)
    for table in ("concept_labels", "concept_pairs", "fidelity", "concept_classes"):
        ours, theirs = run.table(table), plain.table(table)
        numbers = ours.select_dtypes("number").columns
        pd.testing.assert_frame_equal(ours.drop(columns=numbers), theirs.drop(columns=numbers))
        pd.testing.assert_frame_equal(ours[numbers], theirs[numbers], rtol=0.02, atol=2e-3)
    assert run.table("concepts")["n_images"][0] == plain.table("concepts")["n_images"][0] + 60
    shown = {int(path.stem) for path in (run.folder / "atlas" / "images").glob("*.html")}
    frame = run.table("images").set_index("image_id")
    assert not (frame.loc[list(shown), "split"] == "copy").any()
