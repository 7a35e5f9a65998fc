"""Inputs that no one expects: names, files that die in a decoder, values that are no numbers."""

from __future__ import annotations

import ctypes
import io
import os
import pickle
import stat
import struct
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from PIL import Image

from pipeline.analysis.run import open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.images import DecodeError, FolderSource, decode_bytes, list_dataset
from pipeline.jobs.discover import discover_run
from pipeline.jobs.execute import execute
from pipeline.jobs.extract import extract, list_rejected
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.sample.network import WEIGHTS
from tests.calling import call

NAMES = [
    b"new\nline.png",
    b"-dash.png",
    b"--run=x.png",
    b"quo\"te'.png",
    b"semi;touch x.png",
    b"<b>&amp;.png",
    b"\xff\xfe.png",
    b"100%25.png",
    b"%FF%FE.jpg",
    b"caf\xc3\xa9.png",
    b" space .png",
    b"a.b.png",
]


def picture(index: int, side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def options(base: Path, **more: str) -> dict[str, str]:
    return {"dataset": str(base), "model": "sample", "image_size": "64", "k": "3"} | more


def begin(base: Path, run: Path, **more: str) -> Workspace:
    return prepare(make_config(options(base, **more)), run)


def test_names_and_links_come_through_the_whole_job(tmp_path: Path) -> None:
    base = tmp_path / "da'ta; touch x"
    for index, name in enumerate(NAMES):
        for folder in (b"one", b"t\xffwo"):
            path = base / os.fsdecode(folder) / os.fsdecode(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(index).save(path, "PNG")
    (base / "one" / "%FF%FE.png").write_bytes(encoded(picture(0), "PNG"))
    (base / "one" / "loop").symlink_to(base)
    (base / "another way").symlink_to(base / "one")
    os.mkfifo(base / "one" / "pipe.png")
    (base / "one" / "gone.png").symlink_to(base / "nowhere")
    discover_run(begin(base, tmp_path / "run;touch x", keep="heatmaps"))
    run = open_run(tmp_path / "run;touch x")
    images = run.table("images")
    assert len(images) == 2 * len(NAMES)
    assert images.image_id.is_unique
    assert set(images.label) == {"one", "t%FFwo"}
    assert "one/%FF%FE.png" in set(images.path)
    assert "one/new\nline.png" in set(images.path)
    assert not images.path.str.startswith("another").any()
    pictures = {os.fsdecode(name): index for index, name in enumerate(NAMES)} | {"%FF%FE.png": 0}
    source = run.workspace.source
    assert isinstance(source, FolderSource)
    for path, image_id in images[["path", "image_id"]].itertuples(index=False):
        index = pictures[source.file(path).name]
        assert np.array_equal(run.image(image_id), np.asarray(picture(index)))
    assert dict(run.table("rejected").to_numpy().tolist()) == {
        "one/%FF%FE.png": "its name, escaped, is that of another file",
        "one/gone.png": "file unreadable: No such file or directory",
        "one/pipe.png": "not a regular file",
    }
    pages = "".join(path.read_text() for path in (run.folder / "atlas").rglob("*.html"))
    assert "<b>&amp;.png" not in pages
    assert not (tmp_path / "x").exists()
    assert not Path("x").exists()


class Capabilities(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@contextmanager
def without_superpowers() -> Iterator[None]:
    """Be bound by permissions even as the superuser, for a while and in this thread alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, now = (Capabilities * 2)(), (Capabilities * 2)()
    assert libc.capget(header, before) == 0
    ctypes.memmove(now, before, ctypes.sizeof(now))
    now[0].effective &= ~(1 << 1 | 1 << 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, now) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def test_folders_and_files_that_may_not_be_read_are_listed(tmp_path: Path) -> None:
    for name in ("open/a.png", "closed/b.png", "open/c.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        picture(0).save(path)
    (tmp_path / "closed").chmod(0)
    (tmp_path / "open" / "c.png").chmod(0)
    try:
        with without_superpowers():
            found = list_dataset(tmp_path)
            with pytest.raises(PermissionError):
                (tmp_path / "open" / "c.png").read_bytes()
    finally:
        (tmp_path / "closed").chmod(stat.S_IRWXU)
    assert [image.path for image in found.images] == ["open/a.png", "open/c.png"]
    assert [(entry.path, entry.reason) for entry in found.rejected] == [
        ("closed", "folder unreadable: Permission denied")
    ]


def test_folders_a_thousand_deep(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("deep.png", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    picture(0).save(tmp_path / "top.png")
    try:
        found = list_dataset(tmp_path)
    finally:  # Python's own way to remove a tree is not up to this one
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)
    assert [image.path for image in found.images] == ["d/" * 1_500 + "deep.png", "top.png"]


def bomb_png(side: int) -> bytes:
    """Return a small file that claims a huge picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 10_000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


JPEG = encoded(picture(1, 120), "JPEG")

BROKEN = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "cannot be decoded"),
    "truncated.png": (encoded(picture(2), "PNG")[:600], "cannot be decoded"),
    "empty.jpg": (b"", "empty file"),
    "text.jpg": (b"<html>no image</html>", "not an image"),
    "1x1.png": (encoded(picture(3, 1), "PNG"), "too small: 1 × 1 pixels"),
    "1x20000.png": (encoded(Image.new("RGB", (1, 20_000)), "PNG"), "too small: 1 × 20000"),
    "9x20000.png": (encoded(Image.new("RGB", (9, 20_000)), "PNG"), "too long: 9 × 20000"),
    "bomb.png": (bomb_png(60_000), "decompression bomb"),
}
MISLABELLED = {"png.jpg": encoded(picture(4), "PNG"), "jpeg.png": encoded(picture(5), "JPEG")}


def write_broken(base: Path, n_good: int) -> None:
    base.mkdir()
    for index in range(n_good):
        picture(index).save(base / f"{index}.png")
    for name, (data, _) in BROKEN.items():
        (base / name).write_bytes(data)
    for name, data in MISLABELLED.items():
        (base / name).write_bytes(data)


def test_images_that_cannot_be_read_are_listed_with_the_reason(tmp_path: Path) -> None:
    write_broken(tmp_path / "images", 8)
    workspace = begin(tmp_path / "images", tmp_path / "run")
    execute(workspace, {"extract": extract})
    found = {entry.path: entry.reason for entry in list_rejected(workspace)}
    assert found.keys() == BROKEN.keys()
    for name, (_, reason) in BROKEN.items():
        assert found[name].startswith(reason), (name, found[name])
    assert workspace.record.stage("extract").counts["images"] == 8 + len(MISLABELLED)
    assert len(workspace.activations.read(0, ["V"])["V"]) == 8 + len(MISLABELLED)


def test_a_hopeless_run_stops_early(tmp_path: Path) -> None:
    base = tmp_path / "images"
    base.mkdir()
    for index in range(60):
        (base / f"{index}.png").write_bytes(b"broken")
    picture(0).save(base / "good.png")
    # Auxiliary layers make the images large, so that sixteen fill a shard.
    more = {"aux_layers": "stem,edges,shapes,forms,joints", "precision": "fp32"}
    more |= {"image_size": "176", "max_rejects": "5"}
    workspace = begin(base, tmp_path / "run", **more)
    assert workspace.activations.n_shards == 4
    with pytest.raises(UserError, match=r"1[56] images .* more than max_rejects=5;"):
        execute(workspace, {"extract": extract})
    assert workspace.activations.missing()  # shards in flight still land
    pipes = tmp_path / "pipes"
    pipes.mkdir()
    picture(0).save(pipes / "good.png")
    for index in range(7):
        os.mkfifo(pipes / f"{index}.png")
    workspace = begin(pipes, tmp_path / "pipes-run", max_rejects="5")
    with pytest.raises(UserError, match=r"7 images .*; the last: 6\.png: not a regular"):
        execute(workspace, {"extract": extract})


def test_shards_of_which_no_image_can_be_read(tmp_path: Path) -> None:
    base = tmp_path / "images"
    base.mkdir()
    for index in range(5):
        (base / f"{index}.png").write_bytes(b"broken")
    workspace = begin(base, tmp_path / "run", aux_layers="shapes", precision="fp32")
    with pytest.raises(UserError, match=r"none of the 5 images could be read; the first: 0.png"):
        execute(workspace, {"extract": extract})
    arrays = workspace.activations.read(0)
    assert {
        name: array.dtype for name, array in arrays.items() if "V" in name or "aux" in name
    } == {
        "V": np.float32,
        "aux/shapes": np.float32,
    }
    assert arrays["V"].shape == (0, 8, 8, 192)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@given(data=st.data())
@settings(max_examples=60)
def test_damaged_images_are_refused_or_read_but_never_more(kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(picture(6, 24), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = content[: data.draw(st.integers(0, len(content)))]
    try:
        pixels = decode_bytes(bytes(cut)).pixels
    except DecodeError as error:
        assert str(error)
    else:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[0] == 3


def weights_with(base: Path, name: str, change: float) -> Path:
    """Write the sample's weights, one layer's multiplied."""
    state = {key: value.float() for key, value in safetensors.torch.load_file(WEIGHTS).items()}
    matching = [key for key in state if key.startswith(name) and state[key].dim() > 1]
    state[matching[-1]] = state[matching[-1]] * change
    path = base / f"{name}{change}.safetensors"
    safetensors.torch.save_file(state, path)
    return path


@pytest.mark.parametrize(
    ("layer", "change", "precision", "shown"),
    [
        ("parts", float("nan"), "auto", r"layer parts has NaN at \d+ of 12288 places of image"),
        ("parts", float("inf"), "fp32", r"layer parts has (NaN|infinite values) at \d+ of 12288"),
        (
            "head",
            float("nan"),
            "auto",
            r"the network's answer has NaN at \d+ of \d+ places of image",
        ),
    ],
)
def test_values_that_are_no_numbers_stop_the_run(
    tmp_path: Path, layer: str, change: float, precision: str, shown: str
) -> None:
    base = tmp_path / "images"
    base.mkdir()
    for index in range(6):
        picture(index).save(base / f"{index}.png")
    weights = weights_with(tmp_path, layer, change)
    workspace = begin(base, tmp_path / "run", weights=str(weights), precision=precision)
    with pytest.raises(UserError, match=shown) as caught:
        discover_run(workspace)
    assert any(f"{index}.png" in str(caught.value) for index in range(6))
    assert workspace.activations.missing() == [0]
    assert not (workspace.folder / "bank").exists()


def test_what_overflows_float16_is_said_unless_it_was_foreseen(tmp_path: Path) -> None:
    """Activations are scaled by the first images; later ones may be larger by far."""
    base = tmp_path / "images"
    base.mkdir()
    for index in range(6):
        picture(index).save(base / f"{index}.png")
    weights = str(weights_with(tmp_path, "parts", 1e7))
    workspace = begin(base, tmp_path / "run", weights=weights)
    (exponent,) = workspace.record.layer.exponents.values()
    workspace.cut.rescale({})  # as if the first images had been faint
    shown = r"has values beyond float16's 65,504 at \d+ .* pass precision='fp32'"
    with pytest.raises(UserError, match=shown):
        execute(workspace, {"extract": extract})
    for precision in ("auto", "fp32"):
        again = begin(base, tmp_path / precision, weights=weights, precision=precision)
        execute(again, {"extract": extract})
        V = again.activations.read(0, ["V"])["V"]
        assert 0.5 < V.max() < 4
        assert float(V.max()) * 2.0**exponent > 65_504


class Payload:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def test_a_malicious_weights_file_is_refused_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    picture(0).save(tmp_path / "images" / "0.png")
    marker = tmp_path / "ran"
    torch.save({"state_dict": Payload(marker)}, tmp_path / "weights.pt")
    given = options(tmp_path / "images", weights=str(tmp_path / "weights.pt"))
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    assert call("discover", argv) == 2
    assert "was not opened, since loading it could run code" in capsys.readouterr().err
    assert not marker.exists()
    pickle.loads(pickle.dumps(Payload(marker)))
    assert marker.exists(), "the payload would have worked"


def test_a_table_that_is_none(tmp_path: Path) -> None:
    for name, data in {"a.csv": b"path\n\xff\xfe\n", "b.parquet": b"no", "c.csv": b""}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match="cannot be read as a table"):
            list_dataset(tmp_path / name)
    (tmp_path / "d.csv").write_text("path\nnowhere.png\nnul\0.png\n")
    with pytest.raises(UserError, match=r"the first refused: nowhere\.png: file unread"):
        list_dataset(tmp_path / "d.csv")
