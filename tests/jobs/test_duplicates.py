"""A run lists its near-duplicates, and keeps each group on one side of the split."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import pandas as pd
import pytest
from PIL import Image

from pipeline import Run, open_run
from pipeline.jobs.discover import discover
from pipeline.sample import write_sample
from pipeline.store import Listing

OPTIONS: dict[str, Any] = {"model": "sample", "k": "3", "image_size": "64"}
N = 10
"""Images that are there in other encodings as well."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("duplicates")
    write_sample(base / "sample", n_images=60, size=96)
    folder = base / "sample" / "images"
    for index, path in enumerate(sorted(folder.rglob("*.jpg"))[:N]):
        picture = Image.open(path)
        picture.save(path.with_name(f"{path.stem}-again.jpg"), quality=70)
        picture.resize((192, 192)).save(path.with_name(f"{path.stem}-large.png"))
        if not index:
            shutil.copyfile(path, path.with_name(f"{path.stem}-copy.jpg"))
            (folder / "other").mkdir()
            picture.save(folder / "other" / "label.jpg", quality=60)
    return folder


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run") / "run"
    return discover(dataset=str(images), run=str(folder), **OPTIONS)


def stem(path: str) -> str:
    return "first" if path == "other/label.jpg" else Path(path).stem.split("-")[0]


def test_planted_ones_are_found_and_no_others(run: Run) -> None:
    found = run.table("duplicates")
    groups = [{*map(stem, group["path"])} - {"first"} for _, group in found.groupby("group_id")]
    assert len(found) == 3 * N + 2
    assert all(len(group) == 1 for group in groups)
    assert len(groups) == N
    sizes = found["group_id"].value_counts().sort_index()
    assert sorted(sizes) == [3] * (N - 1) + [5]
    assert found["agreement"].between(0.8, 1).all()
    firsts = found[found["kind"] == "first"]
    assert firsts["image_id"].tolist() == firsts["first_id"].tolist()
    assert firsts["group_id"].tolist() == [*range(N)]
    order = run.workspace.listing.frame["image_id"].tolist()
    for _, group in found.groupby("group_id"):
        assert min(group["image_id"], key=order.index) == group["first_id"].iloc[0]
    assert run.sql("select count(*) as n from duplicates")["n"].item() == len(found)
    line = f"82 images, 81 distinct: copies count once; {2 * N + 1} near-duplicates in {N} groups"
    log = (run.folder / "logs" / "run.log").read_text()
    assert line in log
    other = found.loc[~found["same_label"].astype(bool), "path"]
    assert len(other) in (1, 4)  # the one that lies elsewhere, or all others if it is the first
    assert f"{len(other)} duplicate" in log


def test_a_group_is_on_one_side_of_the_split(run: Run) -> None:
    found = run.table("duplicates").merge(run.table("images")[["image_id", "split"]], on="image_id")
    assert (found["split_x"] == found["split_y"]).all()
    counted = found[found["split_x"] != "copy"]
    assert counted.groupby("group_id")["split_x"].nunique().eq(1).all()
    listed = run.workspace.listing.frame.set_index("image_id")["split"]
    assert (counted["split_x"] == counted["first_id"].map(listed)).all()
    # Without it groups would have been on both sides.
    of_listing = counted["image_id"].map(listed)
    assert of_listing.groupby(counted["group_id"]).nunique().max() == 2
    assert not run.workspace.ids("fit") & run.workspace.ids("heldout")


@pytest.mark.slow
def test_without_near_duplicates_the_listing_splits(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=60, size=64)
    images = str(tmp_path / "sample" / "images")
    run = discover(dataset=images, run=str(tmp_path / "run"), **OPTIONS)
    assert run.table("duplicates").empty
    pd.testing.assert_frame_equal(run.workspace.images, run.workspace.listing.frame)
    assert isinstance(run.workspace.listing, Listing)


@pytest.mark.slow
def test_workers_find_the_same_and_heatmaps_know_it_as_well(
    images: Path, run: Run, tmp_path: Path
) -> None:
    options = OPTIONS | {"workers": "2", "keep": "heatmaps"}
    other = discover(dataset=str(images), run=str(tmp_path / "run"), **options)
    assert not [*(other.folder / "activations").glob("*.h5")]
    pd.testing.assert_frame_equal(other.table("duplicates"), run.table("duplicates"))
    assert open_run(other.folder).workspace.ids("fit") == run.workspace.ids("fit")


def test_shards_of_earlier_versions_know_of_copies_alone(run: Run, tmp_path: Path) -> None:
    from tests.runs.lies import agree

    earlier = tmp_path / "run"
    shutil.copytree(run.folder, earlier)
    for path in earlier.glob("*/shard-*.h5"):
        with h5py.File(path, "r+") as file:
            del file["look"], file["thumbnail"]
            file.attrs["encoding-version"] = "1.2"
    agree(earlier)
    found = open_run(earlier).workspace
    assert not found.duplicates.is_near.any()
    assert found.duplicates.is_copy.sum() == 1
    assert len(found.images) == 82


ASSETS = Path(os.environ.get("CONCORDANCE_ASSETS", "../shared/assets"))
KNOWN = [
    ("horse004", "horse146"), ("horse180", "horse203"), ("horse118", "horse171"),
    ("horse240", "horse274"), ("horse175", "horse205"), ("horse006", "horse018"),
    ("horse246", "horse294"), ("horse071", "horse219"), ("horse263", "horse264"),
]  # fmt: skip
"""Photographs that are there twice; seen by eye."""


@pytest.mark.slow
def test_of_real_photographs_those_that_are_there_twice(tmp_path: Path) -> None:
    folder = ASSETS / "images" / "weizmann_horses" / "images"
    if not folder.is_dir():
        pytest.skip(f"there are no photographs in {folder}: set CONCORDANCE_ASSETS")
    run = discover(dataset=str(folder), run=str(tmp_path / "run"), **OPTIONS)
    found = run.table("duplicates").groupby("group_id")["path"].agg(list)
    assert sorted(tuple(sorted(Path(each).stem for each in group)) for group in found) == sorted(
        KNOWN
    )
