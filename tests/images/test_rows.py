"""Tables that people and spreadsheets write: each value under its column, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.images import list_dataset
from pipeline.images.rows import read_rows
from pipeline.truth import find_truth
from pipeline.truth.boxes import Boxes


def listed(where: Path) -> list[tuple[str, str | None]]:
    return [(image.path, image.label) for image in list_dataset(where).images]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "x", "\udcff.png"):
        (tmp_path / name).write_bytes(b"12345")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("path,label\na.png,cat\nb.png\n", [("a.png", "cat"), ("b.png", None)]),
        ("\ufeffpath,label\r\na.png,cat\r\n", [("a.png", "cat")]),
        ("path,label\ra.png,cat\r", [("a.png", "cat")]),
        ("path, label\na.png,cat\n", [("a.png", "cat")]),
        ("path,label,,\na.png,cat,,,,\n", [("a.png", "cat")]),
        ('path,label\na.png,"two\nlines"\n', [("a.png", "two\nlines")]),
        ("label,path\ncat,a.png\ncat,a.png\n", [("a.png", "cat")]),
        ("path,label\na.png,NA\nb.png,nan\n", [("a.png", "NA"), ("b.png", "nan")]),
        ("\n\npath\n\na.png\n\n", [("a.png", None)]),
    ],
)
def test_values_stay_under_their_columns(
    base: Path, text: str, found: list[tuple[str, str | None]]
) -> None:
    (base / "list.csv").write_bytes(text.encode())
    assert listed(base / "list.csv") == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label\na.png,x,y\n", "a row of 3 values in 2 columns: a.png, x, y"),
        ("path,label\n7,a.png,x\n8,b.png,x\n", "a row of 3 values in 2 columns: 7, a.png, x"),
        ("path,path\na.png,b.png\n", "it has 2 columns 'path'"),
        ("path,label,label\na.png,x,y\n", "it has 2 columns 'label'"),
        ("path,label\na.png,x\na.png,y\n", "gives a.png two labels, 'x' and 'y'; keep one"),
        ("path,label\na.png,x\na.png,\n", "gives a.png two labels, 'x' and None; keep one"),
        ('path,label\n"a.png,x\nb.png,y\n', "line 3: unexpected end of data"),
        (f"path,label\na.png,{'x' * 200_000}\n", "line 2: field larger than field limit"),
        ("", "it is empty"),
    ],
)
def test_tables_that_say_two_things_are_refused(base: Path, text: str, sentence: str) -> None:
    """pandas takes a.png for an index, and x for a path, which is a file, too."""
    (base / "list.csv").write_text(text)
    with pytest.raises(UserError) as told:
        list_dataset(base / "list.csv")
    assert sentence in str(told.value)


def test_a_million_columns_take_no_minute(base: Path) -> None:
    (base / "list.csv").write_text(f"path{',c' * 1_000_000}\na.png{',1' * 1_000_000}\n")
    assert listed(base / "list.csv") == [("a.png", None)]


def test_parquet_gives_its_own_columns_as_texts(base: Path) -> None:
    """Whatever its folder is called, and whether texts are bytes or an index of pandas."""
    folder = base / "label=dog"
    folder.mkdir()
    where = folder / "list.parquet"
    paths = [b"../a.png", b"../b.png", b"../\xff.png", None]
    pq.write_table(pa.table({"path": paths, "label": [b"cat", None, b"caf\xc3\xa9", b"x"]}), where)
    assert listed(where) == [("../%FF.png", "café"), ("../a.png", "cat"), ("../b.png", None)]
    pd.DataFrame(
        {"label": [1.5, np.nan]}, pd.Index(["../a.png", "../b.png"], name="path")
    ).to_parquet(where)
    assert listed(where) == [("../a.png", "1.5"), ("../b.png", None)]
    for name in ("path", "split"):
        columns = {"path": ["../a.png"], "split": ["x"]} | {name: [["../a.png"]]}
        pq.write_table(pa.table(columns), where)
        with pytest.raises(UserError, match=f"its column '{name}' holds list<"):
            list_dataset(where)


def test_boxes_are_those_of_their_columns(tmp_path: Path) -> None:
    where = tmp_path / "boxes.csv"
    where.write_text("path,x0,y0,x1,y1\n7,a.jpg,1,2,3,4\n")
    with pytest.raises(UserError, match=r"a row of 6 values in 5 columns: 7, a\.jpg, 1, 2"):
        find_truth(where)
    where.write_text("id,path,x0,y0,x1,y1\n7,NA.jpg,1,2,3,4\n8,NA,1,2,3,4\n")
    assert find_truth(where).entries["NA"] == Boxes(((1, 2, 3, 4),), are_shares=False)


@pytest.mark.parametrize("where", ["/dev/zero", "/dev/null", "/"])
def test_what_never_ends_is_no_table(where: str) -> None:
    with pytest.raises(ValueError, match="no regular file"):
        read_rows(Path(where))
