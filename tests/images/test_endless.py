"""Files whose metadata would keep a decoder for minutes, or take gigabytes: refused at once."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.images import DecodeError, decode, decode_bytes, list_dataset
from pipeline.images.cost import decoding_bytes
from pipeline.images.limits import MAX_PLAIN
from pipeline.images.metered import MAX_METADATA, MAX_PIECES, Metered, ReadTooMuch
from tests.images.test_memory import COLOURS, encoded

JPEG, GIF, PNG = (encoded(COLOURS, kind) for kind in ("JPEG", "GIF", "PNG"))
TABLE = 13 + 3 * 256
"""Where blocks begin in a GIF with a palette of 256 colours."""


def segments(n: int, marker: int = 0xE1) -> bytes:
    return (bytes([0xFF, marker]) + struct.pack(">H", 65_508) + b"Exif\0\0" + bytes(65_500)) * n


def chunks(n: int) -> bytes:
    return (struct.pack(">I", 0) + b"teSt" + struct.pack(">I", zlib.crc32(b"teSt"))) * n


def tiff(n: int) -> bytes:
    entries = [(256, 4, 1, 64), (257, 4, 1, 64), (40_000, 3, n, 8)]
    packed = b"".join(struct.pack("<HHII", *each) for each in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(2 * n)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: JPEG[:2] + segments(600) + JPEG[2:],
            f"more than {MAX_METADATA} bytes of metadata",
        ),
        (
            lambda: JPEG[:2] + b"\xff\xfe\0\3x" * 100_000 + JPEG[2:],
            f"more than {MAX_PIECES} pieces",
        ),
        (lambda: JPEG[:2] + b"\xff" * 200_000 + JPEG[2:], f"more than {MAX_PIECES} pieces"),
        (lambda: GIF[:TABLE] + b"!\xfe\1a\0" * 100_000 + GIF[TABLE:], f"more than {MAX_PIECES}"),
        (lambda: GIF[:TABLE] + b"!\xfe" + b"\1a" * 200_000 + b"\0" + GIF[TABLE:], "more than"),
        (lambda: PNG[:33] + chunks(100_000) + PNG[33:], f"more than {MAX_PIECES} pieces"),
        (lambda: b"P6\n#" + b"a" * 200_000 + b"\n9 9\n255\n" + bytes(243), "more than"),
        (lambda: tiff(20_000_000), f"more than {MAX_METADATA} bytes of metadata"),
        (lambda: b"P3\n64 64\n255\n" + b"#\n" * (MAX_PLAIN // 2) + b"1 " * 12_288, "of digits"),
    ],
)
def test_metadata_without_end_is_refused(make: Callable[[], bytes], sentence: str) -> None:
    data = make()
    assert decoding_bytes(data) <= 12 * len(data) + 32_000_000
    with pytest.raises(DecodeError, match=sentence):
        decode_bytes(data)


def test_what_good_files_have_is_read() -> None:
    """The largest colour profile there can be, more comments than anybody writes, all pixels."""
    profile = encoded(COLOURS, "JPEG", icc_profile=bytes(255 * 65_519))
    commented = GIF[:TABLE] + b"!\xfe\1a\0" * 10_000 + GIF[TABLE:]
    for data, plain in ((profile, JPEG), (commented, GIF)):
        assert np.array_equal(decode_bytes(data).pixels, decode_bytes(plain).pixels)
    noise = np.random.default_rng(0).integers(0, 256, (3_700, 3_700, 3), dtype=np.uint8)
    for kind in ("BMP", "TIFF", "PPM", "PNG"):
        data = encoded(
            Image.fromarray(noise), kind, **({"compress_level": 0} if kind == "PNG" else {})
        )
        assert len(data) > MAX_METADATA
        assert np.array_equal(decode_bytes(data).pixels.permute(1, 2, 0), noise)


def test_a_meter_counts_pieces_and_bytes_until_the_picture() -> None:
    file = Metered(bytes(2 * MAX_METADATA))
    assert len(file.read()) == 2 * MAX_METADATA  # as a decoder does that takes all at once
    file.seek(0)
    file.read(MAX_METADATA)
    with pytest.raises(ReadTooMuch, match="bytes of metadata"):
        file.read(1)
    file.expect_picture()
    assert file.read(MAX_METADATA - 1) == bytes(MAX_METADATA - 1)


def test_a_regular_file_that_is_no_file_is_not_read(tmp_path: Path) -> None:
    """Files of /proc say that they are empty; this one waits for a message of the kernel."""
    if not Path("/proc/kmsg").is_file():
        pytest.skip("this system has no /proc/kmsg")
    (tmp_path / "a.png").symlink_to("/proc/kmsg")
    with pytest.raises(DecodeError, match="empty file"):
        decode(tmp_path / "a.png")


def test_folders_too_deep_are_named(tmp_path: Path) -> None:
    """The system takes no name of more than 4,096 bytes: what lies below cannot be opened."""
    (tmp_path / "a.png").write_bytes(PNG)
    before = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    try:
        for _ in range(25):
            os.mkdir("d" * 200)  # noqa: PTH102 - relative, for the whole name would be too long
            os.chdir("d" * 200)
        with open("b.png", "wb") as file:  # noqa: PTH123
            file.write(PNG)
    finally:
        os.chdir(before)
        os.close(before)
    found = list_dataset(tmp_path)
    assert [image.path for image in found.images] == ["a.png"]
    (closed,) = found.rejected
    assert closed.reason == "folder unreadable: File name too long"
    assert set(closed.path) == {"d", "/"}


def test_pictures_of_a_run_within_its_dataset_are_no_images(tmp_path: Path) -> None:
    """Another run would take the atlas of the first for photographs."""
    config = 'encoding-type = "concordance.config"\nencoding-version = "1.0"\n'
    for folder, text in {
        "runs/one": config,
        "mine": "title = 'config of something else'\n",
    }.items():
        (tmp_path / folder / "media").mkdir(parents=True)
        (tmp_path / folder / "media" / "1.png").write_bytes(PNG)
        (tmp_path / folder / "config.toml").write_text(text)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(PNG)
    assert [each.path for each in list_dataset(tmp_path).images] == [
        "cat/a.png",
        "mine/media/1.png",
    ]
    whole = list_dataset(tmp_path / "runs" / "one")  # as it was asked for
    assert [each.path for each in whole.images] == ["media/1.png"]
