"""Nothing but a run's own files is ever overwritten, read for its own, or removed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import verify
from pipeline.analysis.run import open_run
from pipeline.config_file import read_options
from pipeline.errors import UserError
from pipeline.jobs.discover import discover
from pipeline.runs.clean import clean
from pipeline.runs.ownership import is_run, split_files
from pipeline.runs.record import RunRecord
from pipeline.store.encoding import seal
from pipeline.store.records import RECORD
from pipeline.system import files
from tests.calling import call
from tests.runs.conftest import contents

SITE = {
    "config.toml": 'baseURL = "https://example.org"\ntitle = "My site"\n',
    "tables/results.csv": "a,b\n1,2\n",
    "logs/lab-notes.txt": "day 1",
    "atlas/brain.nii": "voxels",
    "bank/statement.pdf": "money",
}
RUNNER = {"run.json": '{"name": "somebody else\'s", "config": {}}', "model.tmp-best": "weights"}
LOGS = {"logs/run.log": "day 1: nothing\n"}
PAST = {"run.json": '{"encoding-type": "otherprogram.run", "encoding-version": "1.0"}'}


@pytest.mark.parametrize(
    "held", [SITE, RUNNER, LOGS, PAST], ids=["a site", "another's run", "a log", "a kin"]
)
def test_a_folder_of_somebody_else_is_no_run(
    made: Path, tmp_path: Path, held: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    for name, text in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = contents(folder)
    assert not is_run(folder)
    images = made.parent / "sample" / "images"
    for name, options in (
        ("clean", {}),
        ("discover", {"dataset": images, "model": "sample", "k": "3"}),
        ("discover", {}),
        ("extract", {"dataset": images, "model": "sample"}),
        ("status", {}),
        ("verify", {}),
        ("concepts", {}),
    ):
        assert call(name, {"run": folder, **options}) == 2, name
        assert str(folder) in capsys.readouterr().err
        assert contents(folder) == before
    with pytest.raises(UserError):
        open_run(folder)


FOREIGN = (
    "notes.txt", "logs/train.lock", "nested/x.h5.concordance-tmp-12",
    "model.tmp-best", "bank/model.tmp-12", "bank/bank.h5.bak", "bank/weights.h5",
    "tables/results.csv", "tables/mine.parquet", "atlas/brain.nii", "atlas/concepts/notes.html",
    "atlas/mine/page.html", "logs/lab-notes.txt", "activations/shard-1.h5", "evaluation/my.csv",
    "activations/shard-00077.h5", "atlas/media/photo.jpg", "x.concordance-tmp-best",
)  # fmt: skip


def test_what_else_lies_in_a_run_stays_and_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "shard-00000.h5").write_bytes(b"precious")
    for name in FOREIGN:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    (run / "atlas" / "elsewhere").symlink_to(outside)
    (run / "tables" / "concepts.link").symlink_to(outside / "shard-00000.h5")
    (run / "bank" / f"half.h5{files.TEMPORARY}4242").write_bytes(b"half")
    mine = {name: found for name, found in contents(run).items() if name in FOREIGN}
    (run / "atlas" / "atlas.json").unlink()
    (run / "bank" / "classes.json").unlink()
    assert call("discover", {"run": run}) == 0  # makes atlas and classes again, and sweeps
    assert not list(run.rglob("*4242"))
    assert {name: found for name, found in contents(run).items() if name in FOREIGN} == mine
    assert verify(run).is_whole
    capsys.readouterr()
    assert call("clean", {"run": run}) == 0
    told = capsys.readouterr().out
    assert "not the run's own, and left: " in told
    assert f"and {len(FOREIGN) + 2 - 5} more" in told
    links = {"atlas/elsewhere", "tables/concepts.link"}
    assert set(contents(run)) == {*FOREIGN, *links}
    assert contents(outside) == {"shard-00000.h5": b"precious"}
    assert not is_run(run)


def test_a_run_alone_is_removed_whole(run: Path) -> None:
    ours, others = split_files(run)
    assert others == []
    assert {path.relative_to(run).as_posix() for path in ours} == set(contents(run))
    assert clean(run) == []
    assert not run.exists()


@pytest.mark.parametrize("name", ["run.json", "config.toml", "bank/bank.json"])
def test_a_file_of_another_program_in_the_place_of_ours_stays(run: Path, name: str) -> None:
    said = {".json": '{"encoding-type": "otherprogram.x"}', ".toml": 'title = "My site"\n'}
    (run / name).write_text(said[Path(name).suffix])
    assert clean(run) == [run / name]
    assert (run / name).read_text() == said[Path(name).suffix]


@pytest.mark.parametrize("lost", ["run.json", "config.toml"])
def test_a_run_of_which_one_half_of_its_identity_is_damaged_is_removed_whole(
    run: Path, lost: str
) -> None:
    (run / lost).write_bytes((run / lost).read_bytes()[:40])
    assert is_run(run)
    assert clean(run) == []
    assert not run.exists()


def test_an_atlas_that_was_begun_is_known_as_ours(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill while pages were written: no record, but a note of what was to come."""
    atlas = run / "atlas"
    shutil.rmtree(atlas)
    atlas.mkdir()
    (atlas / "mine.html").write_text("mine")
    n_written, write = 0, files.write_bytes

    def die(path: Path, data: bytes, *, durable: bool = True) -> None:
        nonlocal n_written
        n_written += path.parent.parent == atlas
        if n_written > 40:
            raise KeyboardInterrupt
        write(path, data, durable=durable)

    monkeypatch.setattr(files, "write_bytes", die)
    with pytest.raises(KeyboardInterrupt):
        discover(run=str(run))
    monkeypatch.undo()
    assert not (atlas / "atlas.json").exists()
    _, others = split_files(run)
    assert others == [atlas / "mine.html"]
    discover(run=str(run))
    assert not (atlas / "atlas.begun.json").exists()
    assert verify(run).is_whole
    assert clean(run) == [atlas / "mine.html"]


HOSTILE = (
    "../../outside/results.h5", "/dev/zero", "../run.json", "folder", "./bank.h5", "..",
    "a/../../../outside/results.h5", "nul\0.h5", "..\\..\\outside\\results.h5", "link.h5", "",
)  # fmt: skip


@pytest.mark.parametrize("record", ["activations/shard-00000", "bank/bank", "atlas/atlas"])
@pytest.mark.parametrize("name", [*HOSTILE, "outside, absolute"])
def test_records_of_others_name_nothing_outside(run: Path, record: str, name: str) -> None:
    outside = run.parent / "outside"
    outside.mkdir()
    (outside / "results.h5").write_bytes(b"precious")
    (run / record).parent.joinpath("folder").mkdir()
    (run / record).parent.joinpath("folder", "deep.h5").write_bytes(b"precious")
    (run / record).parent.joinpath("link.h5").symlink_to(outside / "results.h5")
    if name == "outside, absolute":
        name = str(outside / "results.h5")
    path = run / f"{record}.json"
    value: dict[str, Any] = json.loads(path.read_bytes())
    value.pop("sha256")
    value["files"][name] = {"bytes": 8, "sha256": hashlib.sha256(b"another").hexdigest()}
    path.write_text(json.dumps(seal(RECORD, value)))
    before = contents(outside)
    found = verify(run)
    assert path in found.bad
    discover(run=str(run))
    assert contents(outside) == before
    assert (run / record).parent.joinpath("folder", "deep.h5").read_bytes() == b"precious"
    assert verify(run).is_whole
    clean(run)
    assert contents(outside) == before
    assert (run / record).parent.joinpath("folder", "deep.h5").read_bytes() == b"precious"


def test_files_of_a_run_are_no_links(run: Path) -> None:
    shard = run / "heatmaps" / "shard-00000.h5"
    moved = run.parent / "elsewhere.h5"
    shard.rename(moved)
    shard.symlink_to(moved)
    assert shard in verify(run).bad
    ids = open_run(run).table("images")["image_id"]
    with pytest.raises(UserError, match=r"shard-00000\.h5 is a link"):
        open_run(run).grid_heatmap(int(ids[0]))


@pytest.mark.parametrize("name", ["writer.lock", "run.log"])
def test_nothing_is_written_through_a_link(run: Path, name: str) -> None:
    """Locks and logs are written in place, so a link there would lead to somebody's file."""
    victim = run.parent / "victim"
    victim.write_bytes(b"precious" * 40)
    (run / "logs" / name).unlink()
    (run / "logs" / name).symlink_to(victim)
    shutil.rmtree(run / "atlas")  # there is something to make, and to log
    for name in ("discover", "clean"):
        call(name, {"run": run})
        assert victim.read_bytes() == b"precious" * 40


@pytest.mark.parametrize(
    "name", ["logs", "bank", "tables", "heatmaps", "activations", "atlas", "evaluation"]
)
def test_folders_of_a_run_are_no_links(run: Path, name: str) -> None:
    outside = run.parent / "outside"
    (run / name).mkdir(exist_ok=True)
    (run / name).rename(outside)
    (outside / "scores.csv").write_text("mine")
    (run / name).symlink_to(outside)
    before = contents(outside)
    calls: list[Callable[[Path], object]] = [
        open_run, verify, clean, lambda folder: discover(run=str(folder)),
    ]  # fmt: skip
    for call_ in calls:
        with pytest.raises(UserError, match=f"{name} is a link"):
            call_(run)
    assert contents(outside) == before


@pytest.mark.parametrize("name", ["media", "concepts", "static"])
def test_an_atlas_is_not_written_through_links(run: Path, name: str) -> None:
    outside = run.parent / "outside"
    (run / "atlas" / name).rename(outside)
    (run / "atlas" / name).symlink_to(outside)
    before = contents(outside)
    with pytest.raises(UserError, match=f"{name} is a link"):
        discover(run=str(run), atlas_images="none")
    assert contents(outside) == before


def test_an_atlas_without_copies_leaves_none_of_an_earlier_one(run: Path) -> None:
    """Pictures that only the earlier, damaged atlas had are removed as well."""
    atlas, path = run / "atlas", run / "atlas" / "atlas.json"
    (atlas / "media" / "99.jpg").write_bytes(b"a picture")
    value: dict[str, Any] = json.loads(path.read_bytes())
    value.pop("sha256")
    digest = hashlib.sha256(b"a picture").hexdigest()
    value["files"]["media/99.jpg"] = {"bytes": 9, "sha256": digest}
    path.write_text(json.dumps(seal(RECORD, value)))
    (atlas / "index.html").write_text("damaged")
    discover(run=str(run), atlas_images="none")
    assert not (atlas / "media" / "99.jpg").exists()
    assert verify(run).is_whole


@pytest.mark.parametrize(
    "name", ["run.json", "config.toml", "bank/bank.h5", "activations/images.parquet"]
)
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(run: Path, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    found = open_run(run)
    if name == "config.toml":  # which is in run.json as well
        assert found.workspace.record.config["k"] == [3]
    with pytest.raises(UserError, match="no regular file"):
        RunRecord.load(run / "run.json")
        read_options(run / "config.toml")
        assert found.bank.W.size
        assert found.workspace.listing.n_shards


def test_scores_of_somebody_else_are_not_written_over(run: Path, made: Path) -> None:
    mine = run / "evaluation" / "scores.csv"
    mine.parent.mkdir()
    mine.write_text("mine")
    options = {"run": run, "masks": made.parent / "sample" / "objects"}
    assert call("evaluate", options) == 2
    assert mine.read_text() == "mine"
    mine.unlink()
    for _ in range(2):
        assert call("evaluate", options) == 0
    assert verify(run).is_whole
    mine.write_text("changed")
    assert mine in verify(run).bad
    assert clean(run) == []
