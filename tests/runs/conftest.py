"""What the tests of runs share: a small finished run, and copies of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.jobs.discover import discover
from pipeline.sample import write_sample


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and its images beside it."""
    base = tmp_path_factory.mktemp("owned")
    write_sample(base / "sample", n_images=24, size=64)
    options: dict[str, Any] = {"model": "sample", "k": "3", "image_size": "64"}
    discover(dataset=str(base / "sample" / "images"), run=str(base / "run"), **options)
    return base / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(made, copy)
    return copy


def contents(folder: Path) -> dict[str, bytes | str]:
    """Return what lies below a folder: contents of files, targets of links."""
    return {
        path.relative_to(folder).as_posix(): (
            f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes()
        )
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
