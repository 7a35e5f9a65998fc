"""A run is not resumed as something else: what has changed is shown, and what to type."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from PIL import Image

from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.images import Contents, FolderSource, content_digest
from pipeline.jobs import atlas
from pipeline.jobs.execute import execute
from pipeline.jobs.extract import extract
from pipeline.runs import beginning, identity
from pipeline.runs import prepare as preparing
from pipeline.runs.plan import to_make
from pipeline.runs.record import RUN
from pipeline.runs.workspace import Workspace
from pipeline.sample.network import WEIGHTS
from pipeline.store import ACTIVATIONS, listing
from pipeline.store.encoding import SEAL, _digest

Change = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a dataset, weights, and a run that has been extracted."""
    base = tmp_path_factory.mktemp("begun")
    rng = np.random.default_rng(0)
    for index in range(12):
        path = base / "images" / "ab"[index % 2] / f"{index}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    shutil.copy(WEIGHTS, base / "weights.safetensors")
    workspace = preparing.prepare(make_config(options(base)), base / "run")
    execute(workspace, {"extract": extract})
    return base


@pytest.fixture
def copy(begun: Path, tmp_path: Path) -> Path:
    """Return a copy of that folder."""
    return shutil.copytree(begun, tmp_path / "copy", copy_function=shutil.copy2)


def options(base: Path) -> dict[str, str]:
    return {
        "dataset": str(base / "images"),
        "weights": str(base / "weights.safetensors"),
        "model": "sample",
        "image_size": "64",
        "k": "3",
    }


def resume(base: Path, more: dict[str, str] | None = None) -> Workspace:
    return preparing.prepare(make_config(options(base) | (more or {})), base / "run")


def other_weights(base: Path) -> dict[str, str]:
    state = safetensors.torch.load_file(base / "weights.safetensors")
    state["head.bias"] = state["head.bias"] + 1
    safetensors.torch.save_file(state, base / "weights.safetensors")
    return {}


def added(base: Path) -> dict[str, str]:
    shutil.copy(base / "images" / "a" / "0.bmp", base / "images" / "a" / "new.bmp")
    return {}


def removed(base: Path) -> dict[str, str]:
    (base / "images" / "b" / "1.bmp").unlink()
    return {}


def replaced(base: Path) -> dict[str, str]:
    """Replace an image by one of the same size."""
    path = base / "images" / "a" / "4.bmp"
    size = path.stat().st_size
    Image.new("RGB", (40, 40), "red").save(path)
    assert path.stat().st_size == size
    return {}


def relabelled(base: Path) -> dict[str, str]:
    names = sorted(path.relative_to(base / "images") for path in base.glob("images/*/*"))
    rows = "".join(f"{name},{'c' if name.name == '0.bmp' else name.parent}\n" for name in names)
    (base / "images" / "list.csv").write_text(f"path,label\n{rows}")
    return {"dataset": str(base / "images" / "list.csv")}


def damaged_listing(base: Path) -> dict[str, str]:
    (base / "run" / "activations" / "images.parquet").write_bytes(b"")
    return added(base)


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda base: {"seed": "1"}, "was made with seed=0, now it is 1;"),
        (lambda base: {"k": "4", "resize": "pad"}, "k=[3], now it is [4], and with resize=squash,"),
        (lambda base: {"image_size": "72"}, "image_size=64, now it is 72"),
        (lambda base: {"layer": "shapes"}, "layer=parts, now it is shapes"),
        (lambda base: {"precision": "fp32"}, "precision=auto, now it is fp32"),
        (other_weights, "weights of SHA-256="),
        (removed, "since then 1 was removed ('b/1.bmp')"),
        (relabelled, "since then 1 was given another label ('a/0.bmp')"),
        (replaced, "since then 1 was replaced ('a/4.bmp')"),
        (damaged_listing, "images.parquet is damaged, and the dataset is no longer as it was"),
    ],
)
def test_what_has_changed_is_shown(copy: Path, change: Change, shown: str) -> None:
    before = {path: path.read_bytes() for path in (copy / "run").rglob("*.h5")}
    with pytest.raises(UserError) as caught:
        resume(copy, change(copy))
    text = str(caught.value)
    assert shown in text
    assert text.startswith(str(copy / "run"))
    assert "pass another run" in text
    assert f"clean(run={str(copy / 'run')!r})" in text
    assert {path: path.read_bytes() for path in (copy / "run").rglob("*.h5")} == before


def edit_record(base: Path, **changes: Any) -> None:
    path = base / "run" / "run.json"
    value = json.loads(path.read_text()) | changes
    value.pop(SEAL)
    path.write_text(json.dumps(value | {SEAL: _digest(value)}))  # as whoever writes it would


def test_another_format_is_refused(copy: Path) -> None:
    edit_record(copy, **{"encoding-version": "0.9"})
    before = (copy / "run" / "run.json").read_bytes()
    with pytest.raises(
        UserError, match=r"holds concordance\.run 0\.9, not concordance\.run 1\.0 to"
    ):
        resume(copy)
    assert (copy / "run" / "run.json").read_bytes() == before
    edit_record(copy, **{"encoding-version": RUN.version, "formats": {"shards": "0.9"}})
    reads = re.escape(f"(this version reads {ACTIVATIONS.oldest} to {ACTIVATIONS.version})")
    with pytest.raises(UserError, match=rf"other formats: shards 0\.9 {reads}"):
        resume(copy)


def test_another_way_from_file_to_input_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginning, "PREPROCESSING", 2)
    with pytest.raises(UserError, match=r'preprocessing=\{"version": 1, .*is \{"version": 2'):
        resume(copy)


def test_another_machine_is_refused_unless_told(copy: Path) -> None:
    machine = {"threads": 64, "instructions": "AVX512", "device": "cpu"}
    edit_record(copy, machine=machine)
    with pytest.raises(UserError, match=r"64 threads, AVX512.*machine='any'"):
        resume(copy)
    workspace = resume(copy, {"machine": "any"})
    assert "extract" not in to_make(workspace)
    assert workspace.record.machine.model_dump() == machine


def test_what_moved_or_was_touched_is_the_same(copy: Path) -> None:
    (copy / "images").rename(copy / "moved")
    (copy / "weights.safetensors").rename(copy / "w.safetensors")
    for path in copy.glob("moved/*/*"):
        os.utime(path)
    given = {"dataset": str(copy / "moved"), "weights": str(copy / "w.safetensors")}
    workspace = resume(copy, given)
    assert "extract" not in to_make(workspace)
    assert workspace.record.dataset.root == str(copy / "moved")
    again = Workspace.open(copy / "run")
    assert again.config.dataset == str(copy / "moved")
    assert isinstance(again.source, FolderSource)
    assert again.source.file("a/0.bmp").exists()


def test_touched_images_are_compared_once(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resume(copy)
    read: list[Contents] = []

    def digest(contents: Contents) -> str:
        read.append(contents)
        return content_digest(contents)

    monkeypatch.setattr(identity, "content_digest", digest)
    os.utime(copy / "images" / "a" / "0.bmp")
    resume(copy)
    assert len(read) == 12
    resume(copy)
    assert len(read) == 12


def test_an_image_not_yet_read_may_change(copy: Path) -> None:
    for name in ("shard-00000.h5", "shard-00000.json"):
        (copy / "run" / "activations" / name).unlink()
    replaced(copy)
    assert to_make(resume(copy))["extract"] == [0]


def test_how_the_work_is_done_may_change(copy: Path) -> None:
    workspace = resume(copy, {"workers": "2", "keep": "none", "max_rejects": "3"})
    assert workspace.config.workers == 2
    assert "WORKERS" not in atlas._settings(workspace)  # no page depends on it
    remembered = Workspace.open(copy / "run").config
    assert (remembered.workers, remembered.keep, remembered.max_rejects) == (0, "none", 3)


def test_shards_stay_as_they_were_cut(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Workspace.open(copy / "run").listing.images_per_shard
    monkeypatch.setattr(listing, "SHARD_BYTES", 1)
    workspace = resume(copy, {"keep": "none"})
    assert listing._images_per_shard(10**6) != before
    assert workspace.listing.images_per_shard == before
    assert Workspace.open(copy / "run").listing.images_per_shard == before
    assert "extract" not in to_make(workspace)


def test_a_stage_says_what_it_lacks(copy: Path) -> None:
    (copy / "run" / "activations" / "shard-00000.h5").unlink()
    with pytest.raises(UserError, match="factorize needs what extract makes, and that is not"):
        execute(resume(copy), {"factorize": lambda workspace: {}})
