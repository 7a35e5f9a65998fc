"""What all tests share: one thread, real weights and images where there are any, one folder."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported anywhere; several tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")


import hypothesis
import pytest
import torch

pytest.register_assert_rewrite("tests.faults.jobs")

from pipeline.jobs import places  # noqa: E402
from tests.faults.jobs import Case, make_case  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

# Machines that run tests are slow at times; how long an example takes says nothing.
hypothesis.settings.register_profile("concordance", deadline=None, print_blob=True)
hypothesis.settings.load_profile("concordance")


@pytest.fixture(autouse=True)
def denormals() -> Iterator[None]:
    """Give every test numbers as IEEE 754 has them; the engine flushes the smallest to zero."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test begin as a call from Python."""
    monkeypatch.setenv("CONCORDANCE_CALLED_FROM", "python")  # and not deleted: it is put back


@pytest.fixture(autouse=True)
def proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test have the proxies of its environment: urllib keeps those it saw first."""
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.fixture(autouse=True, scope="session")
def pictures() -> Iterator[None]:
    """Move few pictures in jobs that are about something else: they are passes of the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "N_PICTURES", 16)
        patch.setattr(places, "FEWEST", 16)
        yield


@pytest.fixture(scope="session")
def assets() -> Path:
    """Folder of real weights and images (`weights/`, `images/`); skips where it is missing."""
    folder = ROOT / os.environ.get("CONCORDANCE_ASSETS", "../shared/assets")
    if not ((folder / "weights").is_dir() and (folder / "images").is_dir()):
        pytest.skip(f"no real weights and images in {folder}; set CONCORDANCE_ASSETS=<folder>")
    return folder.resolve()


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give folders that last as long as the session; one name is one folder."""
    base = tmp_path_factory.mktemp("session")

    def folder(name: str) -> Path:
        path = base / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    return folder


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """A small job of three shards, what it leaves, and servers that carry it out with faults."""
    with make_case(tmp_path_factory.mktemp("faults")) as made:
        yield made
