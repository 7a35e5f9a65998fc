"""docs/FORMAT.md says what is in the files: each file, dataset and attribute, and no other."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (makes h5py read zstd)
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.config import make_config
from pipeline.jobs.discover import discover_run
from pipeline.jobs.execute import execute
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.other_number import open_run
from pipeline.runs.prepare import prepare
from pipeline.sample import write_sample
from pipeline.tables import describe

ROOT = Path(__file__).resolve().parents[2]
FORMAT = (ROOT / "docs" / "FORMAT.md").read_text(encoding="utf-8")

SECTIONS = {
    "activations/shard-00000.h5": "activations/shard-*.h5",
    "heatmaps/shard-00000.h5": "heatmaps/shard-*.h5",
    "bank/bank.h5": "bank/bank.h5",
    "bank/classes.h5": "bank/classes.h5",
    "bank/objects.h5": "bank/objects.h5",
    "bank/probe.h5": "bank/probe.h5",
}
OF_SOME_RUNS = {"prefix", "taken_nodes", "transform_offset"}
"""Datasets that plain runs lack: another run has them."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("format")
    write_sample(base / "sample", n_images=48, size=64)
    options = {"dataset": str(base / "sample" / "images"), "model": "sample", "k": "4"}
    options |= {"aux_layers": "shapes", "image_size": "64"}
    discover_run(prepare(make_config(options), base / "run"))
    return base / "run"


@pytest.fixture(scope="module")
def transformer(folder: Path) -> Path:
    """Return a run on a network with a class token and signed activations."""
    options = {"dataset": str(folder.parent / "sample" / "images"), "model": "vit_b_16", "k": "2"}
    options |= {"weights": "random", "image_size": "32", "transform": "shift", "precision": "fp32"}
    workspace = prepare(make_config(options), folder.parent / "transformer")
    with pytest.warns(UserWarning, match="'shift' makes almost all of H non-zero"):
        execute(workspace, {"extract": extract, "factorize": factorize})
    return workspace.folder


@pytest.fixture(scope="module")
def probed(folder: Path) -> Path:
    """Return a run whose head is fitted on the labels."""
    write_sample(folder.parent / "labelled", n_images=128, size=64)
    options = {"dataset": str(folder.parent / "labelled" / "images"), "model": "sample", "k": "2"}
    options |= {"image_size": "64", "head": "probe"}
    workspace = prepare(make_config(options), folder.parent / "probed")
    execute(workspace, {"extract": extract, "factorize": factorize})
    return workspace.folder


def section(title: str) -> str:
    return FORMAT.split(f"## {title}")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table, without its heading."""
    lines = re.findall(r"^\|(.*)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines[2:]]


def datasets(name: str) -> dict[str, tuple[str, str]]:
    """Return a file's datasets as documented, with their types and shapes."""
    found: dict[str, tuple[str, str]] = {}
    for names, dtype, shape, _ in rows(section(SECTIONS[name])):
        found |= dict.fromkeys(re.findall(r"`(.+?)`", names), (dtype, shape))
    return {
        key: (found["V"][0] if dtype == "as V" else dtype, shape)
        for key, (dtype, shape) in found.items()
    }


def attributes(name: str) -> set[str]:
    """Return a file's attributes as documented."""
    stated = re.search(r"Attributes?: (.*?)\.\s", section(SECTIONS[name]), re.DOTALL)
    assert stated is not None
    listed = re.sub(r"\(.*?\)", "", stated[1])
    return set(re.findall(r"`(\w+)`", listed)) | {"encoding-type", "encoding-version"}


def stored(path: Path) -> dict[str, h5py.Dataset]:
    """Return a file's datasets, auxiliary layers by their general name."""
    found: dict[str, h5py.Dataset] = {}
    file = h5py.File(path)
    file.visititems(
        lambda key, node: found.update({key: node}) if isinstance(node, h5py.Dataset) else None
    )
    return {re.sub(r"^aux/.+", "aux/<layer>", key): dataset for key, dataset in found.items()}


def type_name(dataset: h5py.Dataset) -> str:
    return "text" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)


def check_datasets(found: dict[str, h5py.Dataset], listed: dict[str, tuple[str, str]]) -> None:
    sizes: dict[str, int] = {}
    for key, dataset in found.items():
        dtype, shape = listed[key]
        allowed = {part.split(" ")[0] for part in dtype.split(", ")}
        assert type_name(dataset) in allowed, (key, dtype)
        axes = [axis.strip() for axis in shape.split(",") if axis.strip()]
        if key.startswith("aux/"):
            axes[-1] = "c'"
        assert len(axes) == dataset.ndim, (key, shape)
        for axis, size in zip(axes, dataset.shape, strict=True):
            expected = int(axis) if axis.isdecimal() else sizes.setdefault(axis, size)
            assert size == expected, (key, axis)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_file_holds_what_the_document_lists(folder: Path, probed: Path, name: str) -> None:
    folder = probed if "probe" in name else folder
    found, listed = stored(folder / name), datasets(name)
    assert set(found) == set(listed) - OF_SOME_RUNS
    check_datasets(found, listed)
    with h5py.File(folder / name) as file:
        assert set(file.attrs) == attributes(name)
        heading = section(SECTIONS[name]).splitlines()[0]
        encoding, version = re.findall(r"`(.+?)` ([\d.]+)", heading)[-1]
        assert (file.attrs["encoding-type"], file.attrs["encoding-version"]) == (encoding, version)
    for key, dataset in found.items():
        if dataset.ndim > 1 and "shard" in name and dataset.size:
            assert dataset.chunks == (1, *dataset.shape[1:]), key
            assert list(dataset._filters) == ["32015"], key


def test_what_only_some_runs_have_is_as_documented(transformer: Path, folder: Path) -> None:
    seen: set[str] = set()
    taken = open_run(folder).at(2).folder
    for run, name in (
        (transformer, "activations/shard-00000.h5"),
        (transformer, "bank/bank.h5"),
        (taken, "bank/bank.h5"),
    ):
        found, listed = stored(run / name), datasets(name)
        assert set(found) <= set(listed)
        check_datasets(found, listed)
        seen |= set(found)
    assert seen >= OF_SOME_RUNS
    V = stored(transformer / "activations/shard-00000.h5")["V"]
    assert V.dtype == np.float32


def files_listed() -> dict[str, tuple[str, str]]:
    """Return patterns of files, with the encoding each carries."""
    found: dict[str, tuple[str, str]] = {}
    for pattern, encoding, _ in rows(FORMAT.split("## Order")[0]):
        name, _, version = encoding.replace("`", "").partition(" ")
        found[pattern.strip("`")] = (name, version)
    return found


def encoding_of(path: Path) -> tuple[str, str]:
    """Return the encoding that a file carries."""
    found: dict[str, Any]
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            found = dict(file.attrs)
    elif path.suffix == ".parquet":
        metadata = pq.read_schema(path).metadata
        found = {key.decode(): value.decode() for key, value in metadata.items()}
    elif path.suffix == ".toml":
        found = tomllib.loads(path.read_text())
    else:
        found = json.loads(path.read_text())
    return found["encoding-type"], found["encoding-version"]


def test_every_file_is_listed_with_its_encoding_and_every_one_listed_is_there(
    folder: Path, probed: Path
) -> None:
    listed = files_listed()
    seen: set[str] = set()
    paths = [path for run in (folder, probed) for path in run.rglob("*") if path.is_file()]
    for path in sorted(paths):
        name = path.relative_to(folder if folder in path.parents else probed)
        exact = [pattern for pattern in listed if "**" not in pattern and name.match(pattern)]
        pattern = exact[0] if exact else f"{name.parts[0]}/**"
        assert pattern in listed, name
        seen.add(pattern)
        encoding, version = listed[pattern]
        if encoding:
            expected = encoding.replace("<table>", path.stem)
            assert encoding_of(path) == (expected, version), name
    assert seen == set(listed)


def test_keys_of_records_are_as_documented(folder: Path) -> None:
    listed = {key for row in rows(section("Records")) for key in re.findall(r"`(.+?)`", row[0])}
    paths = [folder / "bank" / "bank.json", folder / "heatmaps" / "shard-00000.json"]
    for path in paths:
        record = json.loads(path.read_text())
        assert set(record) == listed
        assert all(set(entry) == {"bytes", "sha256"} for entry in record["files"].values())


def test_keys_of_the_run_are_as_documented(folder: Path) -> None:
    text = re.search(r"`run\.json` holds (.*?)\n\n", FORMAT, re.DOTALL)
    assert text is not None
    outside = re.sub(r"\([^()]*\)", "", text[1])
    record = json.loads((folder / "run.json").read_text())
    assert set(re.findall(r"`(\w+)`", outside)) == set(record) - {
        "encoding-type",
        "encoding-version",
    }


def test_columns_of_the_listing_are_as_documented(folder: Path) -> None:
    schema = pq.read_schema(folder / "activations" / "images.parquet")
    order = section("Order and shards")
    for name in schema.names:
        assert re.search(rf"\b{name}\b", order), name
        if schema.field(name).type == "int64":
            assert re.search(rf"\b{name} \(int64", order), name
    assert b"images_per_shard" in schema.metadata


def test_tables_are_documented_as_they_are() -> None:
    assert (ROOT / "docs" / "TABLES.md").read_text(encoding="utf-8") == describe()
