"""Copies of an image are evidence of nothing: what is measured is measured on distinct ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.jobs.discover import discover
from pipeline.sample import write_sample

OPTIONS = {"model": "sample", "k": "2", "image_size": "64"}


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
    assert concepts["stability"].isna().all()
    assert run.workspace.record.stage("extract").counts["distinct"] == 1


def test_copies_change_nothing_but_how_often_a_concept_stands(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=30, size=64)
    images = tmp_path / "sample" / "images"
    plain = discover(dataset=str(images), run=str(tmp_path / "plain"), **OPTIONS)
    twice = tmp_path / "twice"
    shutil.copytree(images, twice)
    for path in list(twice.rglob("*.jpg")):
        shutil.copyfile(path, path.with_name(f"{path.stem}-again.jpg"))
    run = discover(dataset=str(twice), run=str(tmp_path / "run"), **OPTIONS)
    found = run.table("images")
    assert (found["split"] == "copy").sum() == 30
    held = found[found["split"] != "copy"]
    assert (held["split"] == "heldout").any()
    # Which of the two counts depends on their names, and with it who is held out; the data are
    # the same, and so is what is concluded from them.
    for a, b in zip(plain.bank.W.T, run.bank.W.T, strict=True):
        assert a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.95
    rows = run.table("concept_labels").set_index(["concept_id", "label"])["n"]
    assert rows.max() <= 30
    counts = run.sql("select count(*) as n from images where split <> 'copy'")["n"].iloc[0]
    assert counts == len(plain.table("images")) == 30
