"""Runs at several layers from one forward pass: what they are alone, each knowing the others."""

from __future__ import annotations

import json
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest import CaptureFixture, MonkeyPatch

from pipeline import Run, compare, discover, open_run
from pipeline.errors import UserError
from pipeline.images import DECODING
from pipeline.jobs import batch
from pipeline.models import load_network
from pipeline.runs.estimate import SHARDS_IN_FLIGHT
from pipeline.runs.find import find_run, find_siblings
from pipeline.runs.record import RUN, RunRecord
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample
from pipeline.store import SHARD_BYTES
from pipeline.store.encoding import seal
from pipeline.store.shards import ShardStore
from tests.calling import call

LAYERS = ("shapes", "joints", "parts")
N_IMAGES = 48


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together") / "sample"
    write_sample(folder, n_images=N_IMAGES, size=64)
    return folder / "images"


def options(images: Path, **more: Any) -> dict[str, Any]:
    return {
        "dataset": images, "model": "sample", "image_size": 64, "k": 3, "precision": "fp32", **more
    }  # fmt: skip


@pytest.fixture(scope="module")
def alone(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs that each layer has by itself."""
    folder = tmp_path_factory.mktemp("alone")
    made = {name: discover(**options(images, run=folder / name, layer=name)) for name in LAYERS}
    return {name: run.folder for name, run in made.items()}


def check_equal(folder: Path, other: Path) -> None:
    """Hold two runs to have the same activations, concepts and heatmaps, number by number."""
    ours, theirs = Workspace.open(folder), Workspace.open(other)
    assert ours.listing.n_shards == theirs.listing.n_shards
    for index in range(ours.listing.n_shards):
        for store, names in (("activations", ["V", "logits", "norm"]), ("heatmaps", ["H"])):
            a, b = (getattr(each, store).read(index, names) for each in (ours, theirs))
            for name in names:
                np.testing.assert_array_equal(a[name], b[name], err_msg=f"{store} {name}")
    np.testing.assert_array_equal(ours.bank.W, theirs.bank.W)


def check_matches(a: Run, b: Run) -> None:
    """Hold concepts of two layers to be matched by their maps, worked out here anew."""
    found = compare(a, b)
    assert found.by == "maps"
    assert sorted(found.pairs["concept_a"]) == sorted(found.pairs["concept_b"]) == [0, 1, 2]
    image_ids = a.table("images")["image_id"].tolist()
    maps = [np.stack([np.nan_to_num(run.heatmap(each)) for each in image_ids], 1) for run in (a, b)]
    flat = [each.reshape(3, -1) for each in maps]
    norms = [np.linalg.norm(each, axis=1) for each in flat]
    cosines = flat[0] @ flat[1].T / np.outer(*norms)
    best = max(permutations(range(3)), key=lambda order: sum(cosines[range(3), order]))
    assert tuple(found.pairs.sort_values("concept_a")["concept_b"]) == best
    np.testing.assert_allclose(found.pairs["cosine"], cosines[range(3), best], atol=0.03)


@pytest.mark.slow
def test_each_run_is_what_it_is_alone(
    images: Path, alone: dict[str, Path], tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    decoded: list[str] = []
    decode = batch.decode_image

    def counted(workspace: Workspace, record: Any) -> Any:
        decoded.append(record.path)
        return decode(workspace, record)

    monkeypatch.setattr(batch, "decode_image", counted)
    first = discover(**options(images, run=tmp_path / "run", layers=LAYERS))
    assert len(decoded) == N_IMAGES, "every image went through the network once"
    assert first.folder == tmp_path / "run-shapes"
    assert list(first.siblings) == ["joints", "parts"]
    for name in LAYERS:
        check_equal(tmp_path / f"run-{name}", alone[name])
        run = open_run(tmp_path / f"run-{name}")
        assert set(run.siblings) == {*LAYERS} - {name}
        assert set(run.table("concepts")["layer"]) == {name}
        page = tmp_path / f"run-{name}" / "atlas" / "index.html"
        for other in {*LAYERS} - {name}:
            link = f"../../run-{other}/atlas/index.html"
            assert f'<a href="{link}">{other}</a>' in page.read_text(encoding="utf-8")
            assert (page.parent / link).is_file()
    check_matches(first, first.siblings["parts"])
    # Found again, nothing is made anew; one of them by itself goes on as any run.
    decoded.clear()
    discover(**options(images, run=tmp_path / "run", layers=LAYERS))
    discover(run=tmp_path / "run-joints")
    assert not decoded
    moved = shutil.copytree(first.folder, tmp_path / "elsewhere" / "mine")
    assert open_run(moved).siblings == {}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_what_was_killed_between_two_runs_goes_on(
    images: Path,
    alone: dict[str, Path],
    tmp_path: Path,
    monkeypatch: MonkeyPatch,
    workers: int,
) -> None:
    write = ShardStore.write

    def fails(self: ShardStore, index: int, *args: Any, **kinds: Any) -> None:
        if "run-joints" in str(self.folder):
            raise UserError("the disk is full")
        write(self, index, *args, **kinds)

    with monkeypatch.context() as patched:
        patched.setattr(ShardStore, "write", fails)
        with pytest.raises(UserError, match="the disk is full"):
            discover(**options(images, run=tmp_path / "run", layers="shapes, joints, parts"))
    shards = {name: Workspace.open(tmp_path / f"run-{name}").activations for name in LAYERS}
    assert [each.missing() for each in shards.values()] == [[], [0], [0]]
    before = shards["shapes"].record(0)
    discover(
        **options(images, run=tmp_path / "run", layers="shapes, joints, parts", workers=workers)
    )
    assert shards["shapes"].record(0) == before, "what was there stayed"
    for name in LAYERS:
        if not workers:
            check_equal(tmp_path / f"run-{name}", alone[name])
        ours, theirs = (Workspace.open(each) for each in (tmp_path / f"run-{name}", alone[name]))
        found, expected = (each.activations.read(0, ["V"])["V"] for each in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_one_that_was_begun_alone_stays_as_it_is(
    images: Path, alone: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(alone["joints"], tmp_path / "run-joints")
    discover(**options(images, run=tmp_path / "run", layers=["joints", "parts"]))
    check_equal(tmp_path / "run-joints", alone["joints"])
    check_equal(tmp_path / "run-parts", alone["parts"])
    assert set(open_run(tmp_path / "run-joints").siblings) == {"parts"}


def test_layers_of_other_images_are_not_compared(alone: dict[str, Path], tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=12, seed=7, size=64)
    for path in (tmp_path / "sample" / "images").rglob("*.jpg"):
        path.rename(path.with_name(f"other-{path.name}"))
    run = discover(**options(tmp_path / "sample" / "images", run=tmp_path / "run", layer="parts"))
    assert compare(run, alone["parts"]).by == "directions"
    with pytest.raises(UserError, match="have no image in common"):
        compare(run, alone["shapes"])


def test_memory_for_decoding_is_what_all_layers_leave(
    images: Path, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    limits: list[float] = []
    monkeypatch.setattr(DECODING, "limit", limits.append)
    given = options(images, max_memory="4GB", run=tmp_path / "run") | {"dataset": str(images)}
    find_run({**given, "layer": "parts", "run": tmp_path / "alone"})
    alone = limits[-1]
    find_siblings({**given, "layers": LAYERS})
    shards = 2 * SHARDS_IN_FLIGHT * SHARD_BYTES  # of the two layers more
    assert limits[-1] <= alone - shards


def test_layers_of_a_module(images: Path, tmp_path: Path) -> None:
    network = load_network("sample").module
    some: dict[str, Any] = {"k": 2, "image_size": 64, "limit": 24, "keep": "heatmaps"}
    run = discover(
        images,
        network=network,
        layers=[network.get_submodule("joints"), "parts"],
        run=tmp_path / "run",
        **some,
    )
    assert [run.folder.name, *run.siblings] == ["run-joints", "parts"]


@pytest.mark.slow
def test_by_the_command_line(images: Path, tmp_path: Path, capsys: CaptureFixture[str]) -> None:
    given = {**options(images), "run": tmp_path / "run", "layers": "joints,parts", "limit": 24}
    assert call("discover", given) == 0
    told = capsys.readouterr()
    assert "joints, parts from one forward pass" in told.err
    assert told.out.count("run-") >= 2


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"layers": "joints,joints.0,joints"}, "two of them are the same layer"),
        ({"layers": "parts,auto"}, "two of them are the same layer"),
        ({"layers": "parts", "layer": "joints"}, "are both given"),
        ({"layers": "parts,,joints"}, "a name is empty"),
        ({"layers": "parts,nowhere"}, "has no layer 'nowhere'"),
    ],
)
def test_what_is_refused(images: Path, tmp_path: Path, given: dict[str, str], what: str) -> None:
    with pytest.raises(UserError, match=what):
        discover(**options(images, run=tmp_path / "run", **given))
    assert not list(tmp_path.iterdir()), "nothing was begun"


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\\b", "nul\0"])
def test_a_record_leads_nowhere_else(alone: dict[str, Path], tmp_path: Path, name: str) -> None:
    run = shutil.copytree(alone["parts"], tmp_path / "run")
    path = run / "run.json"
    says = json.loads(path.read_text(encoding="utf-8"))
    says["siblings"] = {"joints": name}
    says.pop("sha256")
    path.write_text(json.dumps(seal(RUN, says)), encoding="utf-8")
    with pytest.raises(UserError, match="siblings"):
        RunRecord.load(path)
