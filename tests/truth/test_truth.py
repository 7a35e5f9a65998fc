"""Ground truth as people have it is read for what it is, or refused with what it looks like."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from scipy.io import loadmat, savemat

from pipeline.errors import UserError
from pipeline.truth import Known, Truth, UnfitError, find_truth
from pipeline.truth.coco import _unpacked
from pipeline.truth.masks import read_mask
from pipeline.truth.matlab import read_matlab
from pipeline.truth.names import match

WIDTH, HEIGHT = 96, 64


def blob(x: int = 20) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.asarray((columns - x) ** 2 + (rows - 30) ** 2 < 15**2)


BOTH = blob(20) | blob(70)  # two objects
EDGE = np.asarray(Image.fromarray(BOTH).filter(ImageFilter.MaxFilter(5))) & ~BOTH


def known_of(folder: Path, *paths: str, orientation: int = 1) -> Known:
    return find_truth(folder).of(dict.fromkeys(paths, (WIDTH, HEIGHT)), lambda _: orientation)


def truth_of(where: Path, path: str = "a.jpg", orientation: int = 1) -> Truth:
    known = known_of(where, path, orientation=orientation)
    return known.read(path, (WIDTH, HEIGHT), lambda _: orientation)


def save(values: NDArray[Any], path: Path, **options: Any) -> None:
    Image.fromarray(values).save(path, **options)


def smooth(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw a mask as graphics programs do: with grey edges."""
    large = Image.fromarray(mask.astype(np.uint8) * 255).resize((4 * WIDTH, 4 * HEIGHT))
    return np.asarray(large.filter(ImageFilter.GaussianBlur(4)).resize((WIDTH, HEIGHT)))


def write(kind: str, where: Path) -> None:
    labels = BOTH.astype(np.uint8)
    if kind == "0 and 1":
        save(labels, where / "a.png")
    elif kind == "0 and 255":
        save(labels * 255, where / "a.png")
    elif kind == "one bit":
        save(BOTH, where / "a.png")
    elif kind == "16 bits":
        save(labels.astype(np.uint16) * 40_000, where / "a.png")
    elif kind == "grey in colours":
        save(np.stack([labels * 255] * 3, -1), where / "a.png")
    elif kind == "palette":
        picture = Image.fromarray(labels * 7)
        picture.putpalette([each for i in range(256) for each in (i, 255 - i, i // 2)])
        picture.save(where / "a.png")
    elif kind == "anti-aliased":
        save(smooth(BOTH), where / "a.png")
    elif kind == "JPEG":
        save(labels * 255, where / "a.jpg")
    elif kind == "colours":
        save(labels[..., None] * np.array([200, 30, 10], np.uint8), where / "a.png")
    elif kind == "cut out":
        colours = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        save(np.dstack([colours, labels * 255]), where / "a.png")
    elif kind == "numpy":
        np.save(where / "a.npy", BOTH)
    elif kind == "matlab":
        savemat(where / "a.mat", {"mask": labels, "name": "a"})
    else:
        save(np.where(EDGE, 255, labels * 7).astype(np.uint8), where / "a.png")


KINDS = (
    "0 and 1", "0 and 255", "one bit", "16 bits", "grey in colours", "palette", "anti-aliased",
    "JPEG", "colours", "cut out", "numpy", "matlab", "void",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_what_was_painted(kind: str, tmp_path: Path) -> None:
    write(kind, tmp_path)
    truth = truth_of(tmp_path)
    assert truth.labels is not None
    void = EDGE if kind == "void" else np.zeros_like(EDGE)
    assert (truth.void is None) == (kind != "void")
    if truth.void is not None:
        assert (truth.void == void).all()
    wrong = ((truth.labels > 0) != BOTH) & ~void
    assert wrong.mean() <= (0.03 if kind in ("anti-aliased", "JPEG") else 0)
    rows, columns = np.nonzero(blob(70))
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert len(truth.boxes) == 2  # each object has its box
    assert np.allclose(truth.boxes[1], box, atol=1 if kind in ("anti-aliased", "JPEG") else 0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("void", "255 in masks is void"),
        ("anti-aliased", "grey levels between black and white along outlines"),
        ("JPEG", "by their grey levels: object from 128"),
        ("cut out", "by their transparency: object from 128"),
    ],
)
def test_how_masks_are_read_is_said(kind: str, words: str, tmp_path: Path) -> None:
    write(kind, tmp_path)
    (said,) = known_of(tmp_path, "a.jpg").said
    assert re.search(words, said)


def test_one_mask_is_read_as_all_are(tmp_path: Path) -> None:
    """A mask of 0 and 255 alone is void where the others say that 255 is."""
    for name, labels in (("a", BOTH * 3), ("b", BOTH * 0)):
        save(np.where(EDGE, 255, labels).astype(np.uint8), tmp_path / f"{name}.png")
    known = known_of(tmp_path, "a.jpg", "b.jpg")
    truth = known.read("b.jpg", (WIDTH, HEIGHT), lambda _: 1)
    assert truth.labels is not None and not truth.labels.any()
    assert truth.void is not None and (truth.void == EDGE).all()


def test_masks_of_several_kinds_are_each_read_as_they_are(tmp_path: Path) -> None:
    """A grey JPEG among PNG; colours of which one mask has none; one that is opaque everywhere."""
    save(BOTH, tmp_path / "a.png")
    save(BOTH.astype(np.uint8) * 255, tmp_path / "b.jpg")
    known = known_of(tmp_path, "a.jpg", "b.jpg")
    for name in ("a.jpg", "b.jpg"):
        truth = known.read(name, (WIDTH, HEIGHT), lambda _: 1)
        assert truth.labels is not None and ((truth.labels > 0) != BOTH).mean() < 0.03
    colours = np.where(BOTH[..., None], np.array([200, 30, 10]), 0).astype(np.uint8)
    (tmp_path / "two").mkdir()
    save(colours, tmp_path / "two" / "a.png")
    save(colours * 0, tmp_path / "two" / "b.png")
    save(colours * 0 + 200, tmp_path / "two" / "c.png")
    known = known_of(tmp_path / "two", "a.jpg", "b.jpg", "c.jpg")
    assert {*known.reading.of.values()} == {"colours"}
    found = [known.read(f"{name}.jpg", (WIDTH, HEIGHT), lambda _: 1).labels for name in "abc"]
    assert [sorted(set(each.ravel().tolist())) for each in found if each is not None] == [
        [0, 0xC81E0A], [0], [0xC8C8C8],
    ]  # fmt: skip
    (tmp_path / "three").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    for name, opacity in (("a", BOTH), ("b", BOTH | True)):
        save(np.dstack([noise, opacity.astype(np.uint8) * 255]), tmp_path / "three" / f"{name}.png")
    known = known_of(tmp_path / "three", "a.jpg", "b.jpg")
    for name, expected in (("a", BOTH), ("b", BOTH | True)):
        truth = known.read(f"{name}.jpg", (WIDTH, HEIGHT), lambda _: 1)
        assert truth.labels is not None and ((truth.labels > 0) == expected).all()


def test_many_labels_of_one_mask_are_labels(tmp_path: Path) -> None:
    areas = np.add.outer(np.arange(HEIGHT) // 8 * 12, np.arange(WIDTH) // 8) + 1
    assert len(np.unique(areas)) == 96
    save(areas.astype(np.uint8), tmp_path / "a.png")
    assert known_of(tmp_path, "a.jpg").reading.of == {"labels": "labels"}


def test_what_is_no_mask_is_refused_with_what_it_looks_like(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, WIDTH))
    save(np.ascontiguousarray(ramp), tmp_path / "a.png")
    with pytest.raises(UserError, match="look like grey levels, not labels"):
        known_of(tmp_path, "a.jpg")
    areas = np.add.outer(np.arange(HEIGHT) // 8 * 12, np.arange(WIDTH) // 8).astype(np.uint8)
    areas[:, 40:43] = 255  # ninety labels, with void between them
    save(areas, tmp_path / "a.png")
    assert known_of(tmp_path, "a.jpg").reading.of == {"labels": "void"}
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    save(noise, tmp_path / "a.png")
    with pytest.raises(UserError, match=r"masks have \d+ colours in all, as pictures have"):
        known_of(tmp_path, "a.jpg")
    save(noise, tmp_path / "b.jpg")
    save(BOTH, tmp_path / "a.png")
    known = known_of(tmp_path, "a.jpg", "b.jpg")
    with pytest.raises(UnfitError, match="a JPEG with colours"):
        known.read("b.jpg", (WIDTH, HEIGHT), lambda _: 1)
    np.save(tmp_path / "c.npy", BOTH * 0.5)
    savemat(tmp_path / "d.mat", {"x": BOTH, "y": BOTH})
    known = known_of(tmp_path, "a.jpg", "c.jpg", "d.jpg")
    for name, words in (
        ("c.jpg", "fractions, not labels"),
        ("d.jpg", "2 arrays of two axes: x, y"),
    ):
        with pytest.raises(UnfitError, match=words):
            known.read(name, (WIDTH, HEIGHT), lambda _: 1)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?"])
def test_matlab_is_read_as_scipy_reads_it(dtype: str, compressed: bool, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 100, (5, 7)).astype(dtype)
    others = {"text": "a", "cell": np.array([[1, "b"]], object), "z": 1j * np.ones((3, 3))}
    path = tmp_path / "a.mat"
    savemat(path, {"x": values, "turned": values.T, **others}, do_compression=compressed)
    found, reference = read_matlab(path), loadmat(path)
    assert sorted(found) == ["turned", "x"]
    for name, read in found.items():
        np.testing.assert_array_equal(read, reference[name])
        assert read.dtype == reference[name].dtype


def test_several_labels_stay_apart(tmp_path: Path) -> None:
    labels = blob(20) * 3 + blob(70) * 20
    for name, values in (("a", labels), ("b", labels[..., None] * np.array([9, 1, 0]))):
        save(values.astype(np.uint8), tmp_path / f"{name}.png")
        truth = truth_of(tmp_path, f"{name}.jpg")
        (tmp_path / f"{name}.png").unlink()
        assert truth.labels is not None
        found = truth.labels[blob(20)], truth.labels[blob(70)], truth.labels[~BOTH]
        assert [len(np.unique(each)) for each in found] == [1, 1, 1]
        assert found[0][0] != found[1][0] and found[2][0] == 0


def test_a_mask_may_lie_as_its_image_is_stored(tmp_path: Path) -> None:
    stored = Image.fromarray(BOTH).transpose(Image.Transpose.ROTATE_90)  # 6: shown turned right
    stored.save(tmp_path / "a.png")
    truth = truth_of(tmp_path, orientation=6)
    assert truth.labels is not None and ((truth.labels > 0) == BOTH).all()
    with pytest.raises(UnfitError, match="it is 64 × 96 pixels, its image is 96 × 64"):
        truth_of(tmp_path, orientation=1)


def test_masks_of_another_size_are_refused_one_by_one(tmp_path: Path) -> None:
    save(BOTH, tmp_path / "a.png")
    save(BOTH[::2, ::2], tmp_path / "b.png")
    Image.new("1", (9_000, 9_000)).save(tmp_path / "c.png")
    known = known_of(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    assert known.read("a.jpg", (WIDTH, HEIGHT), lambda _: 1).labels is not None
    for name, size in (("b.jpg", "48 × 32"), ("c.jpg", "9000 × 9000")):
        with pytest.raises(UnfitError, match=f"it is {size} pixels, its image is 96 × 64"):
            known.read(name, (WIDTH, HEIGHT), lambda _: 1)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_a_damaged_mask_is_one_sentence(tmp_path: Path, kind: str) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.eye(40, dtype=np.uint8) * 200).save(whole, kind)
    data, rng = whole.getvalue(), np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(data[: int(rng.integers(1, len(data) + 1))])
        for place in rng.integers(0, len(bad), 3):
            bad[place] = int(rng.integers(256))
        (tmp_path / "mask").write_bytes(bad)
        with contextlib.suppress(UnfitError):
            _, values = read_mask(tmp_path / "mask", (40, 40), lambda: 1)
            assert values.shape[:2] == (40, 40)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/1.png", "a/1.jpg"),
        ("a/1.png", "a/1.png"),
        ("1.jpg.png", "1.jpg"),
        ("1.png.png", "1.png"),
        ("1_mask.png", "1.jpg"),
        ("1-GT.bmp", "1.webp"),
        ("2007_01_segmentation.png", "2007_01.jpg"),
        ("masks/1.png", "images/1.jpg"),  # folders differ
        ("1.mat", "images/1.jpg"),
        ("scene/1.0.png", "scene/1.0.jpg"),
    ],
)
def test_names_go_with_images(name: str, path: str) -> None:
    assert match([name], [path]).found == {path: name}


def test_one_mask_is_of_one_image_and_of_the_surest() -> None:
    found = match(["0.png"], ["0.jpg", "0.png"])
    assert found.found == {"0.png": "0.png"}
    assert found.unclear == ()
    found = match(["0.tif"], ["0.jpg", "0.png"])
    assert found.found == {}
    assert found.unclear == ("0.tif may be of 0.jpg or of 0.png",)
    found = match(["0.png", "0.gif"], ["0.jpg"])
    assert found.found == {}
    assert found.unclear == ("0.jpg has 0.gif and 0.png",)
    found = match(["0.png", "0_mask.png"], ["0.jpg"])  # the image's own name is surer
    assert found.found == {"0.jpg": "0.png"}
    found = match(["x/0.png", "y/0.png"], ["a/0.jpg", "b/0.jpg"])  # names alone say nothing here
    assert found.found == {}
    found = match(["x/0.png", "x/1.png"], ["a/0.jpg", "b/1.jpg"])
    assert found.found == {"a/0.jpg": "x/0.png", "b/1.jpg": "x/1.png"}
    assert found.by_file_name


BOX = (5.0, 10.0, 36.0, 46.0)


def boxes_of(text: str, where: Path, *paths: str) -> dict[str, Any]:
    table = where / "boxes.csv"
    table.write_text(text)
    paths = paths or ("a.jpg",)
    known = known_of(table, *paths)
    return {path: known.read(path, (WIDTH, HEIGHT), lambda _: 1).boxes for path in paths}


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        ("path,x0,y0,x1,y1", "a.jpg,5,10,36,46"),
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,96,64,cat,5,10,36,46"),
        ("file_name,x,y,width,height", "a.jpg,5,10,31,36"),
        ("Image,X,Y,W,H", "a.jpg,5,10,31,36"),
        ("path,x0,y0,x1,y1", f"a.jpg,{5 / 96},{10 / 64},{36 / 96},{46 / 64}"),
        ("path,x,y,width,height", f"a.jpg,{5 / 96},{10 / 64},{31 / 96},{36 / 64}"),
        ("ImageID,XMin,XMax,YMin,YMax", f"a,{5 / 96},{36 / 96},{10 / 64},{46 / 64}"),
        ("path,x0,y0,x1,y1", "a.jpg,36,46,5,10"),  # corners exchanged
        ("path,x0,y0,x1,y1", "a.jpg,5,46,36,10"),
        ("path,x1,y1,x2,y2", "sub/a.jpg,5.0,10.0,36.0,46.0"),
    ],
)
def test_boxes_come_in_many_forms(columns: str, row: str, tmp_path: Path) -> None:
    (box,) = boxes_of(f"{columns}\n{row}\n", tmp_path)["a.jpg"]
    assert box == pytest.approx(BOX)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("a.jpg,5,10,31,36\na.jpg,40,10,31,36", "x1 is less than x0, in 1 of 2 rows: if these are"),
        ("a.jpg,5,2,5,8", r"line 2: a\.jpg, 5, 2, 5, 8 is no box"),
        ("a.jpg,1,,3,4", r"line 2: .* is no box"),
        ("a.jpg,1,2,inf,4", r"line 2: .* is no box"),
        (",1,2,3,4", r"line 2: .* is no box"),
        (".,1,2,3,4", r"line 2: .* is no box"),
        ("a.jpg,1,2,3,four", "could not convert"),
    ],
)
def test_what_is_no_box_is_refused_with_its_line(tmp_path: Path, rows: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        boxes_of(f"path,x0,y0,x1,y1\n{rows}\n", tmp_path)


def test_boxes_outside_their_image_are_refused_and_cut_where_they_reach_beyond(
    tmp_path: Path,
) -> None:
    table = "path,x0,y0,x1,y1\na.jpg,90,-2,120,30\nb.jpg,200,5,220,9\n"
    (tmp_path / "boxes.csv").write_text(table)
    known = known_of(tmp_path / "boxes.csv", "a.jpg", "b.jpg")
    assert known.read("a.jpg", (WIDTH, HEIGHT), lambda _: 1).boxes == [(90, 0, 96, 30)]
    with pytest.raises(UnfitError, match="200, 5, 220, 9 lies outside its 96 × 64 pixels"):
        known.read("b.jpg", (WIDTH, HEIGHT), lambda _: 1)


def test_boxes_are_of_the_path_they_name_before_that_without_its_ending(tmp_path: Path) -> None:
    rows = ["a.jpg,0,0,1,1", "a.png,0,0,2,2", "b,0,0,3,3", "d.jpg,0,0,4,4", "e.01,0,0,5,5"]
    images = ["a.png", "a.jpg", "b.gif", "d.jpg", "e.01.png"]
    found = boxes_of("\n".join(["path,x0,y0,x1,y1", *rows]), tmp_path, *images)
    assert {path: int(boxes[0][2]) for path, boxes in found.items()} == {
        "a.png": 2, "a.jpg": 1, "b.gif": 3, "d.jpg": 4, "e.01.png": 5,
    }  # fmt: skip


def test_what_is_neither_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist: a folder of masks, a table with path"):
        find_truth(tmp_path / "missing")
    (tmp_path / "boxes.csv").write_text("path,x0,y0,x1\na.jpg,1,2,3\n")
    with pytest.raises(UserError, match="neither a folder of masks nor a table with path"):
        find_truth(tmp_path / "boxes.csv")
    (tmp_path / "coco.json").write_text('{"images": []}')
    with pytest.raises(UserError, match="is no file of COCO"):
        find_truth(tmp_path / "coco.json")


def packed(runs: list[int]) -> str:
    """COCO's compressed counts, as its documents describe them."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            group, value = value & 31, value >> 5
            is_last = value == (-1 if group & 16 else 0)
            text += chr(group + (0 if is_last else 32) + 48)
            if is_last:
                break
    return text


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=30))
def test_compressed_counts_come_back(runs: list[int]) -> None:
    assert _unpacked(packed(runs)) == runs


def runs_of(mask: NDArray[np.bool_]) -> list[int]:
    flat = np.append(mask.T.ravel(), 2).astype(int)
    starts = np.flatnonzero(np.diff(np.concatenate([[0], flat])))
    return [int(each) for each in np.diff(np.concatenate([[0], starts]))]


def coco(where: Path, *objects: dict[str, Any]) -> Path:
    says = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "annotations": [
            {"id": index, "image_id": 7, "category_id": 1, **each}
            for index, each in enumerate(objects)
        ],
    }
    (where / "coco.json").write_text(json.dumps(says))
    return where / "coco.json"


@pytest.mark.parametrize("is_packed", [False, True])
def test_cocos_objects_are_drawn(is_packed: bool, tmp_path: Path) -> None:
    objects = []
    for mask in (blob(20), blob(70)):
        runs = runs_of(mask)
        code = {"size": [HEIGHT, WIDTH], "counts": packed(runs) if is_packed else runs}
        rows, columns = np.nonzero(mask)
        x, y = int(columns.min()), int(rows.min())
        box = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
        objects.append({"segmentation": code, "bbox": box})
    crowd = {"size": [HEIGHT, WIDTH], "counts": runs_of(EDGE)}
    truth = truth_of(coco(tmp_path, *objects, {"segmentation": crowd, "iscrowd": 1}))
    assert truth.labels is not None and ((truth.labels > 0) == BOTH).all()
    assert truth.void is not None and (truth.void == EDGE).all()
    assert truth.boxes == [(6, 16, 35, 45), (56, 16, 85, 45)]


def test_cocos_polygons_and_boxes_alone(tmp_path: Path) -> None:
    square = [10, 10, 30, 10, 30, 40, 10, 40]
    truth = truth_of(coco(tmp_path, {"segmentation": [square], "bbox": [10, 10, 20, 30]}))
    assert truth.labels is not None
    assert truth.labels[12:38, 12:28].all()
    assert truth.labels.astype(bool).sum() <= 22 * 32
    truth = truth_of(coco(tmp_path, {"bbox": [10.5, 10, 20, 30]}))
    assert truth.labels is None
    assert truth.boxes == [(10.5, 10, 30.5, 40)]


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [HEIGHT, WIDTH], "counts": [10**12]},
        {"size": [HEIGHT, WIDTH], "counts": [-5, 10]},
        {"size": [9, 9], "counts": [81]},
        {"size": [HEIGHT, WIDTH], "counts": "o" * 10_000},
        {"size": [HEIGHT, WIDTH], "counts": "\u4e16"},
        [[1, 2, 3]],
        [["x", 2, 3, 4, 5, 6]],
        "text",
        7,
    ],
)
def test_hostile_codes_are_one_sentence(segmentation: Any, tmp_path: Path) -> None:
    where = coco(tmp_path, {"segmentation": segmentation, "bbox": [0, 0, 5, 5]})
    with pytest.raises(UnfitError, match="an object of it cannot be drawn"):
        truth_of(where)
