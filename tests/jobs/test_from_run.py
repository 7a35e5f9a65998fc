"""Other concepts from the activations of another run: no forward pass, nothing taken twice."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline
from pipeline.errors import UserError
from pipeline.jobs import extract as extraction
from pipeline.runs.integrity import verify
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample
from pipeline.system import files

OPTIONS: dict[str, Any] = {"model": "sample", "seed": 3}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("from")
    write_sample(folder / "sample", n_images=48)
    return folder / "sample" / "images"


@pytest.fixture(scope="module")
def pets(images: Path) -> Path:
    return pipeline.discover(images, k=4, run=images.parent / "pets", **OPTIONS).folder


@pytest.fixture(autouse=True)
def _no_forward_pass(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("a shard was extracted")

    monkeypatch.setattr(extraction, "_run_shards", refuse)


def inodes(run: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (run / "activations").glob("shard-*")}


@pytest.mark.slow
def test_other_concepts_are_those_of_a_run_of_its_own(
    images: Path, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pipeline.discover(from_run=pets, k=6, run=tmp_path / "six")
    assert inodes(run.folder) == inodes(pets)
    assert run.workspace.config.k == (6,)
    assert len(run.table("concepts")) == 6
    assert verify(run.folder).is_whole
    monkeypatch.undo()
    alone = pipeline.discover(images, k=6, run=tmp_path / "alone", **OPTIONS)
    ours, theirs = run.workspace.bank, alone.workspace.bank
    assert np.array_equal(ours.W, theirs.W)
    assert np.array_equal(ours.thresholds, theirs.thresholds)
    assert run.table("image_concepts").equals(alone.table("image_concepts"))


@pytest.mark.slow
def test_either_may_be_removed(pets: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(pets, first)
    second = pipeline.discover(from_run=first, k=5, run=tmp_path / "second").folder
    pipeline.clean(first)
    assert not first.exists()
    again = pipeline.discover(run=second)
    assert len(again.table("concepts")) == 5
    third = pipeline.discover(from_run=second, k=3, run=tmp_path / "third")
    pipeline.clean(third.folder)
    assert not Workspace.open(second).activations.missing()


def test_what_a_run_drops_the_other_keeps(pets: Path, tmp_path: Path) -> None:
    run = pipeline.discover(from_run=pets, k=3, keep="heatmaps", run=tmp_path / "run")
    assert not list((run.folder / "activations").glob("*.h5"))
    assert not Workspace.open(pets).activations.missing()
    with pytest.raises(UserError, match="has not all of its activations, 0 of"):
        pipeline.discover(from_run=run.folder, k=4, run=tmp_path / "next")
    assert not (tmp_path / "next").exists()


@pytest.mark.slow
def test_seeds_share_images_and_their_order(pets: Path, tmp_path: Path) -> None:
    run = pipeline.discover(from_run=pets, seed=9, run=tmp_path / "nine")
    assert run.workspace.config.seed == 9
    own, theirs = (Workspace.open(each).listing.frame for each in (run.folder, pets))
    assert own.equals(theirs)
    assert not np.array_equal(run.workspace.bank.W, Workspace.open(pets).bank.W)
    again = pipeline.discover(run=run.folder)  # found again as it is
    assert again.workspace.config.seed == 9


@pytest.mark.slow
def test_without_a_name_it_lies_beside(pets: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(pets, first)
    found = [pipeline.discover(from_run=first, k=k).folder for k in (3, 5, 3)]
    assert found[0] == found[2] != found[1]
    assert {each.parent for each in found} == {tmp_path}
    assert all(each.name.startswith("first-") for each in found)


def test_it_is_copied_where_links_do_not_reach(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    caplog.set_level("INFO")
    run = pipeline.discover(from_run=pets, k=3, run=tmp_path / "run")
    assert set(inodes(run.folder)) == set(inodes(pets))
    assert not set(inodes(run.folder).values()) & set(inodes(pets).values())
    assert "GB are copied" in caplog.text
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10, "total": 10})
    )
    with pytest.raises(UserError, match=r"would be copied .* and 0\.00 GB are free"):
        pipeline.discover(from_run=pets, k=3, run=tmp_path / "full")


def test_a_killed_one_goes_on(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, n_linked = files.link, 0

    def link_some(path: Path, target: Path) -> bool:
        nonlocal n_linked
        n_linked += 1
        if n_linked == 2:
            raise KeyboardInterrupt
        return link(path, target)

    monkeypatch.setattr(files, "link", link_some)
    with pytest.raises(KeyboardInterrupt):
        pipeline.discover(from_run=pets, k=3, run=tmp_path / "run")
    monkeypatch.setattr(files, "link", link)
    run = pipeline.discover(from_run=pets, k=3, run=tmp_path / "run")
    assert inodes(run.folder) == inodes(pets)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"layer": "early"}, r"made with layer='.*': leave out layer"),
        ({"image_size": "64"}, "made with image_size"),
        ({"limit": 10}, "made with limit='its default': leave out limit"),
        ({"k": 100_000}, "100000 is more than the data allows"),
    ],
)
def test_what_decides_activations_is_as_it_was(
    pets: Path, tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        pipeline.discover(from_run=pets, run=tmp_path / "run", **options)


def test_folders_that_cannot_be(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        pipeline.discover(from_run=tmp_path, k=3)
    with pytest.raises(UserError, match="is from_run itself"):
        pipeline.discover(from_run=pets, k=3, run=pets)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(UserError, match="holds other files"):
        pipeline.discover(from_run=pets, k=3, run=tmp_path / "mine")
    first = pipeline.discover(from_run=pets, k=3, run=tmp_path / "run").folder
    with pytest.raises(UserError, match="was made with k"):
        pipeline.discover(from_run=pets, k=4, run=first)
    with pytest.raises(UserError, match="takes the activations of one layer"):
        pipeline.discover(from_run=pets, layers="a,b")


@pytest.mark.slow
def test_a_run_of_other_images_is_not_taken_for_it(
    images: Path, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same options, and as it is finished nobody looks at its images again."""
    monkeypatch.undo()
    cars = pipeline.discover(images, k=3, run=tmp_path / "cars", limit=20, **OPTIONS).folder
    shutil.rmtree(tmp_path / "fewer", ignore_errors=True)
    fewer = tmp_path / "fewer"
    (fewer / "a").mkdir(parents=True)
    for path in sorted(images.rglob("*.jpg"))[:12] + sorted(images.rglob("*.png"))[:12]:
        shutil.copy(path, fewer / "a" / path.name)
    other = pipeline.discover(fewer, k=3, run=tmp_path / "other", **OPTIONS).folder
    listing = (other / "activations" / "images.parquet").read_bytes()
    for run in (other, cars):
        with pytest.raises(UserError, match="is a run already, and not of the activations of"):
            pipeline.discover(from_run=pets, k=3, run=run)
    assert (other / "activations" / "images.parquet").read_bytes() == listing
    assert Workspace.open(other).config.dataset == str(fewer.resolve())


@pytest.mark.slow
def test_images_added_later_are_fitted_too(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    grown = tmp_path / "grown"
    pipeline.discover(images, k=3, run=grown, limit=30, **OPTIONS)
    run = pipeline.discover(images, run=grown, limit=48)
    assert run.workspace.n_fitted == 30
    more = pipeline.discover(from_run=grown, k=4, run=tmp_path / "more")
    assert more.workspace.n_fitted == 48
    assert len(more.table("images")) == 48
    assert inodes(more.folder) == inodes(grown)
