"""What becomes of pixels that can be read in several ways: each row of the table in IMAGES.md."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms

from pipeline.analysis.report import summary
from pipeline.analysis.run import open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.images import (
    DecodeError,
    PixelRule,
    decode_bytes,
    list_dataset,
    load_image,
    read_image,
)
from pipeline.images.colours import has_other_colours
from pipeline.jobs.discover import discover
from pipeline.runs.prepare import prepare
from pipeline.sample import write_sample

SIDE = 48
RAMP = np.broadcast_to(np.linspace(0, 1, SIDE), (SIDE, SIDE))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(data: bytes, rule: PixelRule | None = None) -> NDArray[np.int64]:
    pixels = decode_bytes(data, rule or PixelRule()).pixels
    return pixels.permute(1, 2, 0).numpy().astype(np.int64)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def png(values: NDArray[np.uint16]) -> bytes:
    """Write a PNG of 16 bits a channel, which Pillow does not, by the specification."""
    height, width, n = values.shape

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[n], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    named = chunk(b"iCCP", b"broken\0\0" + zlib.compress(b"no profile"))  # libpng would warn
    body = named + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def deep(kind: str, values: NDArray[np.float64]) -> bytes:
    """Encode values in [0, 1] as a file of many bits, as cameras and simulations write them."""
    twelve = np.rint(values * 4095)
    return {
        "12 bits in a PNG of 16": lambda: encoded(Image.fromarray(twelve.astype(np.uint16)), "PNG"),
        "12 bits in a TIFF of 16": lambda: encoded(
            Image.fromarray(twelve.astype(np.uint16)), "TIFF"
        ),
        "big-endian": lambda: tiff(twelve.astype(">u2"), byteorder=">"),
        "PGM": lambda: b"P5 %d %d 65535\n" % values.shape[::-1] + twelve.astype(">u2").tobytes(),
        "int32": lambda: encoded(Image.fromarray((twelve * 100 - 7).astype(np.int32)), "TIFF"),
        "float": lambda: encoded(Image.fromarray((values * 3).astype(np.float32)), "TIFF"),
        "minus one to one": lambda: encoded(
            Image.fromarray((values * 2 - 1).astype(np.float32)), "TIFF"
        ),
    }[kind]()


KINDS = (
    "12 bits in a PNG of 16", "12 bits in a TIFF of 16", "big-endian", "PGM", "int32", "float",
    "minus one to one",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_one_range_of_the_dataset_becomes_black_to_white(kind: str, tmp_path: Path) -> None:
    """A dark image stays darker than a bright one: half the values are half the grey."""
    ending = {"12 bits in a PNG of 16": "png", "PGM": "pgm"}.get(kind, "tif")
    (tmp_path / "images").mkdir()
    for index in range(12):
        (tmp_path / "images" / f"{index}.{ending}").write_bytes(
            deep(kind, RAMP if index % 2 else RAMP / 2)
        )
    options = {"dataset": str(tmp_path / "images"), "model": "sample", "image_size": 32, "k": 2}
    workspace = prepare(make_config(options), tmp_path / "begun")
    (low, high), *others = said(workspace.folder)["ranges"].values()
    assert not others
    for image in workspace.listing.records(slice(None)):
        expected = 255 * (RAMP if int(image.path.split(".")[0]) % 2 else RAMP / 2)
        pixels, _ = read_image(workspace.source, image, workspace.pixel_rule)
        found = pixels.permute(1, 2, 0).numpy().astype(float)
        assert np.abs(found - expected[..., None]).max() <= 3
        if kind == KINDS[0]:  # as a whole job has it
            opened = open_run(discover_on(tmp_path))
            assert np.array_equal(opened.image(image.path), found)
            assert said(opened.folder) == said(workspace.folder)
            break
    alone = load_image(tmp_path / "images" / f"0.{ending}")  # of no dataset: a range of its own
    assert np.abs(alone.astype(float) - 255 * RAMP[..., None]).max() <= 3
    again = load_image(tmp_path / "images" / f"0.{ending}", workspace.pixel_rule)
    assert np.abs(again.astype(float) - 127.5 * RAMP[..., None]).max() <= 3
    assert high > low


def discover_on(base: Path, **options: Any) -> Path:
    given = {"model": "sample", "image_size": 32, "k": 2, "run": base / "run", **options}
    return discover(base / "images", **given).folder


def said(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())["preprocessing"]
    return found


def test_what_is_no_number_or_out_of_all_proportion_decides_nothing() -> None:
    values = RAMP.astype(np.float32).copy()
    values[0, :3] = np.nan, 1e30, -np.inf
    found = shown(encoded(Image.fromarray(values), "TIFF"))
    assert found[0, :3, 0].tolist() == [0, 255, 0]
    assert np.abs(found[1:, :, 0] - 255 * RAMP[1:]).max() <= 3


def test_the_user_says_what_is_black_and_white(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(8):
        (tmp_path / "images" / f"{index}.png").write_bytes(deep(KINDS[0], RAMP / 2))
    run = discover_on(tmp_path, levels="0,4095")
    image = open_run(run).image(int(open_run(run).table("images").image_id[0]))
    assert np.abs(image.astype(float) - 127.5 * RAMP[..., None]).max() <= 1
    with pytest.raises(UserError, match=r"levels='9,3' is not possible \(black is less than white"):
        discover_on(tmp_path, levels="9,3")
    with pytest.raises(
        UserError, match=r"was made with levels=\[0.0, 4095.0\], now it is \[0.0, 9"
    ):
        discover_on(tmp_path, levels="0,9")


def test_values_of_a_kind_that_was_not_looked_at_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for index in range(140):
        picture = Image.fromarray(np.rint(RAMP * (255 - index)).astype(np.uint8))
        picture.save(tmp_path / "images" / f"{index:03}.png")
    run = discover_on(tmp_path, k=2)
    last = open_run(run).workspace.listing.record(139).path
    (tmp_path / "images" / last).write_bytes(deep(KINDS[0], RAMP))
    run = discover_on(tmp_path, run=tmp_path / "other")
    rejected = open_run(run).table("rejected")
    assert rejected.path.tolist() == [last]
    assert rejected.reason[0].startswith("16-bit values, which none of the images looked at before")


@pytest.mark.parametrize("pack", ["PNG", "TIFF", "big-endian", "tiles", "zlib"])
@pytest.mark.parametrize("top", [65535, 4095])
def test_colours_of_16_bits(pack: str, top: int) -> None:
    colours = RAMP[..., None] * np.array([1.0, 0.5, 0.25])
    values = np.rint(colours * top).astype(np.uint16)
    data = {
        "PNG": lambda: png(values),
        "TIFF": lambda: tiff(values, photometric="rgb"),
        "big-endian": lambda: tiff(values.astype(">u2"), photometric="rgb", byteorder=">"),
        "tiles": lambda: tiff(values, photometric="rgb", tile=(16, 16)),
        "zlib": lambda: tiff(values, photometric="rgb", compression="zlib", predictor=True),
    }[pack]()
    assert np.abs(shown(data, PixelRule(ranges={"16-bit": (0, top)})) - 255 * colours).max() <= 0.51
    assert np.abs(shown(data) - 255 * colours).max() <= 3


def test_colours_of_16_bits_in_planes_are_refused_and_not_taken_for_bytes() -> None:
    values = np.zeros((3, SIDE, SIDE), np.uint16)
    with pytest.raises(DecodeError, match="16-bit colours in planes are not read"):
        decode_bytes(tiff(values, photometric="rgb", planarconfig="separate"))
    flat = decode_bytes(
        tiff(values.astype(np.uint8) + 9, photometric="rgb", planarconfig="separate")
    )
    assert (flat.pixels == 9).all()


def test_transparency_is_laid_on_white_at_any_depth() -> None:
    opacity = np.linspace(0, 1, SIDE)[:, None] * np.ones(SIDE)
    colours = np.stack([RAMP, RAMP / 2, RAMP / 4, opacity], -1)
    expected = 255 * (colours[..., :3] * opacity[..., None] + 1 - opacity[..., None])
    flat = encoded(Image.fromarray(np.rint(255 * colours).astype(np.uint8)), "PNG")
    rule = PixelRule(ranges={"16-bit": (0, 65535)})
    wide = png(np.rint(65535 * colours).astype(np.uint16))
    grey = png(np.rint(65535 * colours[..., [0, 3]]).astype(np.uint16))
    assert np.abs(shown(flat) - expected).max() <= 2
    assert np.abs(shown(wide, rule) - expected).max() <= 0.51
    assert np.abs(shown(grey, rule) - expected[..., :1]).max() <= 0.51


def test_orientation_turns_deep_images_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.rint(RAMP[:20] * 4095).astype(np.uint16)
    data = encoded(Image.fromarray(values), "PNG", exif=exif)
    found = shown(data)
    assert found.shape == (SIDE, 20, 3)
    assert np.abs(found[..., 0] - 255 * np.rot90(RAMP[:20], -1)).max() <= 3


def test_the_first_page_is_read() -> None:
    pages = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "lime", "blue")]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert (shown(data) == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["AVIF", "GIF", "HEIF", "PNG", "TIFF", "WEBP"])
def test_what_is_left_of_several_pages_is_said(kind: str) -> None:
    pages = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "lime", "blue")]
    data = encoded(pages[0], kind, save_all=True, append_images=pages[1:])
    assert decode_bytes(data).note == "the first of several pages or frames"
    assert decode_bytes(encoded(pages[0], kind)).note == ""


def test_files_read_in_part_are_told_of(tmp_path: Path) -> None:
    write_sample(tmp_path, n_images=12, size=64)
    pages = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "lime", "blue")]
    pages[0].save(tmp_path / "images" / "a.tif", save_all=True, append_images=pages[1:])
    run = discover(
        dataset=str(tmp_path / "images"), run=str(tmp_path / "run"), model="sample", k="2",
        image_size="64",
    )  # fmt: skip
    notes = run.table("images").set_index("path")["note"].dropna()
    assert notes.to_dict() == {"a.tif": "the first of several pages or frames"}
    assert "of 1 of 13 images a part was read" in summary(run)


def profile(gamma: float) -> bytes:
    """Write an ICC profile (ICC.1:2001) of sRGB's primaries with another curve."""

    def xyz(*values: float) -> bytes:
        numbers = [round(each * 65536) for each in values]
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *numbers)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 6) + b"curve\0" + bytes(78)
    tags = {
        b"desc": text, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139), b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve,
    }  # fmt: skip
    table, body, at = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI", at + len(body), b"\0\0\0\0", 0x02400000)
    head += b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", round(0.9642 * 65536), 65536, round(0.8249 * 65536)) + bytes(48)
    return head + table + body


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF", "HEIF"])
def test_colours_of_a_profile_become_those_of_srgb(kind: str) -> None:
    """Of linear light, by the closed form of IEC 61966-2-1."""
    levels = np.array([10, 64, 128, 200])
    linear = levels / 255
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    pixels = np.repeat(np.repeat(levels.astype(np.uint8), 16)[None, :, None], 3, 2)
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (48, 64, 3))))
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "JPEG": {"quality": 100},
        "HEIF": {"quality": 100}
    }  # fmt: skip
    data = encoded(image, kind, icc_profile=profile(1.0), **options.get(kind, {}))
    assert np.abs(shown(data)[20, 8::16, 0] - expected).max() <= 2
    plain = encoded(image, kind, **options.get(kind, {}))
    assert np.abs(shown(plain)[20, 8::16, 0] - levels).max() <= 1


def grey_profile(gamma: float) -> bytes:
    """The same of one channel."""
    return profile(gamma).replace(b"mntrRGB ", b"mntrGRAY").replace(b"rTRC", b"kTRC")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_greys_of_a_profile_become_those_of_srgb(kind: str) -> None:
    levels = np.array([10, 64, 128, 200])
    expected = 255 * (1.055 * (levels / 255) ** (1 / 2.4) - 0.055)
    pixels = np.broadcast_to(np.repeat(levels.astype(np.uint8), 16), (48, 64))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    data = encoded(image, kind, icc_profile=grey_profile(1.0))
    assert np.abs(shown(data)[20, 8::16] - expected[:, None]).max() <= 2


def test_srgbs_own_profile_and_broken_ones_change_nothing() -> None:
    image = Image.fromarray(np.rint(255 * np.stack([RAMP, RAMP.T, RAMP / 2], -1)).astype(np.uint8))
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = encoded(image, "PNG")
    for each in (own, b"no profile", profile(1.0)[:200]):
        data = encoded(image, "PNG", icc_profile=each)
        with Image.open(io.BytesIO(data)) as opened:
            assert not has_other_colours(opened)
        assert np.array_equal(shown(data), shown(plain))


def test_cmyk_is_read_as_viewers_do() -> None:
    inks = Image.merge("CMYK", [Image.new("L", (SIDE, SIDE), each) for each in (255, 0, 0, 0)])
    for kind in ("TIFF", "JPEG"):
        assert np.abs(shown(encoded(inks, kind, quality=100)) - [0, 255, 255]).max() <= 2


@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "JPEG2000", "PPM"])
def test_formats_that_came_later_are_read(kind: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.rint(255 * np.stack([RAMP, RAMP.T, RAMP / 2], -1)).astype(np.uint8))
    data = encoded(image, kind, **({"quality": 95} if kind in ("AVIF", "HEIF") else {}))
    assert np.abs(shown(data) - np.asarray(image).astype(int)).max() <= (
        12 if kind in ("AVIF", "HEIF") else 0
    )


def test_photographs_of_telephones_are_upright_and_found(tmp_path: Path) -> None:
    image = Image.fromarray(np.rint(255 * np.stack([RAMP, RAMP.T, RAMP / 2], -1)).astype(np.uint8))
    image = image.crop((0, 0, 48, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "IMG_1.HEIC").write_bytes(encoded(image, "HEIF", quality=95, exif=exif.tobytes()))
    found = list_dataset(tmp_path)
    (record,) = found.images
    pixels, _ = read_image(found.source, record)
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(pixels.permute(1, 2, 0).numpy() - upright).max() <= 12
    data = (tmp_path / "IMG_1.HEIC").read_bytes()
    with pytest.raises(DecodeError, match="not an image"):
        decode_bytes(data[: len(data) // 2])


def damaged(how: str) -> bytes:
    y, x = np.mgrid[0:160, 0:200]
    grey = 127 * (1 + np.sin(x / 9) * np.cos(y / 7))
    image = Image.fromarray(np.stack([grey, grey * 0.8, grey * 0.6], -1).astype(np.uint8))
    data = encoded(image, "JPEG", quality=92)
    n = len(data)
    return {
        "whole": data,
        "half, with an end": data[: n // 2] + b"\xff\xd9",
        "a zeroed middle": data[: n // 2] + bytes(n // 5) + data[n // 2 + n // 5 :],
        "a place lost": data[: n // 2] + data[n // 2 + 60 : -2] + data[n // 3 : n // 2] + data[-2:],
        "something behind it": data + b"more",
        "something before its end": data[:-2] + bytes(5) + data[-2:],
    }[how]


@pytest.mark.parametrize("how", ["half, with an end", "a zeroed middle", "a place lost"])
def test_damage_is_refused_by_name_or_kept(how: str, tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"^damaged: Corrupt JPEG data"):
        decode_bytes(damaged(how))
    kept = decode_bytes(damaged(how), PixelRule("keep"))
    assert kept.is_damaged
    assert "Corrupt JPEG data" in kept.damage
    (tmp_path / "images").mkdir()
    for index in range(8):
        data = damaged(how if index == 3 else "whole")
        (tmp_path / "images" / f"{index}.jpg").write_bytes(data)
    run = open_run(discover_on(tmp_path))
    assert run.table("rejected").path.tolist() == ["3.jpg"]
    assert len(run.table("images")) == 7
    run = open_run(discover_on(tmp_path, run=tmp_path / "kept", on_damage="keep"))
    assert len(run.table("images")) == 8
    assert run.table("images").set_index("path").damage.notna().to_dict() == {
        f"{index}.jpg": index == 3 for index in range(8)
    }


@pytest.mark.parametrize("how", ["something behind it", "something before its end"])
def test_bytes_that_no_pixel_is_in_are_no_damage(how: str) -> None:
    assert np.array_equal(shown(damaged(how)), shown(damaged("whole")))
