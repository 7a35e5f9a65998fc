"""Runs that others made: a file of one is damaged, or says other things, and all digests agree."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from pipeline.store.encoding import SEAL
from tests.fuzz.harness import EDITS, PLACES, Edits, damage
from tests.fuzz.seeds import ARCHIVE

FILES = sorted(
    path.relative_to(ARCHIVE / "run").as_posix()
    for path in (ARCHIVE / "run").rglob("*")
    if path.is_file()
)

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
    st.sampled_from(["", "../../x", "\0", "1e999", "resnet50", "sample", "fp32"]),
)  # fmt: skip
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.text(max_size=4), SCALARS, max_size=2),
)
CHANGES = st.tuples(
    st.sampled_from(FILES),
    st.one_of(
        EDITS,
        st.lists(st.tuples(PLACES, VALUES, st.booleans()), min_size=1, max_size=2),
    ),
    st.booleans(),
)
"""Which file of a run is changed; as bytes, or in what it says; whether its records then agree."""

Says = list[tuple[int, Any, bool]]
ARRAYS = (
    np.zeros(0, np.float32), np.zeros((3, 4), np.float16), np.full((4, 4), np.nan, np.float32),
    np.array(7), np.arange(-5, 5), np.ones((2, 2, 2, 2, 2)), np.array([b"text"]),
    np.full(12, 2**62), np.zeros((48, 8, 8, 4), np.float16), np.full((48, 8, 8, 4), np.inf, "f2"),
)  # fmt: skip


def lay_out(folder: Path) -> Path:
    """Copy the archived run, with its images where it says they are."""
    run = folder / "run"
    shutil.copytree(ARCHIVE / "run", run)
    for name in ("run.json", "config.toml"):
        text = (run / name).read_text(encoding="utf-8")
        was = json.loads((ARCHIVE / "run" / "run.json").read_bytes())["dataset"]["root"]
        (run / name).write_text(text.replace(was, str(ARCHIVE / "images")), encoding="utf-8")
    agree(run, "config.toml")
    return run


def change(run: Path, name: str, how: Edits | Says, *, agreeing: bool) -> None:
    """Change a file of a run."""
    path = run / name
    if isinstance(how[0][0], str):
        path.write_bytes(damage(path.read_bytes(), how))
    else:
        for place, value, is_gone in how:
            WAYS[path.suffix](path, int(place), value, bool(is_gone))
    if agreeing:
        agree(run, name)


def agree(run: Path, name: str) -> None:
    """Write into all records what a file is now, and their own digests."""
    path = run / name
    data = path.read_bytes()
    for record in run.rglob("*.json"):
        try:
            value = json.loads(record.read_bytes())
        except ValueError:
            continue
        if not isinstance(value, dict):
            continue
        listed = value.get("files")
        key = (
            path.relative_to(record.parent).as_posix() if path.is_relative_to(record.parent) else ""
        )
        if isinstance(listed, dict) and key in listed:
            digest = hashlib.sha256(data).hexdigest()
            is_record = isinstance(listed[key], dict)
            listed[key] = {"bytes": len(data), "sha256": digest} if is_record else digest
        elif record != path or SEAL not in value:
            continue
        if value.pop(SEAL, None) is not None:
            text = json.dumps(value, sort_keys=True, ensure_ascii=True)
            value[SEAL] = hashlib.sha256(text.encode()).hexdigest()
        record.write_text(json.dumps(value), encoding="utf-8")


def _json(path: Path, place: int, value: Any, is_gone: bool) -> None:
    whole = json.loads(path.read_bytes())
    spots: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, each in items:
            spots.append((node, key))
            if isinstance(each, dict | list):
                walk(each)

    walk(whole)
    if spots:
        node, key = spots[place % len(spots)]
        if is_gone:
            del node[key]
        else:
            node[key] = value
    path.write_text(json.dumps(whole), encoding="utf-8")


def _hdf5(path: Path, place: int, value: Any, is_gone: bool) -> None:
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        spots = [*((name, None) for name in names), *(("/", key) for key in file.attrs)]
        name, key = spots[place % len(spots)]
        array = ARRAYS[(place >> 8) % len(ARRAYS)]
        if key is not None:
            del file[name].attrs[key]
            if not is_gone:
                fits = isinstance(value, str | bool | float) and "\0" not in str(value)
                file[name].attrs[key] = value if fits else array
        else:
            del file[name]
            if not is_gone:
                file[name] = array


def _parquet(path: Path, place: int, value: Any, is_gone: bool) -> None:
    table = pq.read_table(path)
    if not table.num_columns:
        return
    n = place % table.num_columns
    name, rows = table.column_names[n], table.num_rows
    if is_gone:
        table = table.drop_columns([name])
    elif isinstance(value, list):
        table = table.slice(0, rows // 2) if value else pa.concat_tables([table, table])
    else:
        try:
            # Parquet has no type for objects without a field.
            column = pa.nulls(rows) if value == {} else pa.array([value] * rows)
        except (pa.ArrowInvalid, OverflowError, UnicodeError):
            column = pa.nulls(rows)
        table = table.set_column(n, name, column)
    pq.write_table(table, path)


def _text(path: Path, place: int, value: Any, is_gone: bool) -> None:
    lines = path.read_text(encoding="utf-8").split("\n")
    n = place % len(lines)
    lines[n] = "" if is_gone else lines[n].partition("=")[0] + f"= {json.dumps(value)}"
    path.write_text("\n".join(lines), encoding="utf-8")


WAYS = {".json": _json, ".h5": _hdf5, ".parquet": _parquet, ".toml": _text, ".sql": _text}
