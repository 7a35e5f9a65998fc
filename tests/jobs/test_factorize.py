"""The factorize stage: killed it goes on to the same bits; its bank means the same elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF

from pipeline import nmf
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize_shard
from pipeline.runs import fit as fitting
from pipeline.runs.balance import image_weights
from pipeline.runs.plan import record_outcome
from pipeline.runs.prepare import prepare
from pipeline.runs.readout import _means, _regressed, readout
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample
from pipeline.store import ACTIVATIONS, PositionBlocks, ShardStore, UnfinishedFit, sample_by_energy


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 images whose activations are there, and nothing else."""
    folder = tmp_path_factory.mktemp("stage")
    write_sample(folder / "sample", n_images=40)
    images = str(folder / "sample" / "images")
    extract(
        prepare(make_config({"dataset": images, "model": "sample", "k": "4,6"}), folder / "run")
    )
    return folder / "run"


def copied(run: Path, folder: Path) -> Workspace:
    shutil.copytree(run, folder)
    return Workspace.open(folder)


def datasets(bank: Path) -> dict[str, Any]:
    with h5py.File(bank, "r") as file:
        found: dict[str, Any] = dict(file.attrs)
        file.visititems(
            lambda name, node: (
                found.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None
            )
        )
        return found


class KilledError(BaseException):
    """Stands for whatever ends a process."""


def test_a_killed_fit_ends_with_the_same_bank(
    extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(UnfinishedFit, "due", lambda self: True)
    whole, killed = (copied(extracted, tmp_path / name) for name in ("whole", "killed"))
    counts = factorize(whole)
    assert counts["passes"] >= 1
    assert not list((whole.folder / "bank").glob("unfinished*"))
    save, n_saved = UnfinishedFit.save, 0

    def save_then_die(self: UnfinishedFit, state: dict[str, Any]) -> None:
        nonlocal n_saved
        save(self, state)
        n_saved += 1
        raise KilledError

    monkeypatch.setattr(UnfinishedFit, "save", save_then_die)
    with pytest.raises(KilledError):
        factorize(killed)
    assert n_saved == 1
    assert not (killed.folder / "bank" / "bank.h5").exists()
    monkeypatch.setattr(UnfinishedFit, "save", save)

    def not_again(*_: Any, **__: Any) -> None:
        raise AssertionError("what is known is computed again")

    monkeypatch.setattr(nmf, "choose_k", not_again)
    monkeypatch.setattr(nmf.engine, "fit_samples", not_again)
    assert factorize(killed) == counts
    banks = [datasets(each.folder / "bank" / "bank.h5") for each in (whole, killed)]
    assert banks[0].keys() == banks[1].keys()
    for name, value in banks[0].items():
        assert np.array_equal(
            value, banks[1][name], equal_nan=np.asarray(value).dtype.kind == "f"
        ), name
    evidence = [each.folder / "bank" / "k_metrics.json" for each in (whole, killed)]
    assert evidence[0].read_bytes() == evidence[1].read_bytes()


@pytest.mark.parametrize("damage", ["another fit", "half a file"])
def test_what_does_not_belong_to_the_fit_counts_as_nothing(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "unfinished.h5"
    first = UnfinishedFit(path, "this fit")
    first.save({"fit_W": np.eye(3)})
    again = UnfinishedFit(path, "this fit").load()
    assert again is not None
    assert np.array_equal(again["fit_W"], np.eye(3))
    if damage == "half a file":
        path.write_bytes(path.read_bytes()[:500])
    found = UnfinishedFit(path, "this fit" if damage == "half a file" else "another")
    assert (found.load(), found.choice) == (None, None)
    assert not found.due()
    assert UnfinishedFit(path, "any", every=0).due()


def test_a_choice_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    V = torch.rand(300, 12, generator=torch.Generator().manual_seed(0)) ** 3
    choice = nmf.choose_k(V, np.arange(300) // 10, (2,), n_replicates=2)
    UnfinishedFit(tmp_path / "unfinished.h5", "a").choose(choice)
    found = UnfinishedFit(tmp_path / "unfinished.h5", "a").choice
    assert found is not None
    assert (found.k, found.flagged, found.rows, found.control) == (
        choice.k,
        choice.flagged,
        choice.rows,
        choice.control,
    )
    assert torch.equal(found.W, choice.W)
    assert torch.equal(found.halves, choice.halves)


ENCODE = """
import sys, numpy as np, torch
from dataclasses import replace
from pathlib import Path
from pipeline.store import read_bank
maps = torch.from_numpy(np.load(sys.argv[2]))
H, residual = read_bank(Path(sys.argv[1])).encode(maps)
np.savez(sys.argv[3], H=H.numpy(), residual=residual.numpy())
"""


def test_a_bank_encodes_alike_in_another_process(extracted: Path, tmp_path: Path) -> None:
    workspace = copied(extracted, tmp_path / "run")
    factorize(workspace)
    maps = workspace.activations.read(0, ["V"])["V"][:5].astype(np.float32)
    np.save(tmp_path / "maps.npy", maps)
    bank = workspace.folder / "bank" / "bank.h5"
    arguments = [str(bank), str(tmp_path / "maps.npy"), str(tmp_path / "out.npz")]
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", ENCODE, *arguments], check=True, cwd=root)
    there = np.load(tmp_path / "out.npz")
    here = workspace.bank.encode(torch.from_numpy(maps))
    for name, array in zip(("H", "residual"), here, strict=True):
        assert np.array_equal(there[name], array.numpy()), name


def test_the_report_of_a_fit_is_true(extracted: Path, tmp_path: Path) -> None:
    workspace = copied(extracted, tmp_path / "run")
    counts = factorize(workspace)
    bank = workspace.bank
    W = torch.from_numpy(bank.W)
    errors, floors = [], []
    for split in ("fit", "heldout"):
        frame = workspace.listing.frame
        image_ids = frozenset(map(int, frame.image_id[frame.split == split]))
        blocks = PositionBlocks(workspace.activations, image_ids, bank.transform)
        V = torch.cat(list(blocks))
        residual = V - nmf.encode(V, W, tol=1e-6) @ W.T
        errors.append(float(residual.double().norm() / V.double().norm()))
        floors.append(nmf.svd_error(V, bank.k))
    assert bank.error == pytest.approx(errors[0], rel=2e-3)
    assert bank.heldout_error == pytest.approx(errors[1], rel=2e-3)
    assert bank.svd_error == pytest.approx(floors[0], rel=0.05)
    assert (counts["k"], counts["dead"]) == (bank.k, 0)


def test_positions_drawn_by_energy_stand_for_all(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = ShardStore(tmp_path, ACTIVATIONS, 2)
    V = (rng.random((40, 6, 6, 8)) ** 4 * rng.lognormal(0, 1, (40, 6, 6, 1))).astype(np.float32)
    for index in range(2):
        ids = np.arange(20 * index, 20 * index + 20)
        store.write(index, {"V": V[ids], "image_id": ids})
    blocks = PositionBlocks(store, frozenset(range(40)), nmf.Transform("none"))
    sample = sample_by_energy(blocks, 640, seed=0)
    assert sample.shape == (640, 8)
    assert torch.equal(sample, sample_by_energy(blocks, 640, seed=0))
    assert not torch.equal(sample, sample_by_energy(blocks, 640, seed=1))
    scale = 40 * 36 / 640
    actual = nmf.gram(blocks)
    assert torch.allclose(scale * nmf.gram([sample]).trace(), actual.trace(), rtol=1e-4)
    off = float((scale * nmf.gram([sample]) - actual).norm() / actual.norm())
    assert off < 0.03


def test_offsets_of_shift_are_the_minima_of_all_fit_images(extracted: Path, tmp_path: Path) -> None:
    workspace = copied(extracted, tmp_path / "run")
    blocks = PositionBlocks(workspace.activations, workspace.ids("fit"), nmf.Transform("none"))
    V = torch.cat(list(blocks)).float()
    data = fitting.FitData(workspace.activations, workspace.ids("fit"))
    few = V[V.sum(1).topk(5).indices]  # strong ones: their minima lie higher
    assert torch.equal(fitting._minimum(data, few), few.amin(0))
    shifted = replace(data, transform="shift")
    assert torch.equal(fitting._minimum(shifted, few), V.amin(0))
    assert not torch.equal(few.amin(0), V.amin(0))


@pytest.mark.slow
def test_images_or_labels_of_any_size_weigh_the_same(tmp_path: Path) -> None:
    """``BALANCE``: shares of what is fitted, and what a weighted fit is better at."""
    write_sample(tmp_path / "sample", n_images=40)
    images = tmp_path / "sample" / "images"
    of_label = sorted(images.iterdir())
    for path in list(of_label[0].iterdir())[1:]:
        path.unlink()  # one label has a single image now
    positions, fits = {}, {}
    for balance in ("none", "image", "class"):
        options = {"dataset": str(images), "model": "sample", "k": "3", "balance": balance}
        workspace = prepare(make_config(options), tmp_path / balance)
        extract(workspace)
        factorize(workspace)
        fits[balance] = torch.from_numpy(workspace.bank.W)
        weights = image_weights(workspace)
        labels = workspace.listing.frame.set_index("image_id").label
        fit_ids, energy, parts = workspace.ids("fit"), dict[object, float](), []
        for arrays in workspace.activations.iterate(["V", "image_id"], fit_ids):
            for V, image_id in zip(arrays["V"], arrays["image_id"].tolist(), strict=True):
                factor = 1.0 if weights is None else weights[image_id]
                parts.append(factor * torch.from_numpy(V).float().flatten(0, 1))
                group = {"none": "", "image": image_id, "class": labels[image_id]}[balance]
                energy[group] = energy.get(group, 0) + float(parts[-1].square().sum())
        assert len(energy) == {"none": 1, "image": len(fit_ids), "class": labels.nunique()}[balance]
        shares = np.array(list(energy.values()))
        assert shares == pytest.approx(np.full(len(shares), shares.mean()), rel=1e-3)
        positions[balance] = torch.cat(parts)
    for balance, V in positions.items():
        left = {
            name: float((V - nmf.encode(V, W, tol=1e-6) @ W.T).double().norm())
            for name, W in fits.items()
        }
        assert left[balance] == min(left.values()), (balance, left)
        theirs = NMF(3, init="nndsvda", max_iter=500, tol=1e-5).fit(V.double().numpy())
        assert left[balance] <= 1.005 * theirs.reconstruction_err_


@pytest.mark.parametrize("model", ["sample", pytest.param("sample-vit", marks=pytest.mark.slow)])
def test_faithful_concepts_are_measured_as_others_are(tmp_path: Path, model: str) -> None:
    write_sample(tmp_path / "sample", n_images=40)
    images = str(tmp_path / "sample" / "images")
    found = {}
    for objective in ("energy", "faithful"):
        options = {"dataset": images, "model": model, "k": "5", "objective": objective}
        workspace = prepare(make_config(options), tmp_path / objective)
        extract(workspace)
        factorize(workspace)
        found[objective] = workspace
    bank = found["faithful"].bank
    blocks = PositionBlocks(workspace.activations, workspace.ids("fit"), bank.transform)
    V = torch.cat(list(blocks)).float()
    left = {}
    for objective, each in found.items():
        W = torch.from_numpy(each.bank.W)
        left[objective] = float((V - nmf.encode(V, W, tol=1e-5) @ W.T).norm() / V.norm())
    assert bank.error == pytest.approx(left["faithful"], rel=1e-3)
    assert bank.energies.sum() == pytest.approx(1 - bank.error**2, abs=1e-3)
    assert not np.allclose(bank.W, found["energy"].bank.W, rtol=1e-3)
    explained = {objective: 1 - each**2 for objective, each in left.items()}
    assert explained["faithful"] > 0.95 * explained["energy"]


def test_what_is_read_of_means_is_the_head_or_what_regression_finds(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=60)
    given = {"dataset": str(tmp_path / "sample" / "images"), "model": "sample", "k": "3"}
    workspace = prepare(make_config(given | {"objective": "faithful"}), tmp_path / "run")
    extract(workspace)
    rows = readout(workspace)
    assert rows is not None
    linear = workspace.cut.linear
    assert linear is not None  # the sample's head is linear in the mean
    assert torch.allclose(rows, linear[0] - linear[0].mean(0), atol=1e-6)
    regressed = _regressed(workspace)
    means, logits = (np.concatenate(each) for each in zip(*_means(workspace), strict=True))
    apart = means - means.mean(0)
    told, own = apart @ regressed.T.numpy(), logits - logits.mean(0)
    assert np.square(told - own).sum() < 0.02 * np.square(own).sum()
    assert readout(prepare(make_config(given), tmp_path / "energy")) is None


def test_what_has_no_classes_cannot_be_asked_for_its_answers(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=8)
    images = str(tmp_path / "sample" / "images")
    options = {"dataset": images, "model": "sample", "head": "none", "objective": "faithful"}
    with pytest.raises(UserError, match="says no classes"):
        prepare(make_config(options), tmp_path / "run")


def test_a_worker_that_lives_on_takes_the_run_as_it_is_now(extracted: Path, tmp_path: Path) -> None:
    """Workers of a cluster serve run after run, and a folder may hold another one by then."""
    folder = tmp_path / "run"
    for seed in (0, 5):
        workspace = copied(extracted, folder)
        config = workspace.config.model_copy(update={"seed": seed, "k": (3 + seed,)})
        factorize(replace(workspace, config=config))
        record_outcome(workspace, "factorize", {})
        localize_shard(folder, 0)
        arrays = workspace.heatmaps.read(0, ["H"])
        V = torch.from_numpy(workspace.activations.read(0, ["V"])["V"])
        expected = Workspace.open(folder).bank.encode(V)[0]
        assert arrays["H"] == pytest.approx(expected.numpy().astype(np.float16), abs=1e-2)
        shutil.rmtree(folder)
