"""COCO's JSON as a dataset: its images by name, its categories as labels, its objects as truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import evaluate
from pipeline.errors import UserError
from pipeline.images import list_dataset
from pipeline.jobs.discover import discover
from pipeline.sample import write_sample


def says(images: list[dict[str, Any]], objects: list[dict[str, Any]]) -> dict[str, Any]:
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog;puppy"}]
    return {"images": images, "annotations": objects, "categories": categories, "info": {}}


def pictures(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(path)


def write(where: Path, contents: object) -> Path:
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(json.dumps(contents))
    return where


@pytest.mark.parametrize(
    ("annotations", "images"),
    [("x.json", "."), ("x.json", "images"), ("annotations/x.json", "."),
     ("annotations/x.json", "val2017"), ("annotations/x.json", "images/val")],
)  # fmt: skip
def test_images_are_found_near_the_file(annotations: str, images: str, tmp_path: Path) -> None:
    pictures(tmp_path / images, "1.png", "2.png", "3.png")
    objects: list[dict[str, Any]] = [
        {"id": 1, "image_id": "a", "category_id": 3},
        {"id": 2, "image_id": "a", "category_id": 8},
        {"id": 3, "image_id": "a", "category_id": 3},
        {"id": 4, "image_id": 7, "category_id": 8},
        {"id": 5, "image_id": 7, "category_id": 99},
    ]
    names = {"a": "1.png", 7: "2.png", 8: "3.png", 9: "gone.png"}
    listed = [{"id": number, "file_name": name} for number, name in names.items()]
    found = list_dataset(write(tmp_path / annotations, says(listed, objects)))
    labels = {image.path: image.labels for image in found.images}
    assert labels == {
        "1.png": ("cat", "dog;puppy"), "2.png": ("dog;puppy",), "3.png": (), "gone.png": (),
    }  # fmt: skip
    assert f"5 objects are ground truth: masks='{tmp_path / annotations}'" in found.remarks
    assert found.source.where == str((tmp_path / images).resolve())


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ([], "no list of images"),
        ({"images": [1]}, "its images are no list of objects"),
        ({"images": [{"id": 1}]}, "an image without id or file_name"),
        ({"images": [{"id": [1], "file_name": "a"}]}, "no numbers for id"),
        ({"images": [], "annotations": {"a": 1}}, "its annotations are no list"),
        ({"images": []}, "holds no image"),
        ({"images": [{"id": 1, "file_name": "a.png"}]}, "not near it, such as a.png"),
        (says([{"id": 1, "file_name": "1.png"}], [{"category_id": {}}]), "for category_id"),
    ],
)
def test_what_is_no_such_file_is_refused(contents: object, words: str, tmp_path: Path) -> None:
    pictures(tmp_path, "1.png")
    with pytest.raises(UserError, match=words):
        list_dataset(write(tmp_path / "x.json", contents))


def test_json_that_ends_early_or_is_deep_is_refused(tmp_path: Path) -> None:
    for text in ('{"images": [', "[" * 100_000, ""):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(UserError, match="is no JSON of COCO"):
            list_dataset(tmp_path / "x.json")


def objects_of(folder: Path, images: list[Path]) -> list[dict[str, Any]]:
    """Write the sample's object masks as run-length codes."""
    found = []
    for number, path in enumerate(images):
        mask = (
            np.asarray(Image.open(folder / "objects" / path.parent.name / f"{path.stem}.png")) > 0
        )
        flat = mask.T.ravel()
        ends = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *ends, flat.size]).tolist()
        rows, columns = np.nonzero(mask)
        box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        code = {"size": [*mask.shape], "counts": runs if not flat[0] else [0, *runs]}
        found.append({
            "id": number, "image_id": number, "category_id": 3 + 5 * (number % 2),
            "bbox": box, "segmentation": code, "iscrowd": 0,
        })  # fmt: skip
    return found


@pytest.mark.slow
def test_a_file_of_coco_goes_to_the_atlas_and_is_its_own_truth(tmp_path: Path) -> None:
    write_sample(tmp_path, n_images=24, size=64)
    images = sorted((tmp_path / "images").rglob("*.jpg"))
    named = [
        {"id": n, "file_name": path.relative_to(tmp_path / "images").as_posix(), "width": 64,
         "height": 64}
        for n, path in enumerate(images)
    ]  # fmt: skip
    where = write(tmp_path / "annotations" / "x.json", says(named, objects_of(tmp_path, images)))
    run = discover(
        dataset=str(where), run=str(tmp_path / "run"), model="sample", k="3", image_size="64"
    )
    assert set(run.table("images")["label"]) == {"cat", "dog;puppy"}
    assert set(run.table("concept_labels")["label"]) == {"cat", "dog;puppy"}
    assert (run.folder / "atlas" / "index.html").exists()
    own, named_so = evaluate(run), evaluate(run, where)
    pd.testing.assert_frame_equal(own.images, named_so.images)
    masks = evaluate(run, tmp_path / "objects")  # of which each region is an object to CorLoc
    same = ["path", "j", "precision", "mae"]
    pd.testing.assert_frame_equal(own.images[same], masks.images[same])
    assert len(own.images) == 24
    with pytest.raises(UserError, match="masks is missing"):
        evaluate(
            discover(
                dataset=str(tmp_path / "images"), run=str(tmp_path / "other"), model="sample",
                k="3", image_size="64", limit="8",
            )
        )  # fmt: skip
