"""A package from outside plugs in one of each kind, and a run goes through all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline import plugins
from pipeline.errors import UserError
from tests.project.checkouts import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example of docs/PLUGINS.md into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    for path in (ROOT / "docs" / "plugins").glob("*.*"):
        (source / path.name).write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(folder), str(source)], check=True)
    return folder


def python(
    installed: Path, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout, where the example is installed too."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def run(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the example's images and network, with its column and page, as make starts it."""
    folder: Path = tmp_path_factory.mktemp("plugged") / "run"
    given = {
        "DATASET": "shapes:40", "MODEL": "example:stripes", "K": "3", "RUN": str(folder),
        "PLUGINS": "log_energy,confusions", "NAMER": "labels",
    }  # fmt: skip
    done = python(installed, "-m", "stages", "discover", CONCORDANCE_GIVEN=" ".join(given), **given)
    assert done.returncode == 0, done.stderr
    return folder


def test_dataset_and_network_are_those_of_the_plug_ins(run: Path) -> None:
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["dataset"]["source"] == "shapes"
    assert record["dataset"]["root"] == "40"
    assert record["config"]["dataset"] == "shapes:40"
    assert record["config"]["model"] == "example:stripes"
    assert record["class_of_label"] == {"disc": 1, "square": 0}


def test_a_column_is_in_its_table_with_meaning_and_unit(run: Path) -> None:
    table = pq.read_table(run / "tables" / "concepts.parquet")
    field = table.schema.field("log_energy")
    assert field.metadata == {
        b"description": b"decimal logarithm of the energy", b"unit": b"decades"
    }  # fmt: skip
    expected = np.log10(table["energy"].to_numpy())
    assert np.allclose(table["log_energy"].to_numpy(), expected)


def test_names_are_the_namers_and_in_the_atlas(run: Path) -> None:
    table = pq.read_table(run / "tables" / "concepts.parquet")
    names = table["name"].to_pylist()
    labels = pq.read_table(run / "tables" / "concept_labels.parquet").to_pandas()
    best = labels.sort_values("phi", ascending=False).drop_duplicates("concept_id")
    expected = best.set_index("concept_id")["label"].to_dict()
    assert names == [expected.get(each) for each in table["concept_id"].to_pylist()]
    assert all(each.startswith("φ ") for each in table["name_evidence"].to_pylist() if each)
    page = (run / "atlas" / "concepts" / "0.html").read_text(encoding="utf-8")
    assert f"</span>{names[0]}</h1>" in page


def test_a_page_is_in_the_atlas_and_in_its_navigation(run: Path) -> None:
    page = (run / "atlas" / "confusions.html").read_text(encoding="utf-8")
    assert "What is taken for what" in page
    assert "<td>disc</td>" in page
    for name in ("index.html", "concepts/0.html"):
        text = (run / "atlas" / name).read_text(encoding="utf-8")
        assert 'confusions.html">Confusions</a>' in text


QUERY = """
import sys
from concordance import open_run
run = open_run(sys.argv[1])
image_id = int(run.table("images")["image_id"].iloc[0])
print(run.image(image_id).shape)
plain, edges = run.object_mask(image_id, refined="plain"), run.object_mask(image_id)
print(plain.dtype, plain.shape, edges.shape)
print(run.explain(run.image(image_id)).classes["label"].tolist())
"""


@pytest.mark.slow
def test_the_run_is_opened_and_its_masks_refined(installed: Path, run: Path) -> None:
    done = python(installed, "-c", QUERY, str(run))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["(64, 64, 3)", "bool (64, 64) (64, 64)"]
    assert "square" in done.stdout


def test_a_run_without_its_plug_in_says_what_is_missing(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.discover", f"--run={run}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "shapes:40 does not exist" in done.stderr
    assert "Traceback" not in done.stderr


CLASHING = """
import pyarrow as pa
from concordance.tables import Column

SIZE = Column("area", pa.int64(), "pixels of the image", "pixels", table="images",
              of=lambda facts: facts.rows["width"] * facts.rows["height"])
LABEL = Column("max", pa.string(), "the label again", table="images",
               of=lambda facts: facts.rows["label"].str.upper())
DOUBLED = Column("doubled", pa.int64(), "twice k", table="k_metrics",
                 of=lambda facts: 2 * facts.rows["k"])
"""
ENTRIES = "[concordance.columns]\nsize=clashing:SIZE\nup=clashing:LABEL\ntwo=clashing:DOUBLED\n"
ASKED = """
import sys
from concordance import open_run
run = open_run(sys.argv[1])
held = run.images_with(0)
known = run.sql("select area as size, max as label from images")
print(len(held), float(held["area"].max()) <= 1, set(known["size"]), sorted(set(known["label"])))
print(run.table("k_metrics").eval("doubled == 2 * k").all(), run.table("k_metrics")["k"].dtype)
print(run.sql("select count(*) as n from images_with(0)")["n"].iloc[0] == len(held))
"""


@pytest.mark.slow
def test_a_column_may_be_called_as_one_of_another_table(installed: Path, tmp_path: Path) -> None:
    """Queries over several tables say which table's column they mean."""
    (tmp_path / "clashing.py").write_text(CLASHING)
    about = tmp_path / "clashing-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: clashing\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    given = {
        "dataset": "shapes:40", "model": "example:stripes", "k": "2,3", "run": str(tmp_path / "r"),
        "plugins": "size,up,two", "image-size": "64",
    }  # fmt: skip
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(installed)])}
    argv = [f"--{name}={value}" for name, value in given.items()]
    done = python(installed, "-m", "stages.discover", *argv, **path)
    assert done.returncode == 0, done.stderr
    asked = python(installed, "-c", ASKED, given["run"], **path)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.splitlines() == ["40 True {4096} ['DISC', 'SQUARE']", "True int32", "True"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dataset": "shapes:many"}, "shapes:many is no number of images"),
        pytest.param(
            {"model": "example:dots"}, "example has no network 'dots'", marks=pytest.mark.slow
        ),
        ({"model": "exmaple:stripes"}, "there is no network source 'exmaple'; did you mean"),
        ({"plugins": "log_enrgy"}, "there is no plug-in 'log_enrgy'"),
        ({"namer": "lables"}, "there is no namer 'lables'; did you mean 'labels'"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    installed: Path, tmp_path: Path, options: dict[str, str], sentence: str
) -> None:
    given = {"dataset": "shapes:40", "model": "example:stripes", "run": str(tmp_path / "r")}
    argv = [f"--{name}={value}" for name, value in (given | options).items()]
    done = python(installed, "-m", "stages.discover", *argv)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_our_own_are_found_by_the_same_door() -> None:
    for kind in plugins.KINDS:
        for name in kind.built_in:
            assert plugins.load(kind, name) is not None
        assert plugins.names(kind)[: len(kind.built_in)] == list(kind.built_in)


def test_a_plug_in_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"no mask refiner 'edgs'; did you mean 'edges'"):
        plugins.load(plugins.REFINERS, "edgs")


def test_a_plug_in_that_fails_when_imported_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_refiner.py").write_text("def refine(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("broken", "broken_refiner:refine", plugins.REFINERS.group)
    monkeypatch.setattr(plugins, "entry_points", lambda **_: [entry])
    with pytest.raises(UserError, match="'broken' cannot be imported: SyntaxError: invalid syntax"):
        plugins.load(plugins.REFINERS, "broken")


def test_nothing_is_imported_that_was_not_named(installed: Path) -> None:
    code = (
        "import sys; from pipeline import plugins; print(plugins.names(plugins.NETWORKS));"
        "print('concordance_example' in sys.modules)"
    )
    done = python(installed, "-c", code)
    assert done.stdout.splitlines() == [
        "['torchvision', 'sample', 'timm', 'hf', 'code', 'pt2', 'given', 'example']",
        "False",
    ]


def test_two_packages_of_one_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, make_entry: Callable[[str], object]
) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda **_: [make_entry("a"), make_entry("b")])
    with pytest.raises(UserError, match="'twice' is in several packages: a, b; keep one"):
        plugins.load(plugins.REFINERS, "twice")


@pytest.fixture
def make_entry() -> Callable[[str], object]:
    """Make an entry point of a package."""

    class Package:
        def __init__(self, name: str) -> None:
            self.name = name

    class Entry:
        def __init__(self, package: str) -> None:
            self.name, self.value, self.dist = "twice", f"{package}:x", Package(package)

    return Entry
