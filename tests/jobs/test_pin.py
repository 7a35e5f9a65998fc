"""Names that people give concepts: in tables and pages, through refits, into other runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import pipeline
from pipeline.analysis.report import list_concepts
from pipeline.analysis.run import open_run as open_alone
from pipeline.cli.main import run as command
from pipeline.errors import UserError
from pipeline.jobs.pin import name_concept, names_given, take_names
from pipeline.runs.ownership import NAMES
from pipeline.sample import write_sample


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("pins")
    write_sample(where / "sample", n_images=24)
    images = where / "sample" / "images"
    return pipeline.discover(images, model="sample", k=6, run=where / "run").folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def name_of(folder: Path, concept_id: int) -> tuple[str, str]:
    found = pipeline.open_run(folder).table("concepts").set_index("concept_id").loc[concept_id]
    return str(found["name"]), str(found["name_evidence"])


def test_a_name_stands_in_tables_pages_and_listings(folder: Path) -> None:
    run = pipeline.open_run(folder)
    before = run.names
    run.name(2, "<b>wheel</b>")
    assert run.names == before | {2: "<b>wheel</b>"}
    assert name_of(folder, 2) == ("<b>wheel</b>", "Named by hand.")
    page = (folder / "atlas" / "concepts" / "2.html").read_text("utf-8")
    assert "&lt;b&gt;wheel&lt;/b&gt;" in page
    assert "<b>wheel" not in page
    assert "<b>wheel</b>" in list_concepts(run)
    assert pipeline.verify(folder).is_whole
    run.name(2, "")
    assert run.names == before


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_the_name_and_makes_nothing_anew(folder: Path) -> None:
    name_concept(folder, 1, "leg")
    written = (folder / "tables" / "concepts.parquet").stat().st_mtime_ns
    pipeline.discover(run=folder)
    assert (folder / "tables" / "concepts.parquet").stat().st_mtime_ns == written
    (folder / NAMES).unlink()
    pipeline.discover(run=folder)
    assert name_of(folder, 1)[0] != "leg"


@pytest.mark.slow
def test_names_outlive_the_run_and_are_there_when_it_is_made_again(
    made: Path, folder: Path
) -> None:
    name_concept(folder, 1, "leg")
    kept = (folder / NAMES).read_bytes()
    assert pipeline.clean(folder) == [folder / NAMES]
    assert (folder / NAMES).read_bytes() == kept
    images = made.parent / "sample" / "images"
    pipeline.discover(images, model="sample", k=6, run=folder)
    assert name_of(folder, 1) == ("leg", "Named by hand.")
    assert (folder / NAMES).read_bytes() == kept


def test_a_folder_in_the_place_of_names_is_refused_in_a_sentence(folder: Path) -> None:
    (folder / NAMES).mkdir()
    with pytest.raises(UserError, match=r"names.csv cannot be read"):
        pipeline.discover(run=folder)


@pytest.mark.parametrize("is_link", [False, True])
def test_another_table_of_that_name_is_none_of_a_run(
    made: Path, tmp_path: Path, is_link: bool
) -> None:
    (tmp_path / "run").mkdir()
    if is_link:
        (tmp_path / "run" / NAMES).symlink_to("nowhere")
    else:
        (tmp_path / "run" / NAMES).write_text("first,last\n", "utf-8")
    with pytest.raises(UserError, match=r"holds other files, such as 'names.csv'"):
        pipeline.discover(made.parent / "sample" / "images", run=tmp_path / "run")


@pytest.mark.slow
def test_another_run_takes_the_names_of_the_concepts_that_are_the_same(
    folder: Path, tmp_path: Path
) -> None:
    name_concept(folder, 0, "first")
    name_concept(folder, 3, "third")
    other = pipeline.discover(from_run=folder, run=tmp_path / "other", seed=5, k=6).folder
    carried = names_given(other)
    assert (other / NAMES).read_bytes() == (folder / NAMES).read_bytes()
    (other / NAMES).unlink()
    assert take_names(other, folder) == carried[1]
    named, lost = names_given(other)[0], carried[1]
    assert {each: name for each, (name, _) in named.items()} == {
        each: name for each, (name, _) in carried[0].items()
    }
    assert len(named) + len(lost) == 2
    assert named
    mine = pipeline.open_run(folder).bank.W
    theirs = pipeline.open_run(other).bank.W
    for concept, (name, _) in named.items():
        w, v = mine[:, {"first": 0, "third": 3}[name]], theirs[:, concept]
        assert float(w @ v / (w @ w * (v @ v)) ** 0.5) >= 0.9


@pytest.mark.slow
def test_names_given_here_are_not_replaced_and_carried_ones_can_be_taken_away(
    folder: Path, tmp_path: Path
) -> None:
    name_concept(folder, 0, "first")
    other = pipeline.discover(from_run=folder, run=tmp_path / "other", seed=5, k=6).folder
    (concept,) = names_given(other)[0]
    name_concept(other, concept, "")
    assert names_given(other) == ({}, ())
    name_concept(other, concept, "mine")
    assert take_names(other, folder) == (
        f"'first' is concept {concept}, which is called 'mine' here",
    )
    assert pipeline.open_run(other).names[concept] == "mine"


@pytest.mark.slow
def test_where_tables_cannot_be_made_now_the_name_is_kept_and_that_is_said(
    made: Path, tmp_path: Path
) -> None:
    images = made.parent / "sample" / "images"
    run = pipeline.discover(images, model="sample", k=3, run=tmp_path / "run", keep="none")
    with pytest.raises(UserError, match=r"names.csv has the names.* makes it first"):
        run.name(1, "leg")
    pipeline.discover(run=run.folder)
    assert name_of(run.folder, 1) == ("leg", "Named by hand.")


@pytest.mark.slow
def test_commands_name_take_and_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = f"--run={folder}"
    assert command("pin", [run], "stages") == 0
    assert "no concept was named by hand" in capsys.readouterr().out
    assert command("pin", [run, "--concept=4", "--name=door"], "stages") == 0
    assert "    4  door  (Named by hand.)" in capsys.readouterr().out
    table = folder.parent / "mine.csv"
    table.write_text("concept_id,name\n2,grass\n", "utf-8")
    assert command("pin", [run, f"--names={table}"], "stages") == 0
    assert "    2  grass  (Named by hand.)\n    4  door" in capsys.readouterr().out
    table.write_text("concept_id,name\n2,lawn\n", "utf-8")  # of this run: it is as it says
    assert command("pin", [run, f"--names={table}"], "stages") == 0
    assert "    2  lawn  (Named by hand.)\n    4  door" in capsys.readouterr().out
    assert command("pin", [run, "--concept=4"], "stages") == 0
    assert "door" not in capsys.readouterr().out
    for wrong, said in (
        (["--concept=9", "--name=x"], "there is no concept 9"),
        (["--concept=x", "--name=x"], "is not the number of a concept"),
        (["--name=x"], "is missing"),
        (["--concept=1", "--names=a"], "do not go together"),
        (["--names=nowhere.csv"], "there are no names at nowhere.csv"),
    ):
        assert command("pin", [run, *wrong], "stages") == 2
        assert said in capsys.readouterr().err


def test_a_damaged_file_of_names_stops_nothing_silently(folder: Path) -> None:
    (folder / NAMES).write_text("concept_id,name\n0,a\n", "utf-8")
    with pytest.raises(UserError, match=r"names.csv has no column 'fit'"):
        pipeline.discover(run=folder)


def test_who_only_reads_a_run_names_nothing(folder: Path) -> None:
    with pytest.raises(UserError, match="opened by open_run"):
        open_alone(folder).name(0, "a")
