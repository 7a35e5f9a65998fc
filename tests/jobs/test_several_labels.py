"""Images with several labels: each of them counts, in tables, co-localization and probes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import matthews_corrcoef

from pipeline import evaluate, open_run
from pipeline.analysis.objects import read_objects
from pipeline.analysis.run import Run
from pipeline.errors import UserError
from pipeline.images import list_dataset
from pipeline.jobs.discover import discover
from pipeline.sample import write_sample

OPTIONS: dict[str, Any] = {"model": "sample", "k": "4", "image_size": "64"}

PLACES = {
    "in the air": ("airship", "glider", "helicopter", "plane"),
    "on water": ("dinghy", "longship", "motorboat", "steamer", "yacht"),
}

Rows = list[tuple[str, list[str]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("several")
    write_sample(made, n_images=64, size=64)
    return made


def rows_of(folder: Path) -> Rows:
    """Name what is in each image, and where it is if that is plain."""
    rows = []
    for path in sorted((folder / "images").rglob("*.jpg")):
        label = path.parent.name
        more = next((where for where, names in PLACES.items() if label in names), None)
        several = [label] if more is None else [label, more]
        rows.append((path.relative_to(folder).as_posix(), several))
    return rows


def write(kind: str, folder: Path, rows: Rows) -> Path:
    where = folder / f"list.{kind}"
    paths, labels = [path for path, _ in rows], [several for _, several in rows]
    if kind == "csv":
        frame = pd.DataFrame({"path": paths, "label": ["; ".join(each) for each in labels]})
        frame.to_csv(where, index=False)
    elif kind == "parquet":
        pq.write_table(pa.table({"path": paths, "labels": labels}), where)
    else:
        lines = [json.dumps({"path": path, "label": each}) for path, each in rows]
        where.write_text("\n".join(lines))
    return where


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    where = write("parquet", folder, rows_of(folder))
    return discover(dataset=str(where), run=str(folder / "run"), **OPTIONS)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_lists_and_semicolons_are_several_labels(kind: str, tmp_path: Path) -> None:
    write_sample(tmp_path, n_images=6, size=64)
    paths = [path for path, _ in rows_of(tmp_path)]
    said = [["cat", "dog"], ["cat"], [], ["dog", "dog"], ["é"], ["cow"]]
    found = list_dataset(write(kind, tmp_path, list(zip(paths, said, strict=True))))
    labels = {image.path: image.labels for image in found.images}
    assert [labels[path] for path in paths] == [
        ("cat", "dog"), ("cat",), (), ("dog",), ("é",), ("cow",)
    ]  # fmt: skip
    assert found.describe() == (
        "6 images; 4 labels: cat, cow, dog, é; 1 with several labels; 1 without a label"
    )


def test_lists_of_something_else_are_no_labels(tmp_path: Path) -> None:
    table = pa.table({"path": ["a.png"], "label": [[[1]]]})
    pq.write_table(table, tmp_path / "list.parquet")
    with pytest.raises(UserError, match=r"column 'label' holds list<.*no texts"):
        list_dataset(tmp_path / "list.parquet")


def test_each_label_counts_in_the_tables(run: Run) -> None:
    images = run.table("images")
    labels = images["labels"].map(list)
    assert images["label"].tolist() == [";".join(each) for each in labels]
    assert {len(each) for each in labels} == {1, 2}
    strength = run.sql("select image_id, concept_id from image_concepts where area > 0").assign(
        held=True
    )
    held = (
        strength.pivot(index="image_id", columns="concept_id", values="held")
        .reindex(images["image_id"])
        .notna()
    )
    rows = run.table("concept_labels")
    assert set(rows["label"]) == {each for several in labels for each in several}
    for row in rows.to_dict("records"):
        member = labels.map(lambda each, name=row["label"]: name in each).to_numpy()
        holds = held[row["concept_id"]].to_numpy()
        assert row["n"] == (member & holds).sum()
        assert row["precision"] == pytest.approx(member[holds].mean())
        if 0 < holds.sum() < len(holds):
            assert row["phi"] == pytest.approx(matthews_corrcoef(member, holds))


def test_the_network_is_right_if_its_class_is_one_of_them(run: Run, tmp_path: Path) -> None:
    images = run.table("images")
    of = run.workspace.class_of_label
    wrong = [
        top not in {of[each] for each in labels if each in of}
        for top, labels in zip(images["pred_class"], images["labels"], strict=True)
    ]
    fidelity = run.table("fidelity")
    said = fidelity[(fidelity["metric"] == "accuracy_network") & fidelity["class_id"].isna()]
    heldout = (images["split"] == "heldout").to_numpy()
    assert said["value"].iloc[0] == pytest.approx(1 - np.array(wrong)[heldout].mean())


def test_objects_are_searched_for_in_the_images_of_each_label(run: Run) -> None:
    groups = read_objects(run.workspace).coarse.groups
    labels = {each for several in run.table("images")["labels"] for each in several}
    assert set(groups) == {f"label {each}" for each in labels}


def test_scores_are_by_each_label(run: Run, folder: Path) -> None:
    found = evaluate(run, folder / "objects")
    by_label = found.by_label().set_index("label")
    assert by_label.loc["all", "images"] == 64
    assert by_label["images"].drop("all").sum() > 64
    assert "in the air" in by_label.index


def test_runs_are_opened_and_gone_on_with(run: Run, folder: Path) -> None:
    again = discover(dataset=str(folder / "list.parquet"), run=str(run.folder), **OPTIONS)
    assert (
        again.workspace.listing.labels.tolist()
        == open_run(run.folder).workspace.listing.labels.tolist()
    )
    page = (run.folder / "atlas" / "index.html").read_text(encoding="utf-8")
    assert "in the air" in page + "".join(
        path.read_text(encoding="utf-8")
        for path in (run.folder / "atlas" / "images").glob("*.html")
    )


def test_which_images_are_taken_rightly_is_told(run: Run) -> None:
    images, names = run.table("images"), run.workspace.class_names
    for row in images.to_dict("records"):
        assert row["correct"] == (row["pred_label"] in row["labels"])  # a place is no class
        assert row["label_name"] == ";".join(row["labels"])
        assert names[int(row["true_class"])] == row["labels"][0]
    share = run.sql("select avg(correct::int) as share from images where correct")["share"][0]
    assert share == 1
    assert run.images_with(0).correct.isin([True, False]).all()


def test_a_probe_of_several_labels_is_one_for_each(folder: Path, tmp_path: Path) -> None:
    write("csv", folder, rows_of(folder))
    found = discover(
        dataset=str(folder / "list.csv"), run=str(tmp_path / "run"), head="probe",
        balance="class", **OPTIONS,
    )  # fmt: skip
    assert found.workspace.record.link == "sigmoid"
    assert found.workspace.cut.link == "sigmoid"
    images = found.table("images")
    heldout = images[images["split"] == "heldout"]
    labels = found.workspace.probe.labels
    scored = heldout[heldout["labels"].map(lambda each: bool(set(each) & set(labels)))]
    right = [top in each for top, each in zip(scored["pred_label"], scored["labels"], strict=True)]
    assert found.workspace.probe.accuracy == pytest.approx(np.mean(right))
