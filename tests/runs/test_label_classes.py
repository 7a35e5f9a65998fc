"""Which class a label is, and what classes are called, by the table of `CLASSES`."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

import pipeline
from pipeline.config import Config, make_config
from pipeline.errors import UserError
from pipeline.images import Dataset, FolderSource, list_dataset, make_record
from pipeline.models import Network
from pipeline.models.class_names import imagenet
from pipeline.runs.label_classes import match_labels, renamed, unmatched
from pipeline.sample import CLASSES, write_sample


def network(*classes: str) -> Network:
    return Network("small", nn.Identity(), 8, (0, 0, 0), (1, 1, 1), classes, "", "")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels") / "sample"
    write_sample(folder, n_images=24, size=64)
    return folder


def matched(
    sample: Path, text: str, of: Network | None = None
) -> tuple[dict[str, int], dict[str, str]]:
    table = sample.parent / "classes.csv"
    table.write_text(text)
    dataset = list_dataset(sample / "images")
    return match_labels(config(table), dataset, of or network("a", "b", "c"))


def config(table: Path) -> Config:
    return make_config({"classes": table})


def test_names_are_of_classes_and_optional(sample: Path) -> None:
    one, two, three = CLASSES[:3]
    text = f"label,class_id,name\n{one},0,first\n{two},0,first\n{three},2,\n"
    assert matched(sample, text) == ({one: 0, two: 0, three: 2}, {"0": "first"})
    assert matched(sample, f"label,class_id\n{one},1\n") == ({one: 1}, {})
    assert matched(sample, f"class_id,name,label\n1,x,{one}\n") == ({one: 1}, {"1": "x"})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("{0},0,x\n{1},0,y\n", "gives class 0 two names, 'x' and 'y'"),
        ("{0},0,x\n{0},1,x\n", "maps '{0}' to two classes, 0 and 1"),
        ("{0},3,x\n", "maps '{0}' to class '3'; small has classes 0 to 2"),
        ("{0},first,x\n", "maps '{0}' to class 'first'"),
        ("other,0,x\n", "names none of the dataset's labels"),
    ],
)
def test_what_does_not_fit_is_said(sample: Path, rows: str, words: str) -> None:
    with pytest.raises(UserError, match=words.format(*CLASSES)):
        matched(sample, "label,class_id,name\n" + rows.format(*CLASSES))


def test_a_network_without_classes_takes_no_table(sample: Path) -> None:
    with pytest.raises(UserError, match="of which small has none: leave it out"):
        matched(sample, f"label,class_id\n{CLASSES[0]},0\n", network())


def test_other_names_than_the_networks_are_said() -> None:
    of = network("cat", "dog", "class 2")
    assert renamed({"0": "Cat", "2": "bird"}, of) == ""
    assert renamed({}, of) == ""
    assert renamed({"1": "fox"}, of) == (
        "a class is shown by the name in classes, as class 1: 'fox', which the network calls 'dog'"
    )
    assert renamed({"1": "fox", "0": "lynx"}, of).startswith("2 classes are shown by the name")


def test_names_are_shown_wherever_classes_are(
    sample: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = (sample / "classes.csv").read_text().splitlines()
    table = tmp_path / "classes.csv"
    named = [row.rpartition(",")[0] + f",kind of {row.partition(',')[0]}" for row in rows[1:]]
    table.write_text("\n".join([rows[0], *named]))
    caplog.set_level("INFO")
    run = pipeline.discover(
        sample / "images", run=tmp_path / "run", model="sample", classes=table, k=3
    )
    expected = {f"kind of {name}" for name in CLASSES}
    assert set(run.table("images")["pred_label"]) <= expected
    assert set(run.table("concept_classes")["label"]) <= expected
    assert set(run.table("concepts")["top_label"]) <= expected
    assert set(run.table("images")["label"]) == set(CLASSES)
    image = next((sample / "images").rglob("*.jpg"))
    assert set(run.explain(image).classes["label"]) <= expected
    index = (run.folder / "atlas" / "index.html").read_text(encoding="utf-8")
    assert "kind of" in index
    assert "classes are shown by the name in classes, as class 0" in caplog.text


def records(*labels: str) -> Dataset:
    images = tuple(make_record(f"{label}/{index}.png", label) for index, label in enumerate(labels))
    return Dataset(FolderSource(Path()), "folder", images, ())


def test_labels_are_classes_by_any_of_their_names() -> None:
    of = network("golden retriever", "tench, Tinca tinca", "crane", "T-shirt", "crane")
    dataset = records("Golden_Retriever", "tinca  tinca", "t_shirt", "crane", "Tench")
    found, _ = match_labels(make_config({}), dataset, of)
    # Two classes are called crane: which is meant nobody knows.
    assert found == {"Golden_Retriever": 0, "tinca  tinca": 1, "Tench": 1, "t_shirt": 3}
    said = unmatched(make_config({}), dataset, of, found)
    assert said.startswith("1 of 5 labels are no class of small by its name: 'crane' (did you mean")
    assert "classes='<CSV with label, class_id>' says which they are" in said
    assert unmatched(make_config({}), records("tench"), of, {"tench": 1}) == ""
    assert unmatched(make_config({}), records("other"), network(), {}) == ""
    said = unmatched(make_config({}), records("Fish", "x1"), of, {})
    assert said.startswith("no label is a class of small by its name: 'Fish', 'x1'. ")


def test_wordnets_ids_are_imagenets_classes() -> None:
    pytest.importorskip("timm")
    dataset = records("n02091134", "n01440764", "n00000000")
    found, _ = match_labels(make_config({}), dataset, network(*imagenet()))
    names = {label: imagenet()[index] for label, index in found.items()}
    assert names == {"n02091134": "whippet", "n01440764": "tench"}
    others = network(*(f"class {index}" for index in range(1_000)))
    assert match_labels(make_config({}), dataset, others)[0] == {}
