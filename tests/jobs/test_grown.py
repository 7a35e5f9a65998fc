"""Runs that are given more images: what is there stays, old concepts are found in new images.

Fitted anew, they are what a run of all images would be.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytest import CaptureFixture, MonkeyPatch

from pipeline import Run, compare, discover, open_run, status, verify
from pipeline.analysis.report import summary
from pipeline.errors import UserError
from pipeline.jobs import batch, factorize
from pipeline.runs.integrity import Verdict
from pipeline.runs.plan import to_make
from pipeline.runs.record import RUN, RunRecord
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample
from pipeline.store import Listing
from pipeline.store.encoding import seal
from tests.calling import call
from tests.faults.jobs import Server, contents, serving

N_IMAGES, N_FIRST = 56, 36


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of all classes, in a random order."""
    folder = tmp_path_factory.mktemp("grown") / "sample"
    write_sample(folder, n_images=N_IMAGES, size=64)
    paths = sorted((folder / "images").rglob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(paths))
    return [paths[index] for index in order]


def put(paths: list[Path], folder: Path) -> Path:
    """Lay images, or more of them, into a dataset; return its folder."""
    for path in paths:
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return folder


def options(**more: Any) -> dict[str, Any]:
    return {"model": "sample", "image_size": 64, "k": 3, "precision": "fp32", **more}


@pytest.fixture(scope="module")
def begun(sample: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the first images and a finished run of them."""
    base = tmp_path_factory.mktemp("begun")
    discover(put(sample[:N_FIRST], base / "photos"), run=base / "run", **options())
    return base


@pytest.fixture
def base(begun: Path, tmp_path: Path) -> Path:
    """A copy of that folder, whose run knows where its images are."""
    copy = shutil.copytree(begun, tmp_path / "base", copy_function=shutil.copy2)
    discover(copy / "photos", run=copy / "run")
    return copy


@pytest.fixture
def decoded(monkeypatch: MonkeyPatch) -> list[str]:
    """Paths of the images that go through the network."""
    found: list[str] = []
    decode = batch.decode_image

    def counted(workspace: Workspace, record: Any) -> Any:
        found.append(record.path)
        return decode(workspace, record)

    monkeypatch.setattr(batch, "decode_image", counted)
    return found


def names(paths: list[Path]) -> list[str]:
    return sorted(f"{path.parent.name}/{path.name}" for path in paths)


def files_of(run: Path, *patterns: str) -> dict[str, tuple[int, bytes]]:
    """Return contents and times of files."""
    return {
        path.relative_to(run).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
        for pattern in patterns
        for path in run.glob(pattern)
        if path.is_file()
    }


KEPT = ("activations/shard-*", "activations/images*", "bank/*", "heatmaps/shard-*")


def check_encoded(run: Run, paths: list[Path], photos: Path) -> None:
    """Hold images of a run to be what its bank finds in them by itself."""
    for name in names(paths):
        found = run.bank.encode([photos / name])
        np.testing.assert_allclose(run.grid_heatmap(name), found.H[0], rtol=2e-3, atol=2e-3)


def test_only_new_images_are_encoded(base: Path, sample: list[Path], decoded: list[str]) -> None:
    before = files_of(base / "run", *KEPT)
    old_rows = open_run(base / "run").table("image_concepts")
    put(sample, base / "photos")
    run = discover(base / "photos", run=base / "run")
    assert sorted(decoded) == names(sample[N_FIRST:])
    now = files_of(base / "run", *KEPT)
    assert {name: now[name] for name in before} == before
    assert len(now) > len(before)
    images = run.table("images").set_index("path")
    assert len(images) == N_IMAGES
    assert set(images.loc[names(sample[N_FIRST:]), "split"]) == {"heldout"}
    check_encoded(run, sample[N_FIRST:], base / "photos")
    rows = run.table("image_concepts")
    of_old = rows[rows["image_id"].isin(old_rows["image_id"])].reset_index(drop=True)
    assert of_old.equals(old_rows.reset_index(drop=True))
    concepts = run.table("concepts").set_index("concept_id")
    counted = rows[rows["area"] > 0].groupby("concept_id").size()
    assert concepts["n_images"].to_dict() == counted.to_dict()
    page = (base / "run" / "atlas" / "index.html").read_text(encoding="utf-8")
    assert f"{N_IMAGES} (the concepts are those of the first {N_FIRST})" in page
    assert verify(base / "run").is_whole
    decoded.clear()
    before = files_of(base / "run", "*/*", "atlas/**/*.html")
    discover(base / "photos", run=base / "run")
    discover(run=base / "run")
    assert not decoded
    after = files_of(base / "run", "*/*", "atlas/**/*.html")
    assert [name for name in after if name[:4] != "logs" and after[name] != before[name]] == []


@pytest.mark.slow
def test_what_changed_is_said(base: Path, sample: list[Path], capsys: CaptureFixture[str]) -> None:
    put(sample[:50], base / "photos")
    given = {"run": base / "run", "dataset": base / "photos"}
    assert call("discover", given) == 0
    printed = capsys.readouterr()
    said = f"grown      14 images added since: encoded with the bank of {N_FIRST} images"
    assert f"{said}, REFIT=yes fits anew" in printed.err
    line = f"UTC: 14 images added, concepts of the first {N_FIRST} of 50"
    assert line in printed.out
    for name in ("status", "verify"):
        assert call(name, {"run": base / "run"}) == 0
        assert line in capsys.readouterr().out
    assert line in summary(open_run(base / "run"))
    put(sample, base / "photos")
    assert call("discover", {"run": base / "run"}) == 0
    printed = capsys.readouterr()
    left = f"6 images of the dataset are not of this run: DATASET={base / 'photos'} adds them"
    assert left in printed.err
    assert call("discover", given | {"refit": "yes"}) == 0
    printed = capsys.readouterr()
    said = f"grown      6 images added since: the concepts are fitted to all {N_IMAGES}"
    assert said in printed.err
    assert re.search(rf"{line}\n.*: 6 images added, concepts of all {N_IMAGES}", printed.out)
    assert call("discover", {"run": base / "run", "refit": "yes"}) == 0
    printed = capsys.readouterr()
    assert f"the concepts are those of all {N_IMAGES} images already" in printed.err
    assert len(status(base / "run").history) == 2
    assert verify(base / "run") == Verdict(
        verify(base / "run").n_good, {}, status(base / "run").history
    )


def check_like(run: Run, other: Run) -> None:
    """Hold two runs of the same images to have the same concepts, up to the order of the data."""
    found = compare(run, other)
    assert found.pairs["cosine"].min() > 0.9
    ours, theirs = run.workspace.bank, other.workspace.bank
    assert 1 - ours.error**2 == pytest.approx(1 - theirs.error**2, rel=0.01)
    a, b = (each.workspace.images[["path", "label", "split"]] for each in (run, other))
    assert a.to_numpy().tolist() == b.to_numpy().tolist(), "samples of them are the same"
    for split in ("fit", "heldout"):
        assert run.workspace.sample(split, 200) == other.workspace.sample(split, 200)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("in_two", [False, True])
def test_fitted_anew_it_is_a_run_of_all(
    base: Path, sample: list[Path], tmp_path: Path, decoded: list[str], in_two: bool
) -> None:
    was = shutil.copytree(base / "run", tmp_path / "was")
    put(sample, base / "photos")
    if in_two:
        discover(base / "photos", run=base / "run")
        run = discover(run=base / "run", refit=True)
    else:
        run = discover(base / "photos", run=base / "run", refit="yes")
    assert sorted(decoded) == names(sample[N_FIRST:])
    anew = discover(base / "photos", run=tmp_path / "anew", **options())
    check_like(run, anew)
    check_encoded(run, sample, base / "photos")
    assert not np.array_equal(run.workspace.bank.W, open_run(was).workspace.bank.W)
    assert compare(open_run(was), run).pairs["cosine"].min() > 0.5
    assert verify(base / "run").is_whole
    assert len(run.workspace.record.history) == 1 + in_two


@pytest.mark.slow
def test_it_grows_several_times(base: Path, sample: list[Path], decoded: list[str]) -> None:
    for n in (40, 41, N_IMAGES):
        decoded.clear()
        n_before = open_run(base / "run").workspace.record.images.n
        put(sample[:n], base / "photos")
        run = discover(base / "photos", run=base / "run")
        assert sorted(decoded) == names(sample[n_before:n])
    listing = run.workspace.listing
    assert listing.starts == (0, N_FIRST, 40, 41)
    assert [len(listing.shard(index)) for index in range(listing.n_shards)] == [
        N_FIRST, 4, 1, 15
    ]  # fmt: skip
    check_encoded(run, sample, base / "photos")
    assert [each.fitted for each in run.workspace.record.history] == [N_FIRST] * 3


def test_a_bank_that_is_made_again_is_the_same(
    base: Path, sample: list[Path], decoded: list[str], monkeypatch: MonkeyPatch
) -> None:
    put(sample, base / "photos")
    discover(base / "photos", run=base / "run")
    before = files_of(base / "run", *KEPT, "tables/*")
    (base / "run" / "bank" / "bank.h5").write_bytes(b"x")
    (base / "run" / "bank" / "classes.h5").unlink()
    decoded.clear()
    with monkeypatch.context() as patched:

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(factorize, "fit_run", killed)
        with pytest.raises(KeyboardInterrupt):
            discover(run=base / "run")
    discover(run=base / "run")
    assert not decoded
    after = files_of(base / "run", *KEPT, "tables/*")
    assert [name for name in before if after[name][1] != before[name][1]] == []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("keep", ["heatmaps", "none"])
def test_what_is_not_kept(
    base: Path, sample: list[Path], decoded: list[str], keep: str, capsys: CaptureFixture[str]
) -> None:
    """Outcomes are those of runs that keep all; what has to be made again is said beforehand."""
    put(sample, base / "photos")
    kept = shutil.copytree(base / "run", base / "kept")
    discover(base / "photos", run=kept)
    discover(run=base / "run", keep=keep)
    assert not (base / "run" / "activations" / "shard-00000.h5").exists()
    decoded.clear()
    capsys.readouterr()
    given = {"run": base / "run", "dataset": base / "photos"}
    assert call("discover", given) == 0
    again = f"the activations of {N_FIRST} images that the run had are not there (KEEP={keep})"
    assert (again in capsys.readouterr().err) == (keep == "none")
    assert sorted(decoded) == names(sample[N_FIRST:] if keep == "heatmaps" else sample)
    tables = files_of(kept, "tables/*.parquet")
    found = files_of(base / "run", "tables/*.parquet")
    assert [name for name in tables if found[name][1] != tables[name][1]] == []
    assert not [*(base / "run" / "activations").glob("*.h5")]
    decoded.clear()
    assert call("discover", {"run": base / "run", "refit": "yes"}) == 0
    again = f"the activations of {N_IMAGES} images that the run had are not there"
    assert again in capsys.readouterr().err
    assert sorted(decoded) == names(sample)
    discover(run=kept, refit="yes")
    for name in ("bank/bank.h5", "tables/concepts.parquet"):
        assert (kept / name).read_bytes() == (base / "run" / name).read_bytes()


@pytest.mark.long
@pytest.mark.slow
def test_before_there_are_concepts_all_are_fitted_to(
    base: Path, sample: list[Path], tmp_path: Path, decoded: list[str]
) -> None:
    given = options(dataset=base / "photos", run=tmp_path / "run")
    assert call("extract", given) == 0
    put(sample, base / "photos")
    discover(run=tmp_path / "run")  # as it was begun
    assert len(open_run(tmp_path / "run").table("images")) == N_FIRST
    given["run"] = tmp_path / "other"
    put(sample[:N_FIRST], tmp_path / "photos")
    assert call("extract", given | {"dataset": tmp_path / "photos"}) == 0
    put(sample, tmp_path / "photos")
    decoded.clear()
    run = discover(tmp_path / "photos", run=tmp_path / "other")
    assert sorted(decoded) == names(sample[N_FIRST:])
    assert run.workspace.record.history[0].fitted == N_IMAGES
    check_like(run, discover(**options(dataset=tmp_path / "photos", run=tmp_path / "anew")))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("keep", ["all", "heatmaps", "none"])
def test_an_added_image_that_could_not_be_opened_is_tried_again(
    base: Path, sample: list[Path], tmp_path: Path, keep: str
) -> None:
    """The bank is not made again for it."""
    link = base / "photos" / "later.jpg"
    link.symlink_to(tmp_path / "disk" / "later.jpg")
    put(sample[N_FIRST:50], base / "photos")
    discover(base / "photos", run=base / "run", keep=keep)
    before = files_of(base / "run", "bank/bank.*", "activations/shard-00000*")
    assert open_run(base / "run").table("rejected")["path"].tolist() == ["later.jpg"]
    link.resolve().parent.mkdir()
    shutil.copy(sample[50], link.resolve())
    run = discover(run=base / "run")
    assert run.table("rejected").empty
    assert "later.jpg" in set(run.table("images")["path"])
    assert len(run.table("images")) == 51
    after = files_of(base / "run", "bank/bank.*", "activations/shard-00000*")
    assert {name: each[1] for name, each in after.items()} == {
        name: each[1] for name, each in before.items()
    }
    assert "factorize" not in to_make(Workspace.open(base / "run"))


def test_new_labels_copies_and_damaged_images(base: Path, sample: list[Path]) -> None:
    photos = base / "photos"
    first, second = sample[N_FIRST:][:2]
    for name in ("heron/1.jpg", "heron/2.jpg"):  # of no class
        (photos / name).parent.mkdir(exist_ok=True)
        shutil.copy(first if name[-5] == "1" else second, photos / name)
    copied = names(sample[:1])[0]
    shutil.copy(photos / copied, photos / copied.replace("/", "/copy-"))
    (photos / "heron" / "broken.jpg").write_bytes(first.read_bytes()[:300])
    (photos / "heron" / "empty.jpg").touch()
    before = open_run(base / "run").table("images").set_index("path")["split"]
    run = discover(photos, run=base / "run")
    images = run.table("images").set_index("path")
    assert images.loc[before.index, "split"].equals(before)
    assert images["split"][copied.replace("/", "/copy-")] == "copy"
    assert set(images["label"][images["label"] == "heron"].index) == {"heron/1.jpg", "heron/2.jpg"}
    rejected = run.table("rejected")["path"].tolist()
    assert rejected == ["heron/broken.jpg", "heron/empty.jpg"]
    assert len(images) == N_FIRST + 3
    labels = run.sql("select distinct label from concept_labels")["label"].tolist()
    assert "heron" in labels
    with pytest.raises(UserError, match="2 images could not be read, more than max_rejects=1"):
        put(sample, photos)
        discover(photos, run=base / "run", max_rejects=1)


@pytest.mark.long
@pytest.mark.slow
def test_labels_of_a_class_may_be_new_and_old_ones_keep_theirs(
    sample: list[Path], tmp_path: Path
) -> None:
    label = sample[0].parent.name
    others = [path for path in sample if path.parent.name != label]
    photos = put(others[:20], tmp_path / "photos")
    run = discover(photos, run=tmp_path / "run", **options())
    assert label not in run.workspace.class_of_label
    put(sample[:20], photos)
    run = discover(photos, run=tmp_path / "run")
    assert label in run.workspace.class_of_label
    table = tmp_path / "classes.csv"
    old = others[0].parent.name
    table.write_text(f"label,class_id\n{label},0\n")
    discover(photos, run=tmp_path / "by-table", classes=table, **options())
    shutil.copy(photos / names(sample[:1])[0], photos / label / "one-more.jpg")
    table.write_text(f"label,class_id\n{label},0\n{old},1\n")
    with pytest.raises(UserError, match="was made with classes="):
        discover(photos, run=tmp_path / "by-table", classes=table, **options())


@pytest.mark.long
@pytest.mark.slow
def test_a_probe_stays_and_fits_new_labels_when_told(sample: list[Path], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for index, path in enumerate(sample[:30]):
        (photos / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, photos / "ab"[index % 2])
    run = discover(photos, run=tmp_path / "run", **options(head="probe"))
    probe = (tmp_path / "run" / "bank" / "probe.h5").read_bytes()
    assert run.workspace.class_names == ("a", "b")
    for path in sample[30:]:
        (photos / "c").mkdir(exist_ok=True)
        shutil.copy(path, photos / "c")
    run = discover(photos, run=tmp_path / "run")
    assert (tmp_path / "run" / "bank" / "probe.h5").read_bytes() == probe
    assert run.workspace.class_names == ("a", "b")
    assert len(run.table("images")) == N_IMAGES
    run = discover(run=tmp_path / "run", refit="yes")
    assert run.workspace.class_names == ("a", "b", "c")
    assert (tmp_path / "run" / "bank" / "probe.h5").read_bytes() != probe


def deep(paths: list[Path], folder: Path, low: int, high: int) -> None:
    """Write images as 16-bit PNG whose values lie in a range."""
    for path in paths:
        grey = np.asarray(Image.open(path).convert("L"), dtype=np.float64) / 255
        target = folder / path.parent.name / f"{path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((low + grey * (high - low)).astype(np.uint16)).save(target)


def test_the_range_of_16_bit_values_stays(sample: list[Path], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    deep(sample[:20], photos, 100, 4_000)
    run = discover(photos, run=tmp_path / "run", **options())
    ranges = run.workspace.record.preprocessing.ranges
    deep(sample[20:30], photos, 0, 60_000)
    run = discover(photos, run=tmp_path / "run")
    assert ranges
    assert run.workspace.record.preprocessing.ranges == ranges
    assert len(run.table("images")) == 30
    paths = [path.with_suffix(".png") for path in sample[20:30]]
    check_encoded(run, paths, photos)


@pytest.mark.long
@pytest.mark.slow
def test_a_limit_holds_until_it_is_raised(
    base: Path, sample: list[Path], tmp_path: Path, decoded: list[str], capsys: CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    run = discover(base / "photos", run=folder, **options(limit=20))
    first = set(run.table("images")["path"])
    put(sample, base / "photos")
    decoded.clear()
    capsys.readouterr()
    assert call("discover", {"run": folder, "dataset": base / "photos"}) == 0
    said = f"the run keeps to 20 images of the {N_IMAGES} there are now: a larger LIMIT adds more"
    assert said in capsys.readouterr().err
    assert not decoded
    run = discover(run=folder, limit=30)
    assert len(decoded) == 10
    images = run.table("images").set_index("path")
    assert len(images) == 30
    assert first < set(images.index)
    assert run.workspace.config.limit == 30
    decoded.clear()
    run = discover(run=folder, limit=1_000)
    assert len(decoded) == N_IMAGES - 30
    discover(run=folder, limit=2_000)
    discover(run=folder, limit=1_000)
    assert len(decoded) == N_IMAGES - 30
    assert [each.limit for each in run.workspace.record.history] == [20, 30]
    for limit in (10, 999):
        with pytest.raises(UserError, match=rf"was made with (?i:limit)=1000, now it is {limit}"):
            discover(run=folder, limit=limit)
    with pytest.raises(UserError, match=r"was made with (?i:limit)=None, now it is 500"):
        discover(run=base / "run", limit=500)


@pytest.mark.long
@pytest.mark.slow
def test_parts_grow_a_run_once(base: Path, sample: list[Path], tmp_path: Path) -> None:
    put(sample, base / "photos")
    whole = shutil.copytree(base / "run", tmp_path / "run")
    discover(base / "photos", run=whole)
    for part in ("1/2", "0/2"):
        given = {"run": base / "run", "dataset": base / "photos", "shard": part}
        assert call("discover", given) == 0
    discover(run=base / "run")
    ours, theirs = (
        files_of(each, "heatmaps/*.h5", "tables/*.parquet") for each in (whole, base / "run")
    )
    assert {name: each[1] for name, each in ours.items()} == {
        name: each[1] for name, each in theirs.items()
    }
    assert len(open_run(base / "run").workspace.record.history) == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("keep", ["all", "heatmaps"])
def test_runs_made_together_grow_together(
    sample: list[Path], tmp_path: Path, decoded: list[str], keep: str
) -> None:
    photos = put(sample[:N_FIRST], tmp_path / "photos")
    given: dict[str, Any] = {"run": tmp_path / "run", "layers": "shapes,parts", "keep": keep}
    discover(photos, **given, **options())
    put(sample, photos)
    decoded.clear()
    first = discover(photos, **given)
    assert sorted(decoded) == names(sample[N_FIRST:]), "one forward pass for both"
    for run in (first, first.siblings["parts"]):
        check_encoded(run, sample[N_FIRST:], photos)
        assert run.workspace.record.history[0].fitted == N_FIRST
    assert compare(first, first.siblings["parts"]).by == "maps"


@pytest.mark.long
@pytest.mark.slow
def test_workers_change_nothing(base: Path, sample: list[Path], tmp_path: Path) -> None:
    put(sample, base / "photos")
    other = shutil.copytree(base / "run", tmp_path / "run")
    discover(base / "photos", run=base / "run")
    discover(base / "photos", run=other, workers=2)
    ours, theirs = (files_of(each, "*/*.h5") for each in (base / "run", other))
    assert {name: each[1] for name, each in ours.items()} == {
        name: each[1] for name, each in theirs.items()
    }


@pytest.mark.slow
def test_touched_images_of_a_run_that_grew_are_compared(
    base: Path, sample: list[Path], decoded: list[str]
) -> None:
    photos = base / "photos"
    for n in (44, N_IMAGES):
        for path in photos.rglob("*.jpg"):
            os.utime(path)
        put(sample[:n], photos)
        discover(photos, run=base / "run")
    for path in photos.rglob("*.jpg"):
        os.utime(path)
    discover(photos, run=base / "run")
    assert len(decoded) == N_IMAGES - N_FIRST
    assert verify(base / "run").is_whole
    name = names(sample[44:45])[0]
    Image.new("RGB", (64, 64), "red").save(photos / name)
    with pytest.raises(UserError, match=f"since then 1 was replaced \\('{name}'"):
        discover(photos, run=base / "run")


@pytest.mark.slow
def test_what_was_killed_before_the_record_knew_goes_on(
    base: Path, sample: list[Path], tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    """The listing of what is added is there by then, and counts as nothing."""
    put(sample, base / "photos")
    other = shutil.copytree(base / "run", tmp_path / "run")
    with monkeypatch.context() as patched:

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(Workspace, "note", killed)
        with pytest.raises(KeyboardInterrupt):
            discover(base / "photos", run=base / "run")
    assert (base / "run" / "activations" / "images-1.parquet").exists()
    assert len(open_run(base / "run").workspace.listing.frame) == N_FIRST
    assert verify(base / "run").is_whole
    (base / "photos" / names(sample[-1:])[0]).unlink()  # what it said holds no more
    discover(base / "photos", run=base / "run")
    discover(base / "photos", run=other)
    assert_alike(base / "run", contents(other))


def assert_alike(run: Path, expected: dict[str, bytes]) -> None:
    """Assert that a run holds what another holds, but for when it grew."""

    def timeless(files: dict[str, bytes]) -> dict[str, bytes]:
        says = json.loads(files["run.json"])
        for name in ("root", "fingerprint"):
            says["dataset"].pop(name)
        for change in says["history"]:
            del change["when"]
        return files | {"run.json": json.dumps(says, sort_keys=True).encode()}

    found, wanted = timeless(contents(run)), timeless(expected)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def kill_points(refit: str) -> list[tuple[str, int]]:
    """Return what is renamed when a run grows, and the how many-th time, in that order."""
    heatmaps = ["heatmaps/shard-00000.h5", "heatmaps/shard-00001.json"]
    again = [
        "bank/k_metrics.json", "bank/bank.h5", "bank/bank.json", *heatmaps, "bank/objects.h5",
        "bank/classes.json",
    ]  # fmt: skip
    names = [
        "config.toml", "activations/images-1.parquet", "run.json", "activations/shard-00001.h5",
        "activations/shard-00001.json", *(again if refit == "yes" else heatmaps[1:]),
        "tables/images.parquet", "tables/tables.json", "atlas/index.html", "atlas/atlas.json",
    ]  # fmt: skip
    return [*((name, 1) for name in names), ("run.json", 2), ("run.json", 3)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("serving")) as found:
        yield found


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("step", [1, 6])
@pytest.mark.parametrize("refit", ["no", "yes"])
def test_kills_while_it_grows(
    base: Path, sample: list[Path], tmp_path: Path, server: Server, refit: str, step: int
) -> None:
    """Killed at each file that is published, the same command comes to the same bytes."""
    put(sample, base / "photos")
    old = shutil.copytree(base / "run", tmp_path / "old" / "run")
    # The run was made with as many threads as the tests have, those that are killed have one.
    given = {"dataset": base / "photos", "refit": refit, "machine": "any"}

    def copy(name: str) -> Path:
        return shutil.copytree(old, tmp_path / name / "run")

    whole = copy("whole")
    ended = server.job(given | {"run": whole})
    assert ended.code == 0, ended.printed
    expected = contents(whole)
    bank = (old / "bank" / "bank.h5").read_bytes()
    one_by_one = copy("one-by-one")
    n_killed = 0
    for name, at in kill_points(refit)[::step]:
        for run in (copy(f"{name}-{at}"), one_by_one):
            ended = server.job(given | {"run": run}, call="rename", path=name, at=at)
            assert ended.code in (0, -signal.SIGKILL), ended.printed
            is_killed = ended.code != 0
            n_killed += is_killed
            assert is_killed or run == one_by_one or at > 2, (name, at)
            assert (run / "bank" / "bank.h5").read_bytes() in (bank, expected["bank/bank.h5"])
            if run != one_by_one:
                ended = server.job(given | {"run": run})
                assert ended.code == 0, ended.printed
                assert_alike(run, expected)
                shutil.rmtree(run)
    ended = server.job(given | {"run": one_by_one})
    assert ended.code == 0, ended.printed
    assert_alike(one_by_one, expected)
    assert n_killed > 20 // step


def removed(photos: Path) -> None:
    next(photos.rglob("*.jpg")).unlink()


def replaced(photos: Path) -> None:
    path = next(photos.rglob("*.jpg"))
    Image.new("RGB", (64, 64), "red").save(path)


def relabelled(photos: Path) -> None:
    listed = sorted(path.relative_to(photos) for path in photos.rglob("*.jpg"))
    rows = [f"{path},{path.parent if index else 'other'}\n" for index, path in enumerate(listed)]
    (photos / "labels.csv").write_text(f"path,label\n{''.join(rows)}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (removed, "since then 1 was removed"),
        (replaced, "since then 1 was replaced"),
        (relabelled, "since then 1 was given another label"),
    ],
)
def test_what_else_has_changed_is_refused(
    base: Path, sample: list[Path], change: Callable[[Path], None], sentence: str
) -> None:
    before = contents(base / "run")
    change(base / "photos")
    put(sample[N_FIRST:], base / "photos")
    with pytest.raises(UserError, match=sentence):
        discover(base / "photos", run=base / "run")
    with pytest.raises(UserError, match=r"was made with k=\[3\], now it is \[4\]"):
        discover(base / "photos", run=base / "run", **options(k=4))
    assert contents(base / "run") == before


def test_what_never_was_fitted_is_not_fitted_anew(base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refit='yes' fits .* anew, and .*none is no run yet"):
        discover(base / "photos", run=tmp_path / "none", refit="yes", **options())
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match="refit='perhaps' is not possible"):
        discover(run=base / "run", refit="perhaps")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_run_that_cannot_be_written_is_refused(base: Path, sample: list[Path]) -> None:
    put(sample, base / "photos")
    for path in (base / "run", *(base / "run").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with pytest.raises(UserError, match="cannot be written"):
        discover(base / "photos", run=base / "run")


def damaged_file(run: Path) -> None:
    (run / "activations" / "images.parquet").write_bytes(b"x")


def damaged_addition(run: Path) -> None:
    (run / "activations" / "images-1.parquet").unlink()


def lost_record(run: Path) -> None:
    (run / "run.json").unlink()


def other_times(run: Path) -> None:
    """What a job leaves that was killed while it noted that files were touched."""
    for name in ("images.parquet", "images-1.parquet"):
        path = run / "activations" / name
        listing = Listing.load(path)
        frame = listing.frame.assign(modified=listing.frame["modified"] + 1)
        replace(listing, frame=frame).save(path)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("damage", [damaged_file, damaged_addition, lost_record, other_times])
def test_a_damaged_listing_is_mended(
    base: Path, sample: list[Path], decoded: list[str], damage: Callable[[Path], None]
) -> None:
    for n in (45, N_IMAGES):
        put(sample[:n], base / "photos")
        discover(base / "photos", run=base / "run")
    before = contents(base / "run")
    fitted = [each.fitted for each in open_run(base / "run").workspace.record.history]
    decoded.clear()
    damage(base / "run")
    if damage is not lost_record:
        assert not verify(base / "run").is_whole
    discover(**options(dataset=base / "photos", run=base / "run"))
    assert not decoded
    after = contents(base / "run")
    assert [name for name in before if name != "run.json" and after[name] != before[name]] == []
    assert verify(base / "run").is_whole
    assert [each.fitted for each in open_run(base / "run").workspace.record.history] == fitted


def test_a_damaged_listing_of_another_dataset_is_refused(base: Path, sample: list[Path]) -> None:
    put(sample, base / "photos")
    discover(base / "photos", run=base / "run")
    damaged_file(base / "run")
    (base / "photos" / names(sample[:1])[0]).unlink()
    with pytest.raises(UserError, match=r"images\.parquet is damaged, and the dataset is no"):
        discover(base / "photos", run=base / "run")


@pytest.mark.parametrize(
    "history",
    [
        [{"added": 20, "fitted": 5}], [{"added": -1}], [{"added": 19}], [{"fitted": 0}],
        [{"before": {"n": 0, "digest": "x"}, "added": 56}], [{"added": 20}, {"added": 20}], [],
    ],
)  # fmt: skip
def test_a_history_that_cannot_be_is_refused(
    base: Path, sample: list[Path], history: list[dict[str, Any]]
) -> None:
    put(sample, base / "photos")
    discover(base / "photos", run=base / "run")
    path = base / "run" / "run.json"
    says = json.loads(path.read_text())
    says["history"] = [says["history"][0] | each for each in history]
    del says["sha256"]
    path.write_text(json.dumps(seal(RUN, says)))
    with pytest.raises(UserError, match=r"run\.json is damaged \(.*(history|files)"):
        RunRecord.load(path)
