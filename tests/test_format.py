"""docs/FORMAT.md says what is in the files: each dataset it lists, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (makes h5py read zstd)
import pytest

from pipeline.config import make_config
from pipeline.jobs.discover import discover
from pipeline.jobs.prepare import prepare
from pipeline.sample import write_sample
from pipeline.tables import describe

ROOT = Path(__file__).resolve().parent.parent
FORMAT = (ROOT / "docs" / "FORMAT.md").read_text(encoding="utf-8")

SECTIONS = {
    "activations/shard-00000.h5": "activations/shard-*.h5",
    "heatmaps/shard-00000.h5": "heatmaps/shard-*.h5",
    "bank/bank.h5": "bank/bank.h5",
    "bank/classes.h5": "bank/classes.h5",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("format")
    write_sample(base / "sample", n_images=48, size=64)
    options = {"dataset": str(base / "sample" / "images"), "model": "sample", "k": "4"}
    options |= {"aux_layers": "shapes", "image_size": "64"}
    discover(prepare(make_config(options), base / "run"))
    return base / "run"


def section(title: str) -> str:
    return FORMAT.split(f"## {title}")[1].split("\n## ")[0]


def documented(title: str) -> dict[str, str]:
    """Return the datasets of a section's table, with their types."""
    rows = re.findall(r"^\| (`[^|]+) \|([^|]*)\|", section(title), re.MULTILINE)
    return {name: dtype.strip() for names, dtype in rows for name in re.findall(r"`(.+?)`", names)}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_file_holds_what_the_document_lists(folder: Path, name: str) -> None:
    listed = documented(SECTIONS[name])
    found: dict[str, h5py.Dataset] = {}
    with h5py.File(folder / name) as file:
        file.visititems(
            lambda key, node: found.update({key: node}) if isinstance(node, h5py.Dataset) else None
        )
        plain = {key.replace("aux/shapes", "aux/<layer>"): each for key, each in found.items()}
        optional = {"prefix", "transform_offset"}
        assert set(plain) <= set(listed)
        assert set(listed) - set(plain) <= optional
        for key, dataset in plain.items():
            if listed[key] and listed[key] != "text" and listed[key] != "as V":
                assert str(dataset.dtype) in listed[key], key
            if dataset.ndim > 1 and "shard" in name:
                assert dataset.chunks == (1, *dataset.shape[1:])
                assert "32015" in dataset._filters
        heading = section(SECTIONS[name]).splitlines()[0]
        encoding, version = re.findall(r"`(.+?)` ([\d.]+)", heading)[-1]
        assert (file.attrs["encoding-type"], file.attrs["encoding-version"]) == (encoding, version)
        stated = re.search(r"Attributes?: (.*?)\.", section(SECTIONS[name]), re.DOTALL)
        assert stated is not None
        for attribute in re.findall(r"`(\w+)`", stated[1].split("(")[0]):
            assert attribute in file.attrs


def test_every_file_of_a_run_is_documented(folder: Path) -> None:
    listed = re.findall(r"`([^`]+)`", FORMAT.split("## Order")[0].split("|---|---|")[1])
    patterns = [each.replace("shard-00000", "shard-*") for each in listed]
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] != "atlas":
            wild = [name.match(pattern) for pattern in [*patterns, "shard-*.json"]]
            assert any(wild), name


def test_tables_are_documented_as_they_are() -> None:
    assert (ROOT / "docs" / "TABLES.md").read_text(encoding="utf-8") == describe()
