"""Trouble while reading: what passes is waited for, what stays is the image's, and tried again."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.analysis.report import summary
from pipeline.analysis.run import open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.images import DecodeError, FolderSource, ImageRecord, list_dataset, read_image
from pipeline.images.trouble import OF_THE_FILE
from pipeline.jobs.discover import discover_run
from pipeline.jobs.execute import execute
from pipeline.jobs.extract import list_rejected
from pipeline.runs.plan import to_make
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from tests.sources import ROOT

PASSING = (
    errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.EAGAIN, errno.EINTR,
    errno.ETIMEDOUT, errno.ENETDOWN, None,
)  # fmt: skip


def write(base: Path, n: int = 6, side: int = 40) -> Path:
    base.mkdir()
    for index in range(n):
        pixels = np.random.default_rng(index).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(base / f"{index}.png")
    return base


def begin(base: Path, run: Path, **more: str) -> Workspace:
    options = {"dataset": str(base), "model": "sample", "image_size": "64", "k": "3"}
    return prepare(make_config(options | more), run)


class Troubled(FolderSource):
    """A folder on a disk that fails for a while."""

    def __init__(self, root: Path, code: int | None, times: int) -> None:
        super().__init__(root)
        self.code, self.left = code, times

    def read(self, image: ImageRecord) -> bytes:
        if self.left:
            self.left -= 1
            raise OSError("lost") if self.code is None else OSError(self.code, "trouble")
        return super().read(image)


@pytest.mark.parametrize("code", PASSING)
def test_trouble_that_passes_costs_no_image(tmp_path: Path, code: int | None) -> None:
    base = write(tmp_path / "images", 1)
    (image,) = list_dataset(base).images
    pixels, digest = read_image(Troubled(base, code, 2), image)
    assert pixels.shape == (3, 40, 40)
    assert len(digest) == 64


@pytest.mark.parametrize("code", sorted(OF_THE_FILE))
def test_what_is_the_files_own_refuses_the_image_at_once(tmp_path: Path, code: int) -> None:
    base = write(tmp_path / "images", 1)
    (image,) = list_dataset(base).images
    source = Troubled(base, code, 2)
    with pytest.raises(DecodeError, match=r"^file unreadable: trouble$"):
        read_image(source, image)
    assert source.left == 1


def test_trouble_that_does_not_pass_stops_the_job_and_the_same_call_goes_on(tmp_path: Path) -> None:
    base = write(tmp_path / "images")
    workspace = begin(base, tmp_path / "run")
    workspace.__dict__["source"] = Troubled(base, errno.EIO, 1_000)
    with pytest.raises(UserError, match=r"^\d\.png could not be read in 4 attempts: trouble; .*on"):
        execute(workspace, ["extract"])
    assert workspace.activations.missing() == [0]
    workspace = begin(base, tmp_path / "run")
    execute(workspace, ["extract"])
    assert list_rejected(workspace) == []
    assert len(workspace.activations.read(0, ["image_id"])["image_id"]) == 6


def python(code: str, *arguments: object) -> str:
    """Run Python in a process of its own, whose limits are its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FEW_FILES = """
import os, resource, sys
from pipeline.errors import UserError
from pipeline.images import decode, list_dataset, read_image
found = list_dataset(sys.argv[1])
read_image(found.source, found.images[0])
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), before[1]))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for act in (lambda: read_image(found.source, found.images[0]), lambda: list_dataset(sys.argv[1])):
    try:
        act()
    except UserError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_NOFILE, before)
print(tuple(read_image(found.source, found.images[0])[0].shape))
"""


@pytest.mark.slow
def test_too_many_open_files_refuse_nothing(tmp_path: Path) -> None:
    base = write(tmp_path / "images", 2)
    image, folder, shape = python(FEW_FILES, base).splitlines()
    assert image.startswith("0.png could not be read in 4 attempts: Too many open files;")
    assert folder.startswith(f"{base} could not be read in 4 attempts: Too many open files;")
    assert shape == "(3, 40, 40)"


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from pipeline.errors import UserError
from pipeline.images import list_dataset, load_image, read_image
found = list_dataset(sys.argv[1])
small, large = found.images
read_image(found.source, small)
before = resource.getrlimit(resource.RLIMIT_AS)
now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 10_000_000, before[1]))
for act in (
    lambda: read_image(found.source, large), lambda: load_image(found.source.file(large.path))
):
    try:
        act()
    except UserError as error:
        print(str(error).replace(str(found.source.root), "there"))
resource.setrlimit(resource.RLIMIT_AS, before)
print(tuple(read_image(found.source, large)[0].shape))
"""


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_too_little_memory_refuses_nothing(tmp_path: Path, kind: str) -> None:
    base = write(tmp_path / "images", 1)
    Image.new("RGB", (4_000, 4_000), "red").save(base / f"large.{kind}")
    image, alone, shape = python(LITTLE_MEMORY, base).splitlines()
    assert image.startswith(f"large.{kind} could not be decoded: memory ran out;")
    assert alone == f"there/large.{kind} cannot be decoded: memory ran out"
    assert shape == "(3, 4000, 4000)"


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["all", "none"])
def test_what_could_not_be_opened_is_tried_again(tmp_path: Path, keep: str) -> None:
    base = write(tmp_path / "images")
    (base / "damaged.png").write_bytes(b"no image")
    (base / "gone.png").symlink_to(tmp_path / "disk" / "gone.png")
    before = discover_run(begin(base, tmp_path / "run", keep=keep))
    assert dict(before.table("rejected").to_numpy().tolist()) == {
        "damaged.png": "not an image",
        "gone.png": "file unreadable: No such file or directory",
    }
    assert summary(before).splitlines()[1:4] == [
        f"2 of 8 inputs were refused; {before.folder}/tables/rejected.parquet says which and why",
        "      1  not an image: damaged.png",
        "      1  file unreadable: No such file or directory: gone.png",
    ]
    assert to_make(begin(base, tmp_path / "run", keep=keep)) == {}  # nothing has changed
    (write(tmp_path / "disk", 1) / "0.png").rename(tmp_path / "disk" / "gone.png")
    assert "extract" in to_make(begin(base, tmp_path / "run", keep=keep))
    after = discover_run(begin(base, tmp_path / "run", keep=keep))
    assert dict(after.table("rejected").to_numpy().tolist()) == {"damaged.png": "not an image"}
    assert set(after.table("images").path) == {*(f"{index}.png" for index in range(6)), "gone.png"}
    fresh = discover_run(begin(base, tmp_path / "fresh", keep=keep))
    assert np.array_equal(open_run(after.folder).bank.W, fresh.bank.W)
    assert to_make(begin(base, tmp_path / "run", keep=keep)) == {}
    (base / "damaged.png").unlink()
    write(tmp_path / "more", 1)
    (tmp_path / "more" / "0.png").rename(base / "damaged.png")
    with pytest.raises(UserError, match=r"since then 1 was replaced \('damaged\.png'\)"):
        begin(base, tmp_path / "run", keep=keep)
