"""What is damaged in a file is noted with the image, and nothing of it reaches the terminal."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pipeline.analysis.report import summary
from pipeline.images import DecodeError, PixelRule, decode_bytes, network_input
from pipeline.images.cost import decoding_bytes
from pipeline.images.jpeg import UPRIGHT
from pipeline.jobs.discover import discover
from tests.conftest import ROOT

RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(RNG.integers(0, 255, (30, 40, 3), np.uint8)).resize((160, 120))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bitten(data: bytes, where: float) -> bytes:
    """Three bytes of the pixels overwritten, somewhere in the file (0 to 1)."""
    at = int(len(data) * where)
    return data[:at] + b"\x55\x00\x55" + data[at + 3 :]


KEEP = PixelRule(on_damage="keep")

KINDS = {
    "JPEG": encoded(PICTURE, "JPEG"),
    "progressive": encoded(PICTURE, "JPEG", progressive=True),
    "fax": encoded(PICTURE.convert("1"), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noted_and_the_rest_is_used(kind: str) -> None:
    whole = decode_bytes(KINDS[kind])
    assert whole.damage == ""
    found = [decode_bytes(bitten(KINDS[kind], where), KEEP) for where in (0.5, 0.6, 0.7, 0.8)]
    words = [each.damage for each in found if each.damage]
    assert words and all(re.search("Corrupt JPEG data|Bad code word", each) for each in words)
    assert all(each.pixels.shape == whole.pixels.shape for each in found)
    assert not all(torch.equal(each.pixels, whole.pixels) for each in found)


def test_damaged_pixels_are_those_of_torchvision() -> None:
    import torchvision  # noqa: F401, whose operations these are

    n = 0
    for where in np.linspace(0.4, 0.95, 40):
        data = bitten(KINDS["JPEG"], float(where))
        try:
            picture = decode_bytes(data, KEEP)
        except DecodeError:
            continue
        encoded_data = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        expected = torch.ops.image.decode_jpeg(encoded_data, 3, False)
        assert torch.equal(picture.pixels, expected)
        n += bool(picture.damage)
    assert n > 20


def test_decoders_print_nothing() -> None:
    """In a process of its own, for what is printed comes from below Python."""
    program = """
import io, sys
import numpy as np
from PIL import Image
from pipeline.images import DecodeError, PixelRule, decode_bytes, network_input
from pipeline.images.cost import decoding_bytes
rng = np.random.default_rng(int(sys.argv[1]))
grey = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize((96, 64))
exif = Image.Exif()
exif[0x0112] = 6
kinds = [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"exif": exif}), ("PNG", {}),
    ("GIF", {}), ("BMP", {}), ("PPM", {}), ("WEBP", {}), ("TIFF", {}), ("AVIF", {}),
    ("JPEG2000", {}), ("HEIF", {}),
    *(("TIFF", {"compression": f"tiff_{each}"}) for each in ("lzw", "deflate", "adobe_deflate")),
    ("TIFF", {"compression": "jpeg"}), ("TIFF", {"compression": "packbits"}),
    ("TIFF", {"compression": "group3"}), ("TIFF", {"compression": "group4"}),
]
n = {"read": 0, "damaged": 0, "refused": 0}
for kind, options in kinds:
    one_bit = str(options.get("compression", "")).startswith("group")
    buffer = io.BytesIO()
    (grey.convert("1") if one_bit else grey).save(buffer, kind, **options)
    whole = buffer.getvalue()
    for turn in range(60):
        data = bytearray(whole)
        first = 0 if turn % 2 else len(data) // 3
        for at in rng.integers(first, len(data), 3):
            data[at] = int(rng.integers(256))
        if turn % 10 == 0:
            data = data[: len(data) // 2]
        try:
            picture = decode_bytes(bytes(data), PixelRule("keep"))
            n["read"] += 1
            n["damaged"] += bool(picture.damage)
        except DecodeError:
            n["refused"] += 1
print(n["read"] > 100, n["damaged"] > 30, n["refused"] > 100)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, "0"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.stdout, done.stderr) == ("True True True\n", "")


@pytest.mark.parametrize("orientation", [*UPRIGHT, 1, 0, 9])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_orientation_is_applied_as_pillow_does(orientation: int, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(PICTURE.convert(mode), "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = decode_bytes(data)
    assert np.array_equal(found.pixels.permute(1, 2, 0).numpy(), expected)
    assert found.damage == ""


def test_colours_sampled_in_an_odd_pattern_are_read() -> None:
    data = bytearray(encoded(PICTURE, "JPEG", subsampling=2))  # 4:2:0: 0x22, 0x11, 0x11
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x22
    data[frame + 14] = 0x21  # the first colour at twice the width of the second
    with Image.open(io.BytesIO(bytes(data))) as image:
        expected = np.asarray(image.convert("RGB"))
    found = decode_bytes(bytes(data))
    assert np.array_equal(found.pixels.permute(1, 2, 0).numpy(), expected)
    assert found.damage == ""


def test_a_picture_of_thousands_of_scans_is_refused() -> None:
    data = encoded(Image.new("L", (8000, 8000)), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    bomb = data[:-2] + data[scan:-2] * 2000 + data[-2:]
    with pytest.raises(DecodeError, match="8000 × 8000 pixels in 20"):
        decode_bytes(bomb)


def test_metadata_that_cannot_be_read_costs_no_pixel() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(PICTURE, "PNG", exif=exif)
    at = data.index(b"eXIf") + 4
    broken = data[:at] + b"XX\x00\x00" + data[at + 4 :]
    crc = at + int.from_bytes(data[at - 8 : at - 4], "big")
    broken = broken[:crc] + zlib.crc32(broken[at - 4 : crc]).to_bytes(4, "big") + broken[crc + 4 :]
    found = decode_bytes(broken)
    assert np.array_equal(found.pixels.permute(1, 2, 0).numpy(), np.asarray(PICTURE))
    assert found.damage.startswith("EXIF cannot be read")


def test_a_run_says_what_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(12):
        pixels = np.random.default_rng(index).integers(0, 255, (6, 8, 3), np.uint8)
        data = encoded(Image.fromarray(pixels).resize((80, 60)), "JPEG")
        (folder / f"{index}.jpg").write_bytes(bitten(data, 0.6) if index == 7 else data)
    options: dict[str, Any] = {"model": "sample", "k": "2", "image_size": "64"}
    run = discover(dataset=str(folder), run=str(tmp_path / "run"), on_damage="keep", **options)
    images = run.table("images").set_index("path")
    words = images.damage["7.jpg"]
    assert images.damage.drop("7.jpg").isna().all()
    assert words
    assert "1 of 12 images are damaged and used as far as they can be decoded" in summary(run)
    assert f"7.jpg: {words}" in summary(run)


@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("broken", [False, True])
def test_large_jpegs_are_decoded_at_a_reduced_scale(
    monkeypatch: pytest.MonkeyPatch, orientation: int, broken: bool
) -> None:
    monkeypatch.setattr(sys.modules["pipeline.images.formats"], "ENOUGH", 20_000)
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = Image.fromarray(RNG.integers(0, 255, (6, 8, 3), np.uint8)).resize((403, 301))
    data = encoded(smooth, "JPEG", exif=exif, quality=95)
    data = bitten(data, 0.95) if broken else data
    whole, less = decode_bytes(data, KEEP), decode_bytes(data, KEEP, reduced=True)
    assert whole.size == less.size == ((301, 403) if orientation > 4 else (403, 301))
    assert [*whole.pixels.shape[:0:-1]] == [*whole.size]
    assert [*less.pixels.shape[:0:-1]] == [-(-side // 4) for side in less.size]
    assert decoding_bytes(data, reduced=True) < decoding_bytes(data) - 100_000 * 8
    square, affine = network_input(whole.pixels, 64, "crop", original=whole.size)
    other, same = network_input(less.pixels, 64, "crop", original=less.size)
    assert (square.int() - other.int()).abs().float().mean() < 4
    corners = np.array([[0.0, 0.0], list(whole.size)])
    assert np.allclose(affine.to_input(corners), same.to_input(corners), atol=1.5)
    assert decode_bytes(encoded(smooth, "PNG"), reduced=True).pixels.shape == (3, 301, 403)
