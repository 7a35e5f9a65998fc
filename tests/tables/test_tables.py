"""Tables of a run: schemas, order, views, and what analysts ask of them."""

from __future__ import annotations

import getpass
import html.parser
import json
import shutil
import socket
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.analysis.display import ImageTable, Shown
from pipeline.analysis.run import Run, open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.jobs.discover import discover_run
from pipeline.runs.checks import check_folder
from pipeline.runs.prepare import prepare
from pipeline.sample import write_sample
from pipeline.tables import TABLES, TableWriter, truth_columns

SECRET = "a-place-that-nobody-should-read-of"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Make a run whose folders have names to look for, and quotes, brackets and spaces."""
    base = tmp_path_factory.mktemp("tables") / f"{SECRET} [x]'s"
    write_sample(base / "sample", n_images=64, size=64)
    broken = base / "sample" / "images" / "cut off.jpg"
    broken.write_bytes(next((base / "sample" / "images").rglob("*.jpg")).read_bytes()[:300])
    options = {"dataset": str(base / "sample" / "images"), "model": "sample", "k": "4"}
    discover_run(prepare(make_config(options | {"image_size": "64"}), base / "run"))
    return open_run(base / "run")


def table_paths(run: Run) -> list[Path]:
    return [run.folder / "tables" / f"{name}.parquet" for name in TABLES]


def test_every_table_says_what_it_is_and_every_column_what_it_means(run: Run) -> None:
    for name, path in zip(TABLES, table_paths(run), strict=True):
        found = pq.read_schema(path)
        assert found.equals(TABLES[name].schema(), check_metadata=True)
        assert found.metadata[b"encoding-type"] == f"concordance.{name}".encode()
        assert found.metadata[b"order"].decode() == ", ".join(TABLES[name].order)
        for field in found:
            assert field.metadata[b"description"]
            of = field.type.value_type if pa.types.is_list(field.type) else field.type
            if pa.types.is_floating(of):
                assert field.metadata[b"unit"], (name, field.name)


def test_orders_are_of_columns_that_exist() -> None:
    for table in TABLES.values():
        assert {key.removeprefix("-") for key in table.order} <= set(table.column_names)
        assert len(set(table.column_names)) == len(table.columns)


def test_rows_are_in_the_order_that_is_documented(run: Run) -> None:
    for name in TABLES:
        rows = run.table(name)
        keys = [key.removeprefix("-") for key in TABLES[name].order]
        rising = [not key.startswith("-") for key in TABLES[name].order]
        ordered = rows.sort_values(keys, ascending=rising, na_position="first", kind="stable")
        pd.testing.assert_frame_equal(rows[keys], ordered[keys].reset_index(drop=True))


def test_views_open_from_their_folder_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (run.folder / "tables" / "views.sql").read_text("utf-8")
    assert SECRET not in text
    monkeypatch.chdir(run.folder / "tables")
    with duckdb.connect() as database:
        database.execute(text)
        database.execute(text)  # a second time does no harm
        for name in TABLES:
            (n,) = database.execute(f"select count(*) from {name}").fetchone() or (0,)
            assert n == len(run.table(name))
        asked = "select image_id, max from images_with(1, min_area := 0.01)"
        found = database.execute(asked).fetchall()
    expected = run.images_with(1, min_area=0.01)
    assert len(found) > 3
    assert [each[0] for each in found] == expected.image_id.tolist()


def test_no_table_tells_where_or_by_whom_it_was_made(run: Run) -> None:
    """Not in any text of any row, nor in what Parquet keeps beside the rows."""
    told = [SECRET, str(Path.home()), socket.gethostname(), str(run.folder), str(Path.cwd())]
    assert len(run.table("rejected")) == 1
    for path in table_paths(run):
        table = pq.read_table(path)
        texts = [
            str(each)
            for column in table.columns
            if pa.types.is_string(column.type)
            for each in column.to_pylist()
        ]
        assert not [each for each in texts if each.startswith("/") or ":\\" in each]
        beside = str(pq.read_metadata(path).metadata) + str(table.schema)
        for word in [*told, f"/{getpass.getuser()}/"]:
            assert word not in beside, (path.name, word)
            assert not [each for each in texts if word in each], (path.name, word)


def test_images_with_all_of_several_concepts(run: Run) -> None:
    rows = run.table("image_concepts").query("area > 0 and concept_id in [1, 2]")
    both = rows.groupby("image_id").filter(lambda held: len(held) == 2).groupby("image_id")
    least = both[["max", "mean", "area"]].min().join(both["contribution"].sum())
    found = run.images_with([2, 1, 2])
    assert found["max"].is_monotonic_decreasing
    assert len(least) == len(found) > 0
    told = pd.DataFrame(found).set_index("image_id")[list(least.columns)].sort_index()
    pd.testing.assert_frame_equal(told, least.sort_index(), check_dtype=False, atol=1e-6)
    assert "<img" in found._repr_html_()
    pd.testing.assert_frame_equal(
        pd.DataFrame(run.images_with([1])), pd.DataFrame(run.images_with(1))
    )
    with pytest.raises(UserError, match="no concept was asked for"):
        run.images_with([])


def test_regions_and_objects_are_annotations(run: Run) -> None:
    found = json.loads(json.dumps(run.to_coco(), allow_nan=False))
    regions, objects, images = (run.table(name) for name in ("regions", "objects", "images"))
    k = len(run.table("concepts"))
    assert [each["id"] for each in found["categories"]] == list(range(1, k + 2))
    assert found["categories"][-1]["name"] == "object"
    assert len({each["id"] for each in found["annotations"]}) == len(regions) + len(objects) > 0
    sizes = {each["id"]: each for each in found["images"]}
    assert sizes.keys() == set(images["image_id"])
    for each in found["annotations"]:
        x, y, width, height = each["bbox"]
        own = sizes[each["image_id"]]
        assert 0 <= x < x + width <= own["width"]
        assert 0 <= y < y + height <= own["height"]
        assert 0 < each["area"] <= own["width"] * own["height"]
    row = regions.iloc[0]
    first = found["annotations"][0]
    assert (first["image_id"], first["category_id"]) == (row["image_id"], row["concept_id"] + 1)
    assert first["bbox"][:2] == [row["x0"], row["y0"]]


def test_similar_images_use_concepts_alike(run: Run, tmp_path: Path) -> None:
    bank, rows = run.workspace.bank, run.table("image_concepts")
    used = rows.pivot(index="image_id", columns="concept_id", values="mean").fillna(0)
    parts = used * np.linalg.norm(bank.W, axis=0)
    unit = parts.div(np.linalg.norm(parts, axis=1), axis=0)
    image_id = int(used.index[3])
    expected = (unit @ unit.loc[image_id]).drop(image_id).sort_values(ascending=False)
    found = run.similar(image_id, n=5)
    assert found["similarity"].tolist() == pytest.approx(expected.head(5).tolist(), abs=1e-6)
    assert image_id not in found["image_id"].tolist()
    assert "<img" in found._repr_html_()
    path = run.sql("select path from images where image_id = ?", [image_id])["path"][0]
    by_path = pd.DataFrame(run.similar(path, n=5))
    pd.testing.assert_frame_equal(by_path, pd.DataFrame(found))
    elsewhere = tmp_path / "other.jpg"
    shutil.copy(Path(run.workspace.record.dataset.root) / path, elsewhere)
    for other in (elsewhere, run.image(image_id)):  # no image of the run: it finds itself there
        first = run.similar(other, n=1).iloc[0]
        assert first["image_id"] == image_id
        assert first["similarity"] > 0.99
    with pytest.raises(UserError, match="there is no image 7"):
        run.similar(7)
    nothing = run.similar(np.zeros((64, 64, 3), np.uint8), n=2)  # hardly a concept, if any
    assert nothing["similarity"].between(0, 1 + 1e-6).all()
    assert "<img" in nothing._repr_html_()


def test_an_image_of_no_concept_is_like_none(run: Run) -> None:
    found = run._gallery.similar(np.zeros(run.workspace.bank.k), 2)
    assert (found["similarity"] == 0).all()
    assert "<img" in found._repr_html_()


def test_images_with_a_concept(run: Run) -> None:
    every = run.images_with(2)
    rows = run.table("image_concepts").query("concept_id == 2 and area > 0")
    assert set(every.image_id) == set(rows.image_id)
    assert len(every) == run.table("concepts").n_images[2]
    assert every["max"].is_monotonic_decreasing
    large = run.images_with(2, min_area=0.03)
    assert 0 < len(large) < len(every)
    assert large.area.min() >= 0.03
    pd.testing.assert_frame_equal(
        pd.DataFrame(run.images_with(2, limit=5)), pd.DataFrame(every.head(5))
    )
    assert isinstance(every, pd.DataFrame)
    assert type(every[every.area > 0.5]) is pd.DataFrame
    with pytest.raises(UserError, match="there is no concept 4; the run has 0 to 3"):
        run.images_with(4)
    with pytest.raises(UserError, match="a share of the image from 0 to 1, this is 20"):
        run.images_with(1, min_area=20)


class Outline(html.parser.HTMLParser):
    """Counts the elements of some HTML, and keeps the sources of its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attributes if name == "src"]


def test_what_jupyter_shows_is_a_picture_and_a_table(run: Run) -> None:
    image_id = int(run.table("images").image_id[3])
    for shown in (run.show(image_id), run.concept(1), run.images_with(1)):
        assert isinstance(shown, Shown | ImageTable)
        found = Outline(shown._repr_html_())
        assert found.tags.count("img") == 1
        assert found.tags.count("table") >= 1
        assert found.sources[0].startswith("data:image/jpeg;base64,")
        assert str(shown)
    empty = run.images_with(1, min_area=1)
    assert len(empty) == 0
    assert "img" not in Outline(empty._repr_html_()).tags


def test_an_image_shown_says_what_the_tables_say(run: Run) -> None:
    image_id = int(run.table("images").image_id[5])
    shown = run.show(image_id)
    rows = run.table("image_concepts").query(f"image_id == {image_id} and area > 0")
    mine = shown.table.set_index("concept_id").sort_index()
    theirs = rows.set_index("concept_id").sort_index()
    assert mine.index.tolist() == theirs.index.tolist()
    for column in ("max", "mean", "area", "contribution"):
        assert mine[column].to_numpy() == pytest.approx(theirs[column].to_numpy(), rel=1e-4)
    assert shown.picture.dtype == np.uint8
    assert shown.picture.shape[1] > shown.picture.shape[0]
    with pytest.raises(UserError, match="there is no image 12 in"):
        run.show(12)


def test_a_concept_shown_says_what_the_tables_say(run: Run) -> None:
    shown = run.concept(3)
    assert shown.table.image_id.tolist() == run.images_with(3, limit=8).image_id.tolist()
    (classes, labels) = shown.more.values()
    top = run.sql("select top_label from concepts where concept_id = 3").top_label[0]
    assert classes.label[0] == top
    kind, name = run.sql("select kind, name from concepts where concept_id = 3").iloc[0]
    assert shown.title.startswith("Concept 3")
    assert shown.title.endswith(f"({kind})")
    assert name is None or name in shown.title
    assert set(labels.label) <= set(run.table("concept_labels").label)


def test_text_is_shown_as_text() -> None:
    nasty = "<img src=x onerror=alert(1)>"
    rows = pd.DataFrame({nasty: [nasty]})
    picture = np.zeros((8, 8, 3), np.uint8)
    shown = Shown(nasty, picture, rows, {nasty: nasty}, {nasty: rows})
    for each in (shown, ImageTable.of(rows, lambda: picture)):
        found = Outline(each._repr_html_())
        assert found.tags.count("img") == 1
        assert found.sources[0].startswith("data:")


def pieces(n: int, seed: int) -> list[pd.DataFrame]:
    rng = np.random.default_rng(seed)
    image_ids = rng.permutation(n) * 7919
    return [
        pd.DataFrame(
            {"image_id": ids, "concept_id": concept, "x0": 0, "y0": 0, "x1": 1, "y1": 1,
             "area": rng.random(len(ids)), "score": rng.random(len(ids))}
        )
        for ids in np.array_split(image_ids, 5)
        for concept in (2, 0, 1)
    ]  # fmt: skip


def test_a_table_does_not_depend_on_how_its_rows_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tables.writer.PIECE", 1000)
    parts = pieces(2000, seed=3)
    for folder, given in (("a", parts), ("b", [pd.concat(parts[::-1])])):
        (tmp_path / folder / "scratch").mkdir(parents=True)
        writer = TableWriter(tmp_path / folder, tmp_path / folder / "scratch")
        for part in given:
            writer.add("regions", part)
        counts = writer.finish()
        assert counts["regions"] == 6000
        assert counts["images"] == 0
        assert set(counts) == set(TABLES)
    first, second = (tmp_path / each / "regions.parquet" for each in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert pq.read_schema(tmp_path / "a" / "rejected.parquet").equals(TABLES["rejected"].schema())


def test_nothing_of_the_scratch_is_left(run: Run) -> None:
    names = {path.name for path in (run.folder / "tables").iterdir()}
    assert names == {f"{name}.parquet" for name in TABLES} | {"views.sql", "tables.json"}


def test_a_table_that_was_cut_off_is_named(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "cut"
    shutil.copytree(run.folder, copy)
    path = copy / "tables" / "images.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"images\.parquet"):
        open_run(copy).table("images")


NAMES = (
    "run[12]", "run*", "run?", "~", "it's", "a{1,2}", "s3:", "[!x]", "k=8", "label=x", r"a\b",
)  # fmt: skip
"""Which a shell or DuckDB would expand, or take for something else."""


@pytest.mark.parametrize("name", NAMES)
def test_a_run_of_any_name_is_read_and_no_other(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for other in (name, "run1", "run2", "runs", "x", "a1"):
        shutil.copytree(run.folder / "tables", tmp_path / other / "tables")
    for path in run.folder.iterdir():
        if path.is_file():
            shutil.copyfile(path, tmp_path / name / path.name)
    for folder in (Path(name), tmp_path / name):
        found = open_run(folder)
        assert len(found.table("images")) == len(run.table("images"))
        assert found.table("k_metrics")["k"].tolist() == run.table("k_metrics")["k"].tolist()
        assert found.table("images")["label"].tolist() == run.table("images")["label"].tolist()
        count = found.sql("select count(*) as n from concepts")["n"].iloc[0]
        assert count == len(run.table("concepts"))


@pytest.mark.parametrize("name", [r"a\*b", r"x[\]y"])
def test_what_duckdb_cannot_read_is_refused_before_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="has a backslash and one of"):
        check_folder(tmp_path / name)


def test_labels_have_the_names_and_answers_of_their_classes() -> None:
    labels = [["n01", "n02"], ["n02"], ["hat"], [], ["hat", "n01"]]
    images = pd.DataFrame({"labels": labels, "pred_class": [1, 0, 0, 1, 0]})
    found = truth_columns(images, ("tench", "church"), {"n01": 0, "n02": 1})
    assert found["label_name"].tolist() == ["tench;church", "church", "hat", None, "hat;tench"]
    assert found["true_class"].tolist() == [0, 1, pd.NA, pd.NA, 0]
    assert found["correct"].tolist() == [True, False, pd.NA, pd.NA, True]
