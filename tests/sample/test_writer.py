"""The sample as a folder: layout, masks, reruns, completion after a kill."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import UserError
from pipeline.sample import CLASSES, PARTS, Cue, render_scene, write_sample, writer
from pipeline.system import files

N, SEED, SIZE = 14, 3, 48


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "made"
    write_sample(folder, N, SEED, SIZE)
    return folder


def test_images_and_masks_are_those_of_the_scenes(sample: Path) -> None:
    assert len(list((sample / "images").rglob("*.jpg"))) == N
    for index in range(N):
        scene = render_scene(SEED, index, SIZE)
        name = f"{scene.label}/{scene.label}_{index:05d}"
        with Image.open(sample / "images" / f"{name}.jpg") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(pixels - scene.image).mean() < 8
        with Image.open(sample / "parts" / f"{name}.png") as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), scene.parts)
        with Image.open(sample / "objects" / f"{name}.png") as image:
            assert np.array_equal(np.asarray(image), np.where(scene.objects, 255, 0))


def test_names_of_parts_and_classes(sample: Path) -> None:
    names = json.loads((sample / "parts.json").read_text("utf-8"))
    assert names == {str(i + 1): part for i, part in enumerate(PARTS)}
    with (sample / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == list(CLASSES)
    assert [int(row["class_id"]) for row in rows] == list(range(len(CLASSES)))


def test_a_rerun_touches_nothing(sample: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sample.rglob("*")}
    write_sample(sample, N, SEED, SIZE)
    assert {path: path.stat().st_mtime_ns for path in sample.rglob("*")} == before


def test_an_incomplete_sample_is_completed(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    write_sample(folder, N, SEED, SIZE)
    record = json.loads((folder / "sample.json").read_text("utf-8"))
    (folder / "sample.json").write_text(json.dumps(record | {"complete": False}), "utf-8")
    lost = sorted((folder / "images").rglob("*.jpg"))[3]
    lost.unlink()
    (folder / "parts.json").unlink()
    leftover = lost.with_name(f"x.jpg{files.TEMPORARY}1")
    leftover.write_bytes(b"half")
    kept = sorted((folder / "images").rglob("*.jpg"))[0]
    written = kept.stat().st_mtime_ns
    write_sample(folder, N, SEED, SIZE)
    assert contents(folder) == contents(sample)
    assert kept.stat().st_mtime_ns == written


def test_other_settings_replace_the_sample(tmp_path: Path) -> None:
    write_sample(tmp_path / "s", 3, SEED, SIZE)
    write_sample(tmp_path / "s", 2, SEED + 1, SIZE)
    write_sample(tmp_path / "fresh", 2, SEED + 1, SIZE)
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_processes_write_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sample(tmp_path / "pooled", writer.FEW + 2, SEED, 32)
    monkeypatch.setattr(writer, "FEW", 1000)
    write_sample(tmp_path / "alone", 26, SEED, 32)
    assert contents(tmp_path / "pooled") == contents(tmp_path / "alone")


def test_a_cue_is_written_and_recorded(tmp_path: Path) -> None:
    cue = Cue(class_id=1, probability=1.0)
    write_sample(tmp_path / "s", 2, SEED, SIZE, cue)
    record = json.loads((tmp_path / "s" / "sample.json").read_text("utf-8"))
    assert record["cue"] == {"class_id": 1, "probability": 1.0, "elsewhere": 0.0}
    marked = render_scene(SEED, 1, SIZE, cue)
    with Image.open(tmp_path / "s" / "images" / "truck" / "truck_00001.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - marked.image).mean() < 8


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear", "utf-8")
    with pytest.raises(UserError, match="holds files that are no sample"):
        write_sample(tmp_path, 2)
    assert contents(tmp_path) == {"letter.txt": b"dear"}


@pytest.mark.parametrize(("n", "size"), [(0, 64), (4, 16)])
def test_a_sample_of_nothing_is_refused(tmp_path: Path, n: int, size: int) -> None:
    with pytest.raises(UserError, match=f"a sample of {n} images of {size} pixels"):
        write_sample(tmp_path / "s", n, size=size)
