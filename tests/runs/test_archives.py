"""Runs of earlier versions are opened, queried, verified, and their atlas is made again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import Run, discover, open_run, status, verify
from pipeline.store.encoding import SEAL, _digest
from tests.calling import call

ARCHIVES = Path(__file__).resolve().parents[1] / "archives"
VERSIONS = sorted(path.name for path in ARCHIVES.iterdir() if path.is_dir())


@pytest.fixture(scope="module", params=VERSIONS)
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of an archived run, with its images where it thinks they are."""
    base = tmp_path_factory.mktemp("archive")
    copy: Path = base / "run"
    shutil.copytree(ARCHIVES / request.param / "run", copy)
    shutil.copytree(ARCHIVES / request.param / "images", base / "images")
    # It was made in another folder; where a dataset lies is the only thing that may change.
    record = json.loads((copy / "run.json").read_text(encoding="utf-8"))
    was = record["dataset"]["root"]
    record["dataset"]["root"] = str(base / "images")
    record["config"]["dataset"] = str(base / "images")
    config = copy / "config.toml"
    config.write_text(config.read_text(encoding="utf-8").replace(was, str(base / "images")))
    if record.pop(SEAL, None):  # the first version's had none
        record[SEAL] = _digest(record)
    (copy / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def run(archive: Path) -> Run:
    return open_run(archive)


def test_there_are_archives() -> None:
    assert "0.1.0" in VERSIONS


def test_it_is_opened_and_queried(run: Run) -> None:
    counts = run.sql("select count(*) as n from images")["n"].iloc[0]
    assert counts == run.workspace.record.images.n
    concepts = run.table("concepts")
    assert concepts["energy"].sum() == pytest.approx(1 - run.workspace.bank.error**2, abs=1e-6)
    assert len(concepts) == run.bank.W.shape[1] == run.workspace.bank.k
    held = run.images_with(0)
    assert len(held)
    told = run.sql("select correct, label_name, true_class, note from images")
    assert len(told) == counts  # null where the run is older than the column
    for table in ("regions", "objects", "fidelity", "k_metrics", "rejected", "concept_pairs"):
        run.table(table)
    has_suspects = (run.workspace.folder / "bank" / "suspects.json").exists()
    assert run.suspects().attrs["reason"]
    assert ("earlier version" in run.suspects().attrs["reason"]) == (not has_suspects)


def test_its_images_are_shown_explained_and_encoded(run: Run) -> None:
    image_id = int(run.table("images")["image_id"].iloc[0])
    maps = run.heatmap(image_id)
    assert maps.shape == (run.workspace.bank.k, *run.image(image_id).shape[:2])
    stored = run.grid_heatmap(image_id)
    found = run.bank.encode([run.image(image_id)]).H[0]
    assert np.abs(found - stored).max() < 0.02 * stored.max()
    assert run.object_mask(image_id).shape == maps.shape[1:]
    assert run.concept_map(image_id).shape == maps.shape[1:]
    assert run.explain(run.image(image_id)).heatmaps.shape == maps.shape
    assert len(run.meaning.ablate([0], [image_id])) == 1


def test_its_files_are_as_they_were_written(archive: Path) -> None:
    bad = {path.relative_to(archive).as_posix() for path in verify(archive).bad}
    # The configuration was edited above, and the atlas is not archived.
    assert bad == {"config.toml", "atlas/atlas.json"}


def test_its_atlas_is_made_again_and_nothing_else(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Where the images lie, and the times of their files, are as they are in this copy.
    moved = {"run.json", "config.toml", "activations/images.parquet"}
    paths = [path for path in archive.rglob("*") if path.is_file()]
    kept = [path for path in paths if path.relative_to(archive).as_posix() not in moved]
    before = {path: path.read_bytes() for path in kept}
    assert call("discover", {"run": archive, "machine": "any"}) == 0, capsys.readouterr().err
    query = re.search(r'sql\("(select .+?)"\)', capsys.readouterr().out)
    assert query is not None
    assert len(open_run(archive).sql(query[1])) > 0  # what is shown to be tried can be
    assert (archive / "atlas" / "index.html").is_file()
    assert {path: path.read_bytes() for path in before} == before
    assert status(archive).is_finished
    assert verify(archive).is_whole


def test_it_takes_more_images(archive: Path, tmp_path: Path) -> None:
    run = shutil.copytree(archive, tmp_path / "run")
    images = shutil.copytree(archive.parent / "images", tmp_path / "images")
    first = next(path for path in sorted(images.rglob("*")) if path.is_file())
    with Image.open(first) as picture:
        picture.rotate(90).save(first.with_name("added.png"))
    name = first.with_name("added.png").relative_to(images).as_posix()
    before = {path: path.read_bytes() for path in run.glob("heatmaps/*")}
    found = discover(images, run=run, machine="any")
    assert {path: path.read_bytes() for path in before} == before
    assert found.table("images").set_index("path")["split"][name] == "heldout"
    H = found.bank.encode([images / name]).H[0]
    assert np.abs(H - found.grid_heatmap(name)).max() < 0.02 * H.max()
    assert verify(run).is_whole
