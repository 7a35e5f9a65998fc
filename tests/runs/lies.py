"""Runs that lie: a file is changed in what it says, and every record and digest agrees with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import UserError
from pipeline.runs.plan import Snapshot
from pipeline.runs.stages import STAGES
from pipeline.runs.workspace import Workspace
from pipeline.store import write_record
from pipeline.store.encoding import SEAL, _digest
from pipeline.system import checksums

Change = Callable[[Path], None]


@dataclass(frozen=True)
class Lie:
    """One change of one file; `name` says it, and `change` carries it out."""

    file: str
    name: str
    change: Change

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    def tell(self, run: Path) -> None:
        """Change the file, and let everything agree."""
        self.change(run / self.file)
        agree(run)


def agree(run: Path) -> None:
    """Write anew what says which contents files have, and from which contents they were made."""
    sealed = run / "run.json"
    says = json.loads(sealed.read_bytes())
    if isinstance(says.get("files"), dict):
        says["files"] = {name: checksums.sha256(run / name) for name in says["files"]}
    _seal(sealed, says)
    for path in run.glob("*/*.json"):
        says = json.loads(path.read_bytes())
        if says.get("encoding-type") == "concordance.record":
            for name in says["files"]:
                file = path.parent / name
                said = {"bytes": file.stat().st_size, "sha256": checksums.sha256(file)}
                says["files"][name] = said
            _seal(path, says)
    try:
        workspace = Workspace.open(run)
        for stage in STAGES:
            for part, path in enumerate(Snapshot(workspace).paths[stage.product]):
                now = Snapshot(workspace)
                record, inputs = now.record(stage.product, part), now.inputs(stage.product, part)
                assert record is not None
                made_from = {key: inputs.get(key) or was for key, was in record.made_from.items()}
                files = [path.parent / name for name in record.files]
                write_record(path, files, made_from, record.counts)
    except UserError:  # nothing more can be read of it
        pass


def _seal(path: Path, says: dict[str, Any]) -> None:
    if says.pop(SEAL, None) is not None:
        says[SEAL] = _digest(says)
    path.write_text(json.dumps(says), encoding="utf-8")


def copy(run: Path, folder: Path) -> Path:
    """Return a copy of a run."""
    shutil.copytree(run, folder)
    return folder


HDF5 = (
    "bank/bank.h5", "bank/classes.h5", "bank/objects.h5",
    "activations/shard-00000.h5", "heatmaps/shard-00000.h5",
)  # fmt: skip


def _wrong_arrays(value: np.ndarray[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what can stand in the place of an array, by how it is wrong; None: nothing."""
    yield "missing", None
    yield "another rank", value[None]
    if value.ndim:
        yield "a row short", value[:-1] if len(value) else np.repeat(np.zeros(1, value.dtype), 2)
        if len(value):
            yield "empty", np.zeros((0, *value.shape[1:]), value.dtype)
    if value.ndim > 1 and value.shape[-1]:
        yield "a column more", np.concatenate([value, value[..., -1:]], axis=-1)
    if value.dtype.kind == "S":
        yield "numbers", np.zeros(value.shape, np.int64)
        yield "no UTF-8", np.full(value.shape, b"\xff\xfe", value.dtype)
    else:
        yield "texts", np.full(value.shape, b"text", "S4")
    if value.dtype.kind == "f" and value.size:
        yield "nan", np.full_like(value, np.nan)
        yield "infinite", np.full_like(value, -np.inf)
        yield "complex", value.astype(np.complex64)
    if value.dtype.kind == "i" and value.size:
        yield "negative", np.full_like(value, -7)
        yield "large", np.full_like(value, np.iinfo(value.dtype).max)
        yield "fractions", value.astype(np.float64) + 0.5
    if value.dtype.kind == "b":
        yield "numbers", np.full(value.shape, 7, np.int64)


def _replace(name: str, array: Any) -> Change:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[name]
            if array is not None:
                text = array.dtype.kind == "S"
                dtype = h5py.string_dtype("utf-8", max(1, array.dtype.itemsize)) if text else None
                file.create_dataset(name, data=array.astype(dtype) if text else array)

    return change


def _attribute(name: str, value: Any) -> Change:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file.attrs[name]
            if value is not None:
                file.attrs[name] = value

    return change


def of_hdf5(run: Path, name: str) -> Iterator[Lie]:
    """Yield every lie of an HDF5 file: each array and each attribute, wrong in every way."""
    arrays: dict[str, Any] = {}
    with h5py.File(run / name) as file:
        file.visititems(
            lambda key, node: (
                arrays.update({key: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
        )
        attributes = [key for key in file.attrs if not key.startswith("encoding")]
    for key, value in arrays.items():
        for wrong, array in _wrong_arrays(np.asarray(value)):
            yield Lie(name, f"{key} {wrong}", _replace(key, array))
    for key in attributes:
        for wrong, other in (
            ("missing", None), ("text", "x" * 50_000), ("number", 7.5), ("array", np.arange(3)),
        ):  # fmt: skip
            yield Lie(name, f"@{key} {wrong}", _attribute(key, other))
    for part in sorted({key.partition("/")[0] for key in arrays if "/" in key}):
        yield Lie(name, f"{part} missing", _replace(part, None))
        yield Lie(name, f"{part} an array", _replace(part, np.zeros((3, 4))))


def _ids(wrong: str) -> Change:
    def change(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            if wrong == "twice":
                file["image_id"][1] = file["image_id"][0]
            elif wrong == "of no image":
                file["image_id"][0] = 12345
            else:
                file["image_id"][...] = file["image_id"][()][::-1]

    return change


def of_ids() -> Iterator[Lie]:
    """Yield shards whose images are others than those listed."""
    for name in HDF5[3:]:
        for wrong in ("twice", "of no image", "in another order"):
            yield Lie(name, f"image_id {wrong}", _ids(wrong))


def _column(key: str, make: Callable[[pa.ChunkedArray], pa.Array] | None) -> Change:
    def change(path: Path) -> None:
        table = pq.read_table(path)
        at = table.column_names.index(key)
        metadata = table.schema.metadata
        if make is None:
            table = table.drop_columns([key])
        else:
            table = table.set_column(at, key, make(table[key]))
        pq.write_table(table.replace_schema_metadata(metadata), path)

    return change


def _rows(make: Callable[[pa.Table], pa.Table]) -> Change:
    def change(path: Path) -> None:
        pq.write_table(make(pq.read_table(path)), path)

    return change


def _fill(value: Any, type_: pa.DataType) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda column: pa.array([value] * len(column), type_)


def of_parquet(run: Path, name: str) -> Iterator[Lie]:
    """Yield every lie of a Parquet file."""
    table = pq.read_table(run / name)
    for field in table.schema:
        key, n = field.name, table.num_rows
        is_text, is_number = pa.types.is_string(field.type), pa.types.is_integer(field.type)
        other = _fill(7, pa.int64()) if is_text else _fill("text", pa.string())
        yield Lie(name, f"{key} missing", _column(key, None))
        yield Lie(name, f"{key} of another type", _column(key, other))
        if n:
            yield Lie(name, f"{key} null", _column(key, _fill(None, field.type)))
        if n and is_number:
            yield Lie(name, f"{key} negative", _column(key, _fill(-7, field.type)))
        if n and is_text:
            yield Lie(name, f"{key} long", _column(key, _fill("x" * 50_000, field.type)))
    yield Lie(name, "no rows", _rows(lambda t: t.slice(0, 0)))
    if table.num_rows:
        yield Lie(name, "rows twice", _rows(lambda t: pa.concat_tables([t, t])))
    yield Lie(name, "no metadata", _rows(lambda t: t.replace_schema_metadata(None)))


def _json(keys: tuple[Any, ...], value: Any) -> Change:
    def change(path: Path) -> None:
        node = whole = json.loads(path.read_bytes())
        for key in keys[:-1]:
            node = node[key]
        if value is None:
            del node[keys[-1]]
        else:
            node[keys[-1]] = value
        path.write_text(json.dumps(whole), encoding="utf-8")

    return change


_GROWN = {
    "when": "", "added": 5, "fitted": 3, "limit": None, "before": {"n": 19, "digest": "x"},
}  # fmt: skip
"""A change of a run of 24 images that cannot be, nor can it with other images."""

JSON: dict[str, tuple[tuple[tuple[Any, ...], tuple[Any, ...]], ...]] = {
    "run.json": (
        (("config", "image_size"), (None, -3, "x", 65, 32, 10**9)),
        (("config", "layer"), (None, "auto", "nowhere", "x" * 50_000)),
        (("config", "model"), (None, "nowhere", "squeezenet1_1")),
        (("config", "k"), (None, [5], "auto", [0])),
        (("config", "aux_layers"), (["stem"], ["nowhere"])),
        (("config", "new_option"), (1,)),
        (("layer", "centres_x"), ([], [1.0, 2.0], [float("1e300")] * 8, [3.0] * 8)),
        (("layer", "channels"), (None, 5, -1)),
        (("layer", "height"), (5, 0)),
        (("layer", "name"), ("other",)),
        (("layer", "exponents"), ({"parts": 10**6}, {"x": 3})),
        (("dataset", "source"), ("nowhere",)),
        (("dataset", "root"), ("/nowhere", "\0")),
        (("images", "n"), (5, -1)),
        (("images", "digest"), ("x",)),
        (("class_names",), ({"99": "x"}, {"x": "y"}, {"-1": "y"})),
        (("class_of_label",), ({"car": 99}, {"car": -5}, {})),
        (("formats",), ({}, {"bank": "9.9"})),
        (("stages",), ({}, {"extract": {"status": "done", "seconds": "x"}})),
        (("files",), ({}, {"config.toml": "x"}, {"bank/bank.h5": "x"})),
        (("history",), ([{}], [_GROWN], [_GROWN | {"added": 0}], [_GROWN | {"fitted": 24}])),
        (("link",), ("x", 3, "sigmoid")),
        (("preprocessing", "mean"), ([0.0, 0.0], [1e300] * 3)),
        (("preprocessing", "std"), ([0.0] * 3,)),
        (("forward", "precision"), ("bf16", "x")),
    ),
    "bank/k_metrics.json": (
        (("rows",), (None, [], {}, "x", [1], [{}], [{"k": "x"}], [{"k": 3, "unknown": 1}])),
        (("rows", 0, "k"), (None, "x", -1, 2.5, 10**30)),
        (("rows", 0, "chosen"), (None, "x", 3)),
        (("rows", 0, "error"), (None, "x", [1])),
    ),
}  # fmt: skip


def of_json(run: Path, name: str) -> Iterator[Lie]:
    """Yield every lie of a JSON file."""
    for keys, values in JSON[name]:
        for value in values:
            what = "missing" if value is None else repr(value)[:30]
            yield Lie(name, f"{'.'.join(map(str, keys))} {what}", _json(keys, value))


def _toml(key: str, text: str) -> Change:
    def change(path: Path) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        lines = [f"{key} = {text}" if each.startswith(f"{key} =") else each for each in lines]
        path.write_text("\n".join(each for each in lines if not each.endswith("= ")) + "\n")

    return change


def of_toml() -> Iterator[Lie]:
    """Yield lies of ``config.toml``."""
    for key, text in (
        ("image_size", ""), ("image_size", '"x"'), ("layer", '"auto"'), ("k", "[5]"), ("k", '"x"'),
        ("model", '"nowhere"'), ("keep", "3"),
    ):  # fmt: skip
        yield Lie("config.toml", f"{key} {text or 'missing'}", _toml(key, text))


def every(run: Path) -> list[Lie]:
    """Return all lies of a run."""
    parquet = ["activations/images.parquet"]
    parquet += sorted(f"tables/{path.name}" for path in (run / "tables").glob("*.parquet"))
    return [
        *(lie for name in HDF5 for lie in of_hdf5(run, name)),
        *of_ids(),
        *(lie for name in parquet for lie in of_parquet(run, name)),
        *(lie for name in JSON for lie in of_json(run, name)),
        *of_toml(),
    ]
