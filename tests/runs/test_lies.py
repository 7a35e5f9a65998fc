"""Runs of which a file is wrong while every digest agrees: what files hold is compared."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import discover, open_run, verify
from pipeline.analysis.objects import read_objects
from pipeline.errors import UserError
from pipeline.runs.workspace import Workspace
from pipeline.tables import TABLES
from tests.runs import lies
from tests.runs.test_damage import answers

READERS: dict[str, Callable[[Workspace], object]] = {
    "bank/bank.h5": lambda workspace: workspace.bank,
    "bank/classes.h5": lambda workspace: workspace.classification,
    "bank/objects.h5": read_objects,
    "activations/shard-00000.h5": lambda workspace: workspace.activations.read(0),
    "heatmaps/shard-00000.h5": lambda workspace: workspace.heatmaps.read(0),
}
NONE_REJECTED = r"rejected_(path|reason) (empty|no UTF-8)"
MAY_BE = {
    "bank/bank.h5": r"stability (nan|infinite)|reappears(_low|_high)? nan"
    r"|@(heldout_|svd_|)error number|@(exponent|active) missing|tree missing"
    r"|tree/(heldout_errors|shares) nan",
    "bank/classes.h5": r"(context|direction|z_context|z_direction|nothing|importance|sobol_total"
    r"|deletion_effect|insertion_effect) (nan|infinite)|usual_(classes|n) large"
    r"|usual_(peak|residual) nan|(single|group)/(mass|moved|p|agreed|agreed_p|q|odds) nan"
    r"|(single|group)( missing|/odds missing|/classes a column more)"
    r"|(inside|place_share) (nan|missing)|place missing",
    "bank/objects.h5": "finer missing",
    "activations/shard-00000.h5": r"(content|damage|look|note|seen|thumbnail) missing|norm nan"
    rf"|logits (a column more|nan|infinite)|{NONE_REJECTED}",
    "heatmaps/shard-00000.h5": r"(content|damage|look|note|seen|thumbnail) missing"
    r"|(image_residual|residual) nan|contribution (nan|infinite)"
    rf"|logits (a column more|nan|infinite)|{NONE_REJECTED}",
}
"""Changes that a file's form allows: what is not known can be NaN, earlier versions have less."""


@pytest.mark.parametrize("name", READERS)
def test_every_array_and_attribute_of_a_file_is_compared(run: Path, name: str) -> None:
    path = run / name
    clean = path.read_bytes()
    for record in run.glob("*/*.json"):  # without one nothing is known of digests
        if record.name != "k_metrics.json":
            record.unlink()
    READERS[name](Workspace.open(run))
    told = [*lies.of_hdf5(run, name), *(lie for lie in lies.of_ids() if lie.file == name)]
    assert len(told) > 50
    for lie in told:
        lie.change(path)
        may_be = re.fullmatch(f"{MAY_BE[name]}|@layer text", lie.name) is not None
        try:
            READERS[name](Workspace.open(run))
            assert may_be, lie
        except UserError as error:
            assert not may_be, lie
            assert str(path) in str(error), lie
            assert len(str(error)) < 1_000, lie
        path.write_bytes(clean)


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=[pytest.mark.slow] * (each == "concepts")) for each in TABLES],
)
def test_columns_and_keys_of_a_table_are_compared(run: Path, name: str) -> None:
    path = run / "tables" / f"{name}.parquet"
    clean = path.read_bytes()
    (run / "tables" / "tables.json").unlink()
    is_later = {column.name for column in TABLES[name].columns if column.is_later}
    n_told = 0
    for lie in lies.of_parquet(run, f"tables/{name}.parquet"):
        column, _, how = lie.name.partition(" ")
        lie.change(path)
        wrong = how in ("missing", "of another type") and not (
            how == "missing" and column in is_later
        )
        if wrong or lie.name == "no metadata" or _is_of_keys(name, column, how):
            n_told += 1
            with pytest.raises(UserError, match=re.escape(str(path))):
                open_run(run).table(name)
        else:  # what it holds is what it says
            assert list(open_run(run).table(name).columns) or lie.name == "no rows"
        path.write_bytes(clean)
    assert n_told > 2
    assert len(open_run(run).table(name).columns) == len(TABLES[name].columns)


@pytest.mark.parametrize("name", TABLES)
def test_pages_of_a_table_that_cannot_be_unpacked_are_told(run: Path, name: str) -> None:
    path = run / "tables" / f"{name}.parquet"
    clean = path.read_bytes()
    (run / "tables" / "tables.json").unlink()
    footer = len(clean) - 8 - int.from_bytes(clean[-8:-4], "little")
    n_told = 0
    for start in range(4, footer - 16, max(1, footer // 24)):
        path.write_bytes(clean[:start] + b"\xff" * 16 + clean[start + 16 :])
        try:
            open_run(run).table(name)
        except UserError as error:
            n_told += 1
            assert path.name in str(error) or str(run) in str(error)
    path.write_bytes(clean)
    assert n_told > 0 or len(open_run(run).table(name)) == 0


def _is_of_keys(table: str, column: str, how: str) -> bool:
    """Say whether a lie makes a row not to be found, or found twice."""
    by_concept = ("concepts", "concept_classes", "concept_labels", "image_concepts", "regions")
    if column == "concept_id":
        return table in by_concept
    return f"{table} {column} {how}" in {
        "images image_id null", "images image_id negative", "images path null",
        "images rows twice", "concepts rows twice", "concepts no rows",
        "concept_classes rows twice", "concept_classes no rows", "concept_classes label null",
        "concept_classes rank null", "concept_classes rank negative", "concept_classes source null",
        "concept_classes source long", "k_metrics k null", "k_metrics k negative",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("run.json", marks=pytest.mark.slow),
        "config.toml",
        pytest.param("bank/k_metrics.json", marks=pytest.mark.slow),
    ],
)
def test_what_a_run_says_of_itself_goes_together(run: Path, tmp_path: Path, name: str) -> None:
    """Answers are the same, or one sentence says which file cannot be."""
    told = lies.of_toml() if name == "config.toml" else lies.of_json(run, name)
    expected = answers(open_run(run))
    n_refused = 0
    for lie in told:
        copy = lies.copy(run, tmp_path / "lying")
        lie.tell(copy)
        try:
            assert answers(open_run(copy)).keys() == expected.keys(), lie
            if name == "bank/k_metrics.json":
                (copy / "tables" / "tables.json").unlink()
                discover(run=str(copy))
        except UserError as error:
            n_refused += 1
            assert str(copy) in str(error) or name != "bank/k_metrics.json", (lie, str(error))
        shutil.rmtree(copy)
    assert n_refused > 5 or name == "config.toml"


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("bank/bank.h5", "W nan"), ("bank/classes.h5", "p missing"),
        ("bank/objects.h5", "shares empty"), ("activations/shard-00000.h5", "V texts"),
        ("heatmaps/shard-00000.h5", "H another rank"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_made_again(run: Path, name: str, lie: str) -> None:
    """As the sentence says that tells of it."""
    expected = answers(open_run(run))
    next(each for each in lies.of_hdf5(run, name) if each.name == lie).tell(run)
    assert verify(run).bad == {run / name: "holds something else than it must"}
    discover(run=str(run))
    assert verify(run).is_whole
    assert answers(open_run(run)) == expected
