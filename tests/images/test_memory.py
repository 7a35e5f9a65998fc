"""Memory of decoding: bounded by a budget that all threads share, with the same pixels as ever."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.errors import UserError
from pipeline.images import DECODING, decode_bytes, deep, list_dataset, read_image, rgb
from pipeline.images.cost import decoding_bytes
from pipeline.system.memory import Budget, TooMuch
from tests.sources import ROOT

NOISE = np.random.default_rng(0).integers(0, 256, (77, 123, 4), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (77, 123)).astype(np.uint16)
COLOURS = Image.fromarray(NOISE[..., :3])
GREY = Image.fromarray(NOISE[..., 0])


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def as_a_whole(data: bytes) -> np.ndarray:
    """Convert a picture in one go, in double precision."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image, dtype=np.float64)
        black, white = np.percentile(levels, (0.1, 99.9))
        shown = np.rint(((levels - black) / (white - black)).clip(0, 1) * 255)
        return np.stack([shown.astype(np.uint8)] * 3, axis=-1)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(COLOURS, kind) for kind in ("PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP")),
        *(encoded(Image.fromarray(NOISE), kind) for kind in ("PNG", "WEBP", "TIFF")),
        *(encoded(COLOURS, "PNG", exif=turned(each)) for each in range(2, 9)),
        encoded(GREY.convert("P"), "PNG", transparency=3),
        encoded(COLOURS, "PNG", transparency=(1, 2, 3)),
        encoded(COLOURS.quantize(17), "GIF", transparency=2),
        encoded(Image.fromarray(NOISE).quantize(20, method=2), "PNG"),
        encoded(GREY.convert("1"), "PNG"),
        encoded(Image.merge("LA", [GREY, GREY]), "PNG"),
        encoded(Image.fromarray(DEEP), "PNG"),
        encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF"),
        encoded(Image.fromarray(DEEP.astype(np.int32)), "TIFF"),
        encoded(Image.fromarray(DEEP.astype(np.float32) * 0.3 - 100), "TIFF"),
        encoded(COLOURS.convert("CMYK"), "TIFF"),
        encoded(COLOURS.convert("YCbCr"), "TIFF"),
    ],
)
@pytest.mark.parametrize("band", [1, 700, rgb.BAND])
def test_bands_give_the_pixels_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, data: bytes, band: int
) -> None:
    monkeypatch.setattr(rgb, "BAND", band)
    monkeypatch.setattr(deep, "BAND", band)
    assert np.array_equal(decode_bytes(data).pixels.permute(1, 2, 0).numpy(), as_a_whole(data))


def test_large_pieces_wait_for_each_other_and_small_ones_do_not() -> None:
    budget, most, now = Budget(), 0.0, 0.0
    budget.limit(100)
    lock, both = threading.Lock(), threading.Barrier(2, timeout=60)

    def work(n_bytes: float) -> None:
        nonlocal most, now
        with budget.hold(n_bytes):
            with lock:
                now += n_bytes
                most = max(most, now)
            time.sleep(0.002)
            with lock:
                now -= n_bytes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [10, 60, 90, 30, 100, 20] * 10))
    assert 90 <= most <= 100

    def meet(n_bytes: float) -> None:
        with budget.hold(n_bytes):
            both.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(meet, [40, 60]))
    with pytest.raises(TooMuch), budget.hold(101):
        pass
    with budget.hold(60) as one, budget.hold(30) as other:
        assert not other.grow(50)
        assert other.grow(40)
        assert not one.grow(61)


@pytest.fixture
def limited() -> Iterator[None]:
    yield
    DECODING.limit(float("inf"))


@pytest.mark.usefixtures("limited")
def test_threads_that_want_more_than_there_is_do_not_lock_each_other(tmp_path: Path) -> None:
    for index in range(8):
        Image.new("RGB", (1_000, 1_000), (index, 0, 0)).save(tmp_path / f"{index}.png")
    found = list_dataset(tmp_path)
    one = decoding_bytes((tmp_path / "0.png").read_bytes())
    DECODING.limit(1.5 * one)
    with ThreadPoolExecutor(4) as pool:
        pixels = list(pool.map(lambda image: read_image(found.source, image)[0], found.images))
    assert [int(each[0, 0, 0]) for each in pixels] == list(range(8))
    DECODING.limit(one / 2)
    with pytest.raises(UserError, match=r"^0\.png takes up to 0\.04 GB to decode, and 0\.02"):
        read_image(found.source, found.images[0])


def write_large(base: Path, side: int) -> None:
    base.mkdir()
    deep = np.broadcast_to((np.arange(side) * 10).astype(np.uint16), (side, side))
    Image.fromarray(np.ascontiguousarray(deep)).save(base / "deep.png", compress_level=1)
    flat = Image.fromarray(np.ascontiguousarray((deep // 256).astype(np.uint8)))
    flat.convert("P").save(base / "palette.png", transparency=3, compress_level=1)
    Image.new("RGBA", (side, side), (9, 8, 7, 99)).save(base / "clear.png", compress_level=1)
    flat.convert("RGB").save(base / "progressive.jpg", progressive=True, subsampling=0)
    for path in sorted(base.iterdir()):
        (base / f"again-{path.name}").write_bytes(path.read_bytes())
    for index in range(4):
        Image.fromarray(NOISE[:60, :60, :3] // (index + 1)).save(base / f"{index}.png")


JOB = """
import sys
from pathlib import Path
from tests.calling import call
code = call("discover", sys.argv[1:])
lines = Path("/proc/self/status").read_text().splitlines()
print("most", next(line.split()[1] for line in lines if line.startswith("VmHWM")))
sys.exit(code)
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_job_with_huge_images_keeps_to_its_memory(tmp_path: Path) -> None:
    write_large(tmp_path / "images", 6_000)
    options = {
        "dataset": tmp_path / "images", "model": "sample", "image_size": 64, "k": 2,
        "run": tmp_path / "run", "max_memory": "2.2GB",
    }  # fmt: skip
    assert memory_of_a_job(options) <= 2.2e9
    shutil.rmtree(tmp_path / "run" / "atlas")
    assert memory_of_a_job(options) <= 2.2e9  # the atlas alone


def memory_of_a_job(options: dict[str, object]) -> int:
    """Run discover in eight threads; return the most bytes it had."""
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    job = subprocess.run(
        [sys.executable, "-c", JOB, *given],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert job.returncode == 0, job.stderr
    assert "refused" not in job.stdout
    return 1024 * int(job.stdout.splitlines()[-1].removeprefix("most "))
