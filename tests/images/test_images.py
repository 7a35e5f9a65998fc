"""Images: datasets listed, files decoded or refused, the way to the network's input and back."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from pipeline.errors import UserError
from pipeline.images import (
    DecodeError,
    FolderSource,
    Resize,
    decode,
    find_file,
    fit_to_input,
    list_dataset,
    make_image_id,
    make_record,
    read_image,
    unit_hash,
)
from pipeline.runs import checks


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_folders_are_labels_and_order_is_by_path(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/x/1.JPG", "a/0.jpeg", "notes.txt", "a/.hidden.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = list_dataset(tmp_path)
    assert [(image.path, image.label) for image in found.images] == [
        ("a/0.jpeg", "a"),
        ("a/x/1.JPG", "a"),
        ("b/2.png", "b"),
    ]
    assert found.rejected == ()


def test_image_ids_stay_when_images_are_added(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    before = {image.path: image.image_id for image in list_dataset(tmp_path).images}
    (tmp_path / "A.png").touch()
    after = {image.path: image.image_id for image in list_dataset(tmp_path).images}
    assert before.items() < after.items()
    assert all(0 <= image_id < 2**63 for image_id in after.values())


def test_names_no_one_expects(tmp_path: Path) -> None:
    names = [b"new\nline.png", b"-dash.png", b"quo\"te'.png", b"\xff\xfe.png", b"100%25.png"]
    data = encoded(picture(), "PNG")
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(data)
    found = list_dataset(tmp_path)
    assert len(found.images) == len(names)
    assert "%FF%FE.png" in [image.path for image in found.images]
    for image in found.images:
        image.path.encode("utf-8")
        assert decode(find_file(tmp_path, image.path)).shape == (3, 30, 40)


def test_loops_fifos_and_broken_links_do_not_stop_a_listing(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.png").touch()
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    found = list_dataset(tmp_path)
    assert [image.path for image in found.images] == ["gone.png", "real/a.png"]
    with pytest.raises(DecodeError, match="file unreadable: No such file or directory"):
        read_image(found.source, found.images[0])
    assert {entry.path: entry.reason for entry in found.rejected} == {
        "pipe.png": "not a regular file",
    }


def test_tables_name_images_and_labels(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text('path,label\nx/a.png,"one, two"\nx/b.png,\nx/gone.png,c\nx,d\n')
    (tmp_path / "x").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "x" / name).write_bytes(b"12345")
    found = list_dataset(table)
    seen = [(image.size, image.modified > 10**18) for image in found.images]
    assert seen == [(5, True), (5, True), (0, False)]
    assert {entry.path: entry.reason for entry in found.rejected} == {
        "x": "not a regular file",
    }
    assert [(image.path, image.label) for image in found.images] == [
        ("x/a.png", "one, two"),
        ("x/b.png", None),
        ("x/gone.png", "c"),
    ]
    assert isinstance(found.source, FolderSource)
    assert found.source.root == tmp_path.resolve()


@pytest.mark.parametrize("type_", ["string", "Int64", "category", "plain"])
def test_missing_labels_of_a_table_are_none_and_numbers_stay_whole(
    tmp_path: Path, type_: str
) -> None:
    names = [f"{index}.png" for index in range(3)]
    for name in names:
        (tmp_path / name).write_bytes(b"12345")
    labels = pd.array([7, None, 8], dtype="Int64")
    table = pd.DataFrame({"path": names, "label": labels})
    if type_ == "plain":  # as other writers leave it: whole numbers, and nothing of pandas
        pq.write_table(
            pa.table({"path": names, "label": pa.array([7, None, 8], pa.int64())}),
            tmp_path / "list.parquet",
        )
    else:
        table.astype({"label": type_}).to_parquet(tmp_path / "list.parquet")
    found = list_dataset(tmp_path / "list.parquet")
    assert [image.label for image in found.images] == ["7", None, "8"]


def test_an_image_listed_twice_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A source of somebody else's may list what it likes."""
    (tmp_path / "a.png").write_bytes(b"12345")
    monkeypatch.setattr(FolderSource, "images", lambda self: [make_record("a.png")] * 2)
    with pytest.raises(UserError, match=r"lists the image a\.png more than once"):
        list_dataset(tmp_path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda where: None, "does not exist"),
        (lambda where: where.mkdir(), "holds no image; files ending in"),
        (lambda where: where.write_text("x"), "is neither a folder nor a table"),
    ],
)
def test_datasets_that_cannot_be_used(tmp_path: Path, make: object, sentence: str) -> None:
    make(tmp_path / "data")  # type: ignore[operator]
    with pytest.raises(UserError, match=sentence):
        list_dataset(tmp_path / "data")


def test_a_misspelt_dataset_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    with pytest.raises(UserError, match=r"does not exist; did you mean 'flowers'\?"):
        list_dataset(tmp_path / "flower")


def test_a_table_without_paths_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("picture,label\na.png,x\n")
    with pytest.raises(UserError, match="has no column 'path'; it has picture, label"):
        list_dataset(tmp_path / "list.csv")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_every_format_is_decoded_as_pillow_does(tmp_path: Path, kind: str, mode: str) -> None:
    if kind == "JPEG" and mode == "1":
        pytest.skip("JPEG has no bilevel images")
    data = encoded(picture(64, 48).convert(mode), kind)
    file = tmp_path / "name.png"
    file.write_bytes(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    found = decode(file).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(found - expected).max() <= (2 if kind == "JPEG" else 0)


def test_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(picture(40, 30), "JPEG", exif=exif))
    assert decode(tmp_path / "a.jpg").shape == (3, 40, 30)


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (Image.new("RGBA", (20, 20), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("CMYK", (20, 20), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("I;16", (20, 20), 65535), (255, 255, 255)),
        (Image.new("L", (20, 20), 7), (7, 7, 7)),
    ],
)
def test_every_mode_becomes_rgb(
    tmp_path: Path, image: Image.Image, value: tuple[int, int, int]
) -> None:
    (tmp_path / "a").write_bytes(encoded(image, "TIFF"))
    assert tuple(decode(tmp_path / "a")[:, 0, 0].tolist()) == value


def test_pictures_of_cameras_that_hold_several_are_read(tmp_path: Path) -> None:
    first, second = picture(40, 30), picture(40, 30, seed=1)
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    (tmp_path / "a.jpg").write_bytes(data)
    with Image.open(tmp_path / "a.jpg") as opened:
        assert opened.format == "MPO"
    alone = np.asarray(Image.open(io.BytesIO(encoded(first, "JPEG"))).convert("RGB"))
    assert np.array_equal(decode(tmp_path / "a.jpg").permute(1, 2, 0).numpy(), alone)


JPEG = encoded(picture(200, 150), "JPEG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>not an image</html>", "not an image"),
        (JPEG[: len(JPEG) // 2], "cannot be decoded"),
        (JPEG[:40], "not an image|cannot be decoded"),
        (encoded(picture(), "EPS"), "not an image"),  # Pillow starts Ghostscript for it
        (encoded(picture(), "TGA"), "not an image"),
        (encoded(picture(1, 1), "PNG"), "too small: 1 × 1 pixels"),
        (encoded(picture(10, 20000), "PNG"), "too long: 10 × 20000 pixels"),
        (encoded(Image.new("1", (40000, 40000)), "PNG"), "decompression bomb"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(DecodeError, match=reason):
        decode(tmp_path / "a.jpg")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="file unreadable: No such file"):
        decode(tmp_path / "a.jpg")


@given(
    st.integers(8, 400),
    st.integers(8, 400),
    st.sampled_from(["squash", "crop", "pad"]),
    st.sampled_from([(64, 64), (48, 80), (100, 36)]),
    st.data(),
)
def test_the_way_to_the_input_and_back(
    width: int, height: int, resize: Resize, size: tuple[int, int], data: st.DataObject
) -> None:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    fitted, affine = fit_to_input(image, size, resize)
    assert fitted.shape == (3, *size)
    point = np.array([[data.draw(st.floats(0, width)), data.draw(st.floats(0, height))]])
    assert affine.to_image(affine.to_input(point)) == pytest.approx(point, abs=1e-6)
    corners = affine.to_input(np.array([[0.0, 0.0], [width, height]]))
    far = np.array(size[::-1])
    if resize == "squash":
        assert corners == pytest.approx(np.array([[0, 0], far]))
    elif resize == "pad":
        assert corners.min() >= -1e-9
        assert (corners[1] <= far + 1e-9).all()
    else:
        assert (corners[0] <= 1e-9).all()
        assert (corners[1] >= far - 1e-9).all()
    if size == (64, 64):
        square, same = fit_to_input(image, 64, resize)
        assert torch.equal(square, fitted)
        assert same == affine


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(112, 112), (96, 144), (130, 70)])
def test_a_mark_is_found_where_the_map_says(resize: Resize, size: tuple[int, int]) -> None:
    image = torch.zeros(3, 120, 200, dtype=torch.uint8)
    image[:, 50:62, 90:106] = 255
    fitted, affine = fit_to_input(image, size, resize)
    light = fitted[0].double()
    light = light * (light > 130)
    ys, xs = torch.meshgrid(*(torch.arange(n) + 0.5 for n in size), indexing="ij")
    centre = [float((light * axis).sum() / light.sum()) for axis in (xs, ys)]
    assert affine.to_input(np.array([98.0, 56.0])) == pytest.approx(centre, abs=0.6)


def test_crop_is_the_preset_of_torchvision() -> None:
    image = torch.from_numpy(np.array(picture(300, 200))).permute(2, 0, 1).contiguous()
    preset = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    assert torch.equal(fit_to_input(image, 224, "crop")[0], preset(image))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
def test_hashes_are_in_the_unit_interval_and_differ_by_purpose(image_id: int, seed: int) -> None:
    value = unit_hash(image_id, seed, "split")
    assert 0 <= value < 1
    assert value == unit_hash(image_id, seed, "split")
    assert value != unit_hash(image_id, seed, "order")


def test_an_id_is_derived_from_the_path_alone() -> None:
    assert make_image_id("a/b.png") == make_image_id("a/b.png")
    assert make_image_id("a/b.png") != make_image_id("a/c.png")


def test_images_outside_their_dataset_are_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links and paths of a table may point anywhere; whoever looks at the dataset is told."""
    inside, outside = tmp_path / "dataset", tmp_path / "private"
    for folder in (inside / "a", outside):
        folder.mkdir(parents=True)
    picture = Image.new("RGB", (32, 32), "red")
    for path in (inside / "a" / "1.png", outside / "secret.png", outside / "other.png"):
        picture.save(path)
    (inside / "a" / "2.png").symlink_to(outside / "secret.png")
    (inside / "a" / "3.png").symlink_to(inside / "a" / "1.png")
    (inside / "linked").symlink_to(outside)
    rows = ["a/1.png", "../private/secret.png", str(outside / "other.png"), str(inside / "a/1.png")]
    (inside / "table.csv").write_text("path\n" + "\n".join(rows) + "\n")
    for where, expected in (
        (
            inside,
            {
                "a/2.png": "secret.png",
                "linked/secret.png": "secret.png",
                "linked/other.png": "other.png",
            },
        ),
        (inside / "table.csv", {rows[1]: "secret.png", rows[2]: "other.png"}),
    ):
        dataset = list_dataset(where)
        assert isinstance(dataset.source, FolderSource)
        found = dataset.source.outside(dataset.images)
        assert {path: file.name for path, file in found} == expected
        assert {file.parent for _, file in found} == {outside}
        told: list[str] = []
        monkeypatch.setattr(checks, "say", told.append)
        checks.tell_outside(dataset)
        assert len(told) == 1
        assert f"{len(expected)} of {len(dataset.images)} images lie outside {inside}" in told[0]


def test_a_small_tiff_with_huge_tiles_is_refused_undecoded(tmp_path: Path) -> None:
    """A tile is decoded whole, however little of it the image shows."""
    file = tmp_path / "tiles.tif"
    tags = {254: 0, 256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 26_000, 323: 26_000}
    file.write_bytes(tiff(tags, bytes(64)))
    with pytest.raises(DecodeError, match="decompression bomb: tiles of 676000000 pixels"):
        decode(file)
    file.write_bytes(tiff(tags | {322: 64, 323: 64}, bytes(64 * 64)))
    assert decode(file).shape == (3, 16, 16)


def tiff(tags: dict[int, int], data: bytes) -> bytes:
    """Write a TIFF of one tile with these tags."""
    n, start = len(tags) + 2, 8
    offset = start + 2 + 12 * n + 4
    entries = sorted((tags | {324: offset, 325: len(data)}).items())
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = struct.pack("<2sHI", b"II", 42, start) + struct.pack("<H", n)
    return head + rows + struct.pack("<I", 0) + data


def test_what_is_no_number_is_black(tmp_path: Path) -> None:
    levels = np.linspace(0, 2, 400, dtype=np.float32).reshape(20, 20)
    levels[3, 4], levels[5, 6], levels[7, 8] = np.nan, np.inf, -np.inf
    Image.fromarray(levels).save(tmp_path / "levels.tif")
    found = decode(tmp_path / "levels.tif")[0].numpy()
    expected = np.nan_to_num(levels, nan=0, posinf=2, neginf=0) / 2 * 255
    assert np.abs(found - expected).max() <= 1
