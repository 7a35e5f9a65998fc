"""What a dataset's folders and files mean, and what in them is none of its pictures."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipeline.errors import UserError
from pipeline.images import Dataset, list_dataset
from pipeline.images.layout import Labels, Place, read_layout

RNG = np.random.default_rng(0)


def photograph(path: Path, side: int = 48) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (side, side, 3), np.uint8)).save(path)


def mask(path: Path, *, smooth: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values: NDArray[np.uint8] = np.zeros((48, 48), np.uint8)
    values[10:30, 12:40] = 255
    drawn = Image.fromarray(values)
    (drawn.filter(ImageFilter.GaussianBlur(1)) if smooth else drawn).save(path)


def labels_of(found: Dataset) -> dict[str, str | None]:
    return {each.path: each.label for each in found.images}


@pytest.mark.parametrize(
    ("paths", "labels", "expected"),
    [
        (["cat/1.jpg", "dog/2.jpg"], "auto", [("cat", None), ("dog", None)]),
        (["1.jpg", "cat/2.jpg"], "auto", [(None, None), ("cat", None)]),
        (["cat/tabby/1.jpg"], "auto", [("cat", None)]),
        (["cat/tabby/1.jpg"], "parent", [("tabby", None)]),
        (["cat/tabby/1.jpg"], "none", [(None, None)]),
        (["train/cat/1.jpg", "val/dog/2.jpg"], "auto", [("cat", "train"), ("dog", "val")]),
        (["train/cat/1.jpg", "val/dog/2.jpg"], "top", [("train", None), ("val", None)]),
        (["Train/1.jpg", "Validation/2.jpg"], "auto", [(None, "train"), (None, "val")]),
        (["images/cat/1.jpg", "images/dog/2.jpg"], "auto", [("cat", None), ("dog", None)]),
        (["images/train/cat/1.jpg"], "auto", [("cat", "train")]),
        (["test/images/cat/1.jpg", "train/images/dog/2.jpg"], "auto",
         [("cat", "test"), ("dog", "train")]),
        (["images/1.jpg", "images/2.jpg"], "auto", [(None, None), (None, None)]),
        (["train/1.jpg", "plane/2.jpg"], "auto", [("train", None), ("plane", None)]),  # vehicles
        (["images/1.jpg", "cat/2.jpg"], "auto", [("images", None), ("cat", None)]),
    ],
)  # fmt: skip
def test_folders_are_labels_splits_or_nothing(
    paths: list[str], labels: Labels, expected: list[tuple[str | None, str | None]]
) -> None:
    assert read_layout(paths, labels) == [Place(*each) for each in expected]


def test_what_was_found_is_said_and_one_split_can_be_taken(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "val/cat/3.png"):
        photograph(tmp_path / name)
    found = list_dataset(tmp_path)
    assert found.describe() == "3 images; 2 labels: cat, dog; splits: train, val"
    assert labels_of(list_dataset(tmp_path, split="val")) == {"val/cat/3.png": "cat"}
    assert labels_of(list_dataset(tmp_path, split="validation")) == {"val/cat/3.png": "cat"}
    with pytest.raises(UserError, match="no image belongs to it; there are train, val"):
        list_dataset(tmp_path, split="test")
    with pytest.raises(UserError, match="nothing says which images do"):
        list_dataset(tmp_path / "train", split="test")
    assert set(labels_of(list_dataset(tmp_path, labels="none")).values()) == {None}


def test_what_programs_leave_behind_is_no_image(tmp_path: Path) -> None:
    photograph(tmp_path / "cat" / "1.png")
    for name in (
        ".ipynb_checkpoints/1-checkpoint.png", "@eaDir/1.png", "cat/.thumbnails/1.png",
        ".Trash-1000/files/1.png", "__MACOSX/cat/1.png", "cat/._1.png", ".hidden.png",
    ):  # fmt: skip
        photograph(tmp_path / name)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "read.me").write_text("x")
    for name in ("a.psd", "b.psd", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "LICENSE").write_text("words")
    found = list_dataset(tmp_path)
    assert labels_of(found) == {"cat/1.png": "cat"}
    (said,) = found.remarks
    assert said.startswith("passed over: 5 folders that programs leave behind, 3 files that prog")
    for words in ("2 ending in .psd", "1 ending in .txt", "1 without an ending"):
        assert words in said
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "x.psd").write_bytes(b"x")
    with pytest.raises(UserError, match=r"holds no image; .*; there are files 1 ending in \.psd"):
        list_dataset(empty)


def test_photographs_of_telephones_without_their_decoder_are_named(tmp_path: Path) -> None:
    photograph(tmp_path / "1.png")
    (tmp_path / "2.heic").write_bytes(b"x")
    code = (
        "import sys; sys.modules['pillow_heif'] = None\n"
        "from pipeline.images import list_dataset\n"
        "print(*list_dataset(sys.argv[1]).remarks)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout
    assert "passed over: 1 ending in .heic; ending in .heic: read with pip install" in said


def test_images_without_an_ending_are_images(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20)).save(buffer, "PNG")
    (tmp_path / "0a1b2c").write_bytes(buffer.getvalue())
    (tmp_path / "README").write_text("no image")
    assert [each.path for each in list_dataset(tmp_path).images] == ["0a1b2c"]


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("where", ["masks/{}.png", "img/{}_mask.png", "SegmentationClass/{}.png"])
def test_masks_are_ground_truth_and_no_images(where: str, smooth: bool, tmp_path: Path) -> None:
    for index in range(12):
        photograph(tmp_path / "img" / f"{index}.png")
        mask(tmp_path / where.format(index), smooth=smooth)
    found = list_dataset(tmp_path)
    assert [each.path for each in found.images] == sorted(f"img/{i}.png" for i in range(12))
    (said,) = found.remarks
    folder = where.partition("/")[0]
    assert said.startswith(f"12 masks of other images, in {folder}, are passed over")
    assert f"masks='{tmp_path.resolve() / folder}'" in said


def test_photographs_in_folders_called_masks_are_images(tmp_path: Path) -> None:
    """People who wear masks, and who do not: the names of files are alike, too."""
    for index in range(12):
        photograph(tmp_path / "mask" / f"{index}.png")
        photograph(tmp_path / "no_mask" / f"{index}.png")
    assert set(labels_of(list_dataset(tmp_path)).values()) == {"mask", "no_mask"}
    (tmp_path / "alone").mkdir()
    mask(tmp_path / "alone" / "masks" / "1.png")  # of no image here
    assert len(list_dataset(tmp_path / "alone").images) == 1


@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "metadata.jsonl", "labels.parquet"])
def test_labels_beside_images_are_taken_and_said(name: str, tmp_path: Path) -> None:
    for image in ("1.png", "deep/2.png", "deep/3.png"):
        photograph(tmp_path / image)
    rows = pd.DataFrame({"file_name": ["1.png", "./deep/2.png"], "label": ["cat", "dog "]})
    if name.endswith("csv"):
        rows.to_csv(tmp_path / name, index=False)
    elif name.endswith("jsonl"):
        rows.to_json(tmp_path / name, orient="records", lines=True)
    else:
        rows.to_parquet(tmp_path / name)
    found = list_dataset(tmp_path)
    assert labels_of(found) == {"1.png": "cat", "deep/2.png": "dog", "deep/3.png": None}
    assert f"labels are those of {name}" in found.remarks
    assert found.describe() == "3 images; 2 labels: cat, dog; 1 without a label"
    assert labels_of(list_dataset(tmp_path, labels="top"))["deep/2.png"] == "deep"
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"there is none of labels\.csv"):
        list_dataset(tmp_path, labels="file")


def test_a_table_says_one_image_once_whatever_it_calls_it(tmp_path: Path) -> None:
    for name in ("0.png", "sub/1.png", "e\u0301.png", "sp ace .png"):
        photograph(tmp_path / name)
    rows = [
        ("path", "label"), ("0.png", "cat"), ("./0.png", "cat "), (str(tmp_path / "0.png"), " cat"),
        ("sub\\1.png", "caf\u00e9"), ("sub/../sub/1.png", "cafe\u0301"), ("\u00e9.png", "x"),
        ("sp ace .png", ""),
    ]  # fmt: skip
    (tmp_path / "list.csv").write_text("\n".join(f"{path},{label}" for path, label in rows))
    found = labels_of(list_dataset(tmp_path / "list.csv"))
    assert found == {
        "0.png": "cat", "sub/1.png": "café", "e\u0301.png": "x", "sp ace .png": None,
    }  # fmt: skip
    assert unicodedata.normalize("NFC", str(found["sub/1.png"])) == found["sub/1.png"]
    (tmp_path / "list.csv").write_text("path,label\n0.png,cat\n./0.png,dog\n")
    with pytest.raises(UserError, match=r"gives 0\.png two labels, 'cat' and 'dog'; keep one"):
        list_dataset(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "filename;class;split\n0.png;cat;val\n"),
        ("list.csv", "File_Name\tcategory\tsubset\n0.png\tcat\tval\n"),
        ("list.tsv", "image_path\tlabel\tsplit\n0.png\tcat\tval\n"),
        ("list.jsonl", '\n{"image": "0.png", "class": "cat", "split": "val"}\n'),
    ],
)
def test_tables_come_in_many_forms(name: str, text: str, tmp_path: Path) -> None:
    photograph(tmp_path / "0.png")
    (tmp_path / name).write_text(text)
    found = list_dataset(tmp_path / name)
    assert labels_of(found) == {"0.png": "cat"}
    assert found.images[0].split == "val"
    assert len(found.remarks) == 1 and found.remarks[0].startswith("its columns are taken: ")


def test_whole_numbers_stay_whole_where_one_is_missing(tmp_path: Path) -> None:
    for index in range(3):
        photograph(tmp_path / f"{index}.png")
    rows = pd.DataFrame({"path": ["0.png", "1.png", "2.png"], "label": [3, None, 10]})
    rows.to_csv(tmp_path / "list.csv", index=False)
    rows.to_parquet(tmp_path / "list.parquet")
    rows.to_json(tmp_path / "list.jsonl", orient="records", lines=True)
    for name in ("list.csv", "list.parquet", "list.jsonl"):
        found = labels_of(list_dataset(tmp_path / name))
        assert found == {"0.png": "3", "1.png": None, "2.png": "10"}
    (tmp_path / "list.csv").write_text("path,label\n0.png,1.0\n1.png,1.5\n")
    assert labels_of(list_dataset(tmp_path / "list.csv")) == {"0.png": "1.0", "1.png": "1.5"}
    (tmp_path / "list.csv").write_text("path;label\n0.png;0,0\n1.png;\n2.png;3,0\n")
    found = labels_of(list_dataset(tmp_path / "list.csv"))
    assert found == {"0.png": "0", "1.png": None, "2.png": "3"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1, 2]", "line 2: no object but"),
        ("{", "line 2: Expecting property name"),
        ("[" * 100_000, "line 2: nested too deep"),
        (json.dumps({"path": ["a"]}), "its column 'path' holds .'a'., no text"),
    ],
)
def test_lines_that_are_none_are_refused_with_their_number(
    line: str, words: str, tmp_path: Path
) -> None:
    photograph(tmp_path / "0.png")
    (tmp_path / "list.jsonl").write_text('{"path": "0.png"}\n' + line + "\n")
    with pytest.raises(UserError, match=words):
        list_dataset(tmp_path / "list.jsonl")


def test_columns_that_may_be_paths_are_offered(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("picture,label\na.png,x\n")
    with pytest.raises(UserError, match=r"it has picture, label\. A column of paths is"):
        list_dataset(tmp_path / "list.csv")
