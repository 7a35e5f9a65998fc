"""ACTIVE: of many concepts a position has few, in the bank, in heatmaps, and in new images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import discover, nmf, open_run
from pipeline.analysis.report import summary
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.runs.bank import fit_run
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample
from pipeline.store import PositionBlocks
from pipeline.system import files
from tests.runs.test_estimate import estimated

K, ACTIVE = 200, 4


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("active") / "sample"
    write_sample(folder, n_images=24)
    return str(folder / "images")


@pytest.fixture(scope="module")
def run(images: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of more concepts than the layer has channels."""
    folder = tmp_path_factory.mktemp("active") / "run"
    discover(images, model="sample", k=K, active=ACTIVE, run=folder)
    return folder


@pytest.mark.slow
def test_every_position_has_few(run: Path, images: str) -> None:
    workspace = Workspace.open(run)
    bank = workspace.bank
    assert (bank.k, bank.active) == (K, ACTIVE)
    assert len(bank.W) < K
    H = np.concatenate([each["H"] for each in workspace.heatmaps.iterate(["H"])])
    assert (H > 0).sum(-1).max() == ACTIVE
    assert (H > 0).any((0, 1, 2)).mean() > 0.9
    maps = torch.from_numpy(next(iter(workspace.activations.iterate(["V"])))["V"]).float()
    again, _ = bank.encode(maps)
    assert np.array_equal(again.numpy().astype(np.float16), H[: len(again)])


@pytest.mark.slow
def test_of_many_the_summary_lists_some_and_says_where_the_others_are(run: Path) -> None:
    text = summary(open_run(run))
    listed = re.findall(r"^ +(\d+) .*\d%", text, re.MULTILINE)
    assert len(listed) == 30
    assert "170 more, on which less hangs" in text
    concepts = open_run(run).table("concepts")
    drops = concepts.set_index("concept_id")["importance"].abs()
    shown = drops.loc[[int(each) for each in listed]]
    assert shown.min() >= drops.drop(shown.index).max()


@pytest.mark.slow
def test_what_is_said_of_them_is_of_few_a_position(run: Path) -> None:
    workspace = Workspace.open(run)
    bank = workspace.bank
    blocks = PositionBlocks(workspace.activations, workspace.ids("fit"), bank.transform)
    V = torch.cat(list(blocks)).float()
    W = torch.from_numpy(bank.W)
    H = nmf.encode(V, W, active=ACTIVE)
    assert bank.error == pytest.approx(float((V - H @ W.T).norm() / V.norm()), rel=1e-3)
    assert bank.energies.sum() == pytest.approx(1 - bank.error**2, abs=1e-3)
    strength = (H.double().square().sum(0) / H.double().sum(0)).numpy()  # the gauge
    assert np.nanmedian(strength) == pytest.approx(1, rel=1e-3)
    assert bank.reappearance is not None
    assert np.isfinite(bank.reappearance.probability).all()


@pytest.mark.slow
def test_they_are_fitted_to_shortened_positions_and_measured_on_those_there_are(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, seen = Workspace.open(run), []
    fit = nmf.fit

    def watched(blocks: PositionBlocks, *given: Any, **options: Any) -> nmf.Fit:
        seen.append(torch.cat([each.float() for each in blocks]))
        return fit(blocks, *given, **options)

    monkeypatch.setattr("pipeline.runs.fit.nmf.fit", watched)
    bank = fit_run(workspace, (K,)).bank
    blocks = PositionBlocks(workspace.activations, workspace.ids("fit"), bank.transform)
    V = torch.cat([each.float() for each in blocks])
    lengths = V.norm(dim=1)
    assert torch.allclose(seen[0].norm(dim=1), lengths ** (1 - nmf.power_of(ACTIVE)), rtol=1e-3)
    left = V - nmf.encode(V, torch.from_numpy(bank.W), active=ACTIVE) @ torch.from_numpy(bank.W).T
    assert bank.error == pytest.approx(float(left.norm() / V.norm()), rel=1e-3)


@pytest.mark.slow
def test_dense_concepts_from_the_same_activations(run: Path) -> None:
    other = discover(from_run=run, run=run.with_name("other"), k=20, active="none")
    assert (len(open_run(run).table("concepts")), len(other.table("concepts"))) == (K, 20)
    assert Workspace.open(run.with_name("other")).bank.active is None


@pytest.mark.slow
def test_no_more_disk_than_was_estimated(run: Path) -> None:
    found = estimated(run)
    for name, most in found.disk.items():
        assert 0 < files.size(run / name) <= most, name
    workspace = Workspace.open(run)
    n_positions = len(workspace.listing.frame) * workspace.cut.height * workspace.cut.width
    assert found.disk["heatmaps"] < 2 * n_positions * K  # float16 of each strength


@pytest.mark.slow
def test_bits_are_the_same_again(run: Path, images: str, tmp_path: Path) -> None:
    given = {"dataset": images, "model": "sample", "k": str(K), "active": str(ACTIVE)}
    workspace = prepare(make_config(given), tmp_path / "run")
    extract(workspace)
    factorize(workspace)
    assert np.array_equal(workspace.bank.W, Workspace.open(run).bank.W)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": "20,30", "active": "4"}, "not weighed against each other"),
        ({"active": "4"}, "not weighed against each other"),
        ({"k": "100,200"}, "not weighed against each other"),
        ({"k": "200", "active": "none"}, "more than the data allows"),
        ({"k": "1000000"}, "positions; it can be"),
        ({"k": "5", "active": "0"}, "greater than 0"),
        ({"k": "5", "active": "few"}, "it takes"),
    ],
)
def test_refused_before_work(
    images: str, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        prepare(make_config({"dataset": images, "model": "sample", **options}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
