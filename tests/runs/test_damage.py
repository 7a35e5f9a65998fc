"""Nothing that was damaged, edited or replaced is taken for what was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

from pipeline import Run, open_run, verify
from pipeline.analysis.image_data import GoneError
from pipeline.errors import UserError
from pipeline.jobs.discover import discover
from pipeline.jobs.execute import execute

N_DAMAGES = 6
"""Bytes changed in turn in each file."""


def answers(run: Run) -> dict[str, Any]:
    """Ask a run about everything that it is asked about."""
    images = run.table("images")
    image_id = int(images["image_id"].iloc[0])
    return {
        "concepts": run.table("concepts").to_json(),
        "images": images.to_json(),
        "regions": run.table("regions").to_json(),
        "with": run.images_with(0).to_json(),
        "heatmap": run.heatmap(image_id).tobytes(),
        "object": run.object_mask(image_id, refined=False).tobytes(),
        "map": run.concept_map(image_id).tobytes(),
        "split": run.meaning.split([image_id]).to_json(),
        "fidelity": run.meaning.fidelity(n_images=4).to_json(),
        "encoded": run.bank.encode(run.image(image_id)).H.tobytes(),
        "config": run.workspace.config.model_dump_json(),
    }


@pytest.mark.slow
def test_a_changed_byte_is_said_or_changes_nothing(run: Path) -> None:
    expected = answers(open_run(run))
    rng = np.random.default_rng(0)
    told = 0
    for path in sorted(
        path for path in run.rglob("*") if path.suffix in (".h5", ".json", ".toml", ".parquet")
    ):
        data = path.read_bytes()
        for place in rng.integers(0, len(data), N_DAMAGES).tolist():
            changed = bytearray(data)
            changed[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            try:
                assert answers(open_run(run)) == expected, (path, place)
            except UserError as error:
                told += 1
                assert str(run) in str(error), (path, place)
            assert not verify_is_whole(run), (path, place)
        path.write_bytes(data)
    assert told > 20
    assert answers(open_run(run)) == expected
    assert verify(run).is_whole


def verify_is_whole(run: Path) -> bool:
    try:
        return verify(run).is_whole
    except UserError:
        return False


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "the centres of cells": lambda record: record["layer"].update(centres_x=[1.0, 2.0]),
    "the names of classes": lambda record: record.update(class_names={"0": "another"}),
    "the dataset": lambda record: record["dataset"].update(root="/elsewhere"),
    "the configuration": lambda record: record["config"].update(resize="crop"),
    "its digest": lambda record: record.update(sha256="0" * 64),
    "no digest": lambda record: record.pop("sha256"),
    "what was rejected": lambda record: record["dataset"].update(
        rejected=[{"path": "x", "reason": "y"}]
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_record_of_the_run_is_noticed(run: Path, what: str) -> None:
    path = run / "run.json"
    record = json.loads(path.read_bytes())
    EDITS[what](record)
    path.write_text(json.dumps(record, indent=2))
    for call in (verify, lambda folder: open_run(folder).workspace.record):
        with pytest.raises(UserError, match=r"run\.json is damaged"):
            call(run)
    discover(run=str(run))  # mends it
    assert verify(run).is_whole


def test_a_file_of_hdf5_leads_nowhere_else(run: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["H"] = np.ones((24, 8, 8, 3), np.float16)
    shard = run / "heatmaps" / "shard-00000.h5"
    record = shard.with_suffix(".json")
    record.unlink()  # whoever made the run made its records as well
    clean = shard.read_bytes()

    def external(file: h5py.File) -> None:
        file["H"] = h5py.ExternalLink(str(secret), "H")

    def soft(file: h5py.File) -> None:
        file["H"] = h5py.SoftLink("/residual")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((24, 8, 8, 3), np.float16)
        layout[...] = h5py.VirtualSource(str(secret), "H", (24, 8, 8, 3))
        file.create_virtual_dataset("H", layout)

    def raw(file: h5py.File) -> None:
        file.create_dataset("H", (24, 8), np.uint8, external=[("/etc/passwd", 0, 192)])

    def large(file: h5py.File) -> None:
        file.create_dataset("H", (1 << 40,), np.uint8, chunks=(1 << 20,))

    for make in (external, soft, virtual, raw, large):
        shard.write_bytes(clean)
        with h5py.File(shard, "r+") as file:
            del file["H"]
            make(file)
        found = open_run(run)
        with pytest.raises(UserError, match=r"shard-00000\.h5 is refused"):
            found.grid_heatmap(int(found.table("images")["image_id"].iloc[0]))


def test_pictures_are_those_that_the_network_saw(made: Path, run: Path) -> None:
    images = made.parent / "sample" / "images"
    shown = [int(path.stem) for path in (run / "atlas" / "images").glob("*.html")]
    query = "select image_id, path from images where image_id in (select unnest(?)) order by path"
    frame = open_run(run).sql(query, [shown])
    replaced, lost = (images / frame.path[n] for n in (0, 1))
    kept = {path: path.read_bytes() for path in (replaced, lost)}
    try:
        Image.new("RGB", (64, 64), "red").save(replaced)
        lost.unlink()
        found = open_run(run)
        with pytest.raises(GoneError, match="is not the one that the network saw"):
            found.image(int(frame.image_id[0]))
        with pytest.raises(GoneError, match="cannot be used"):
            found.image(int(frame.image_id[1]))
        seen = (found.show(int(frame.image_id[1])), found.concept(0), found.images_with(0))
        assert all("<img" in each._repr_html_() for each in seen)  # the others are there
        assert found.heatmap(int(frame.image_id[0])).shape == (3, 64, 64)
        shutil.rmtree(run / "atlas")
        execute(found.workspace)
        assert found.workspace.record.stage("atlas").counts["gone"] == 2
        log = (run / "logs" / "run.log").read_text()
        assert "2 of the images shown are drawn as gone" in log
        assert "is not the one that the network saw" in log
        for n in (0, 1):
            with Image.open(run / "atlas" / "media" / f"{frame.image_id[n]}.jpg") as picture:
                assert picture.size == (64, 64)
                pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
                assert np.median(pixels, axis=0).tolist() == pytest.approx([214, 211, 209], abs=4)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    discover(run=str(run))  # they are back, and drawn
    assert open_run(run).workspace.record.stage("atlas").counts["gone"] == 0
    assert verify(run).is_whole


@pytest.mark.parametrize("pictures", ["blur", "none"])
def test_an_atlas_may_do_without_copies_of_the_images(run: Path, pictures: str) -> None:
    """No picture in it is near its image, whatever is done to either."""
    found = open_run(run)
    before = {path.name: path.read_bytes() for path in (run / "atlas" / "media").glob("*.jpg")}
    assert "hold copies of images" in (run / "atlas" / "index.html").read_text()
    discover(run=str(run), atlas_images=pictures)
    page = (run / "atlas" / "index.html").read_text()
    assert "hold copies of images" not in page
    assert "blurred copies" in page or "No image of the dataset" in page
    for path in (run / "atlas" / "media").glob("*.jpg"):
        assert path.read_bytes() != before[path.name]
        if not path.stem.isdecimal():
            continue
        original = Image.fromarray(found.image(int(path.stem)))
        with Image.open(path) as picture:
            a, b = (np.asarray(each.convert("L"), np.float64) for each in (picture, original))
        for axis in (0, 1):
            ours, theirs = (np.abs(np.diff(each, axis=axis)).mean() for each in (a, b))
            assert ours < 0.5 * theirs
    discover(run=str(run), atlas_images="copy")
    assert "hold copies of images" in (run / "atlas" / "index.html").read_text()
    now = {path.name: path.read_bytes() for path in (run / "atlas" / "media").glob("*.jpg")}
    assert now == before


@pytest.mark.parametrize("lost", ["run.json", "activations/images.parquet"])
def test_what_is_left_of_a_run_is_not_adopted_by_another(
    made: Path, run: Path, lost: str, tmp_path: Path
) -> None:
    """Neither with other options nor with other images, though the file that says so is lost."""
    (run / lost).write_bytes((run / lost).read_bytes()[:40])
    if lost == "run.json":
        with pytest.raises(UserError, match=r"was made with k=\[3\], now it is \[2\]"):
            discover(run=str(run), dataset=str(made.parent / "sample" / "images"), model="sample",
                     image_size="64", k="2")  # fmt: skip
    images = tmp_path / "images"
    shutil.copytree(made.parent / "sample" / "images", images)
    options: dict[str, Any] = {"dataset": str(images), "model": "sample", "image_size": "64"}
    options["k"] = "3"
    replaced = sorted(images.rglob("*.jpg"))[3]
    data = replaced.read_bytes()
    Image.new("RGB", (64, 64), "red").save(replaced)
    with pytest.raises(UserError, match="was begun with other images"):
        discover(run=str(run), **options)
    replaced.unlink()
    replaced.symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(UserError, match="was begun with images of which 1 was not to be read now"):
        discover(run=str(run), **options)
    replaced.unlink()
    replaced.write_bytes(data)
    discover(run=str(run), **options)
    assert verify(run).is_whole


def test_a_run_is_finished_though_images_are_gone(made: Path, run: Path, tmp_path: Path) -> None:
    """The run alone is asked for; with the dataset, other images are refused."""
    images = tmp_path / "images"
    shutil.copytree(made.parent / "sample" / "images", images)
    options: dict[str, Any] = {"dataset": str(images), "model": "sample", "image_size": "64"}
    options["k"] = "3"
    discover(run=str(run), **options)
    removed, replaced = sorted(images.rglob("*.jpg"))[3:5]
    removed.unlink()
    Image.new("RGB", (64, 64), "red").save(replaced)
    shutil.rmtree(run / "atlas")
    found = discover(run=str(run))
    assert (run / "atlas" / "index.html").is_file()
    assert len(found.table("images")) == 24
    assert "2 of the images shown are drawn as gone" in (run / "logs" / "run.log").read_text()
    assert verify(run).is_whole
    with pytest.raises(UserError, match="was begun with other images"):
        discover(run=str(run), **options)
