"""Names of a finished run: read from its images, written to its tables, shown in its atlas."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import UserError, plugins
from pipeline.analysis.kind_words import called
from pipeline.analysis.naming import N_STRONGEST, describe, name_concepts, strongest_by_image
from pipeline.analysis.run import Run, open_run
from pipeline.analysis.strongest import strongest_images
from pipeline.names import Described, Name, Named
from pipeline.sample import write_sample

HOSTILE = "<b>x</b>\n\u202e\x1b[31m & co"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("naming")
    write_sample(folder / "sample", n_images=64, size=64)
    where = folder / "sample" / "images"
    return pipeline.discover(where, model="sample", k=3, image_size=64, run=folder / "run")


def described(run: Run) -> list[Described]:
    tables = run.table("concept_labels"), run.table("concept_pairs")
    verdicts = run.table("concepts")[["kind", "group"]]
    return describe(run.workspace, strongest_by_image(run.workspace), *tables, verdicts)


def said(texts: pd.Series) -> list[str | None]:
    return [None if pd.isna(each) else str(each) for each in texts]


def test_the_strongest_images_are_those_of_a_query(run: Run) -> None:
    rows = run.sql("select * from image_concepts")
    held = rows[rows["area"] > 0].sort_values(["max", "image_id"], ascending=[False, True])
    expected = held.groupby("concept_id").head(N_STRONGEST)
    found = strongest_by_image(run.workspace)
    assert {(i, j) for i, each in found.items() for j in each} == set(
        zip(expected["image_id"], expected["concept_id"], strict=True)
    )
    concept, rank, image = strongest_images(run.workspace, 5)
    for each, own in held.groupby("concept_id"):
        assert image[concept == each].tolist() == own["image_id"].head(5).tolist()
        assert rank[concept == each].tolist() == list(range(min(5, len(own))))


def test_the_table_holds_the_names_and_what_they_rest_on(run: Run) -> None:
    named = name_concepts(run.workspace, described(run))
    table = run.table("concepts")
    assert said(table["name"]) == [each and each.ranked[0].text for each in named]
    assert said(table["name_evidence"]) == [each and each.evidence for each in named]
    assert any(said(table["name"]))


def test_the_namer_is_told_the_labels_and_companions_of_the_tables(run: Run) -> None:
    labels = run.table("concept_labels")
    for each in described(run):
        own = labels[labels["concept_id"] == each.concept_id]
        assert {one.label for one in each.labels} == set(own["label"])
        assert max(own["phi"]) == each.labels[0].phi
        pairs = run.table("concept_pairs")
        mine = pairs[
            (pairs["concept_a"] == each.concept_id) | (pairs["concept_b"] == each.concept_id)
        ]
        assert each.companions[0].jaccard == pytest.approx(mine["jaccard"].max())


def test_verdicts_reach_the_namer(run: Run) -> None:
    kinds, group = ["group", "shared", None], ["boats", "boats", None]
    verdicts = pd.DataFrame({"kind": kinds, "group": group})
    tables = run.table("concept_labels"), run.table("concept_pairs")
    found = describe(run.workspace, {}, *tables, verdicts)
    told = [("group", "boats"), ("shared", None), (None, None)]  # what is not claimed is not told
    assert [(each.kind, each.group) for each in found] == told
    assert all(each.place.n == 0 and not each.looks for each in found)


def test_images_that_are_gone_tell_no_looks_and_all_else(run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run.folder, moved)
    copy = open_run(moved)
    copy.workspace.source.__dict__["root"] = tmp_path / "nowhere"
    gone = described(copy)
    for each, before in zip(gone, described(run), strict=True):
        assert not each.looks
        assert each.labels == before.labels
        assert (each.place.words, each.place.n) == (before.place.words, before.place.n)


@pytest.mark.slow
def test_another_namer_names_a_finished_run_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run.folder, moved)
    images = str(Path(run.workspace.record.dataset.root))
    without = pipeline.discover(images, run=moved, namer="none")
    assert without.table("concepts")["name"].isna().all()

    def hostile(concepts: Sequence[Described]) -> list[Named | None]:
        return [Named((Name(HOSTILE),), HOSTILE), *([None] * (len(concepts) - 1))]

    real = plugins.load

    def load(kind: plugins.Kind, name: str) -> Any:
        return hostile if (kind, name) == (plugins.NAMERS, "hostile") else real(kind, name)

    monkeypatch.setattr(plugins, "load", load)
    named = pipeline.discover(images, run=moved, namer="hostile")
    assert said(named.table("concepts")["name"]) == [HOSTILE, *([None] * 2)]
    page = (moved / "atlas" / "concepts" / "0.html").read_text("utf-8")
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert not any(each in page for each in ("<b>x", "\u202e", "\x1b"))


@pytest.mark.parametrize("answer", [None, "low", [], [None], ["low"] * 3, [Named((), "")] * 3])
def test_a_namer_that_gives_no_names_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    tables = run.table("concept_labels"), run.table("concept_pairs")
    told = describe(run.workspace, {}, *tables)
    monkeypatch.setattr(plugins, "load", lambda *_: lambda _: answer)
    with pytest.raises(UserError, match=r"the namer 'words' gave .* for 3 concepts"):
        name_concepts(run.workspace, told)


def test_a_label_that_goes_with_it_is_no_name() -> None:
    row = {"name": None, "top_label": "kite", "group": None, "dataset_label": "airship"}
    assert called(row | {"kind": "shared"}) is None
    assert called(row | {"kind": "none"}) is None
    assert called(row | {"kind": "class", "group": "blimp"}) == "blimp"
    assert called(row | {"kind": "shared", "name": "low, blue"}) == "low, blue"
    assert called(row) == "kite"  # of an earlier version
    assert called(row | {"top_label": None}) == "airship"
