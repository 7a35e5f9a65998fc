"""The benchmark of localization scores what it says: truths made from a run's own answers are 1."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from benchmarks import faithful, localization, part_labels, partitions
from benchmarks.harness import Report
from benchmarks.object_masks import WITHOUT_PRIOR, Reported, score_objects
from benchmarks.parts import PART_SIDE, score_cars, score_sample
from pipeline.analysis.image_data import ImageData
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run on forty scenes, up to what is object."""
    folder = tmp_path_factory.mktemp("localization")
    write_sample(folder / "sample", n_images=40)
    options = {"dataset": str(folder / "sample" / "images"), "model": "sample"}
    options |= {"k": "8", "aux_layers": "edges"}
    return localization._run(options, folder / "run")


def outcomes(printed: str) -> dict[str, float]:
    """Read the value of each target from what was printed."""
    lines = [line.split() for line in printed.splitlines() if line.startswith("BAR")]
    return {name: float(value) for _, name, value, *_ in lines}


@pytest.mark.slow
def test_objects_are_scored_on_one_half_of_the_images(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maps, shares, n_reported = ImageData(workspace), [], 0
    (tmp_path / "masks").mkdir()
    for image_id, path in workspace.listing.frame[["image_id", "path"]].itertuples(index=False):
        stem = Path(path).stem
        mask = maps.object_mask(int(image_id))
        if hashlib.sha256(stem.encode()).digest()[0] >= 128:
            shares.append(mask.mean())
            n_reported += 1
        else:
            mask = ~mask  # what constants were fixed on must not count
        Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "masks" / f"{stem}.png")
    names = ("concepts.horses.j", "concepts.refinement_control_gap")
    report = Report([each for each in localization.TARGETS if each.name in names])
    found = score_objects(report, workspace, tmp_path, "horses", names[1])
    report.finish()
    printed = capsys.readouterr().out
    assert f"horses, {n_reported} held-out images, max F " in printed
    assert 10 < n_reported < 30
    assert found["ours"] == 1
    assert found["everything is object"] == pytest.approx(np.mean(shares))
    controls = [value for name, value in found.items() if name.startswith("control: refined")]
    assert len(controls) == 2
    assert outcomes(printed) == {
        names[0]: 1.0,
        names[1]: pytest.approx(found[WITHOUT_PRIOR] - max(controls), abs=1e-4),
    }
    assert all(0 <= value <= 1 for value in found.values())
    # Where the truth is what lies above a half, F is 1 there.
    assert Reported.of(workspace, tmp_path / "masks").max_f() == 1
    for way in ("pytorch-grad-cam's rule", "k-means, k = 8", "one strength, Otsu"):
        assert found[f"{way}, best union"] >= found[f"{way}, best concept"] > 0


@pytest.mark.slow
def test_parts_are_scored_as_a_division_of_the_foreground(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    maps = ImageData(workspace)
    (tmp_path / "parts").mkdir()
    for image_id, path in workspace.listing.frame[["image_id", "path"]].itertuples(index=False):
        found = maps.concept_map(int(image_id), (PART_SIDE, PART_SIDE), 1.0)
        picture = Image.fromarray((found + 1).astype(np.uint8))
        picture.save(tmp_path / "parts" / f"{Path(path).stem}.png")
    scored = []
    for first, second in (("front", "back"), ("left_side", "right_side")):
        parts = {"0": "_background_", "1": first, "2": second}
        parts |= {str(index): f"part {index}" for index in range(3, 9)}
        (tmp_path / "parts.json").write_text(json.dumps(parts), "utf-8")
        report = Report([each for each in localization.TARGETS if "cars" in each.name])
        score_cars(report, workspace, tmp_path)
        report.finish()
        scored.append(outcomes(capsys.readouterr().out))
    apart, merged = scored
    assert apart == {"concepts.cars.fg_nmi": 1.0, "concepts.cars.fg_ari": 1.0}
    assert all(0 < value < 1 for value in merged.values())  # left and right are one part


@pytest.mark.slow
def test_the_sample_is_scored_against_its_own_masks(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("concepts.sample.objects_j", "concepts.sample.parts_over_gradcam")
    report = Report([each for each in localization.TARGETS if each.name in names])
    found = score_sample(report, workspace)
    report.finish()
    root = Path(workspace.record.dataset.root).parent
    shares = [
        (np.asarray(Image.open(path)) > 0).mean() for path in (root / "objects").rglob("*.png")
    ]
    assert found["everything is object"] == pytest.approx(np.mean(shares))
    assert found["everything is object"] + 0.1 < found["ours"] < 1
    measured = outcomes(capsys.readouterr().out)
    assert measured[names[0]] == pytest.approx(found["ours"], abs=1e-4)
    assert measured[names[1]] > 0


def test_peers_divide_the_same_activations() -> None:
    rng = np.random.default_rng(0)
    V = rng.random((6, 4, 4, 10), dtype=np.float32)
    V[:3, ..., :5] += 9
    of_cluster = partitions.kmeans(V, 2)
    assert (of_cluster.sum(-1) == 1).all()
    assert len(np.unique(of_cluster[:3].argmax(-1))) == 1
    assert (of_cluster[:3, ..., 0] != of_cluster[3:, ..., 0]).all()
    both = partitions.singular(V, 3)
    assert both.shape == (6, 4, 4, 6)
    assert (both.min(-1) == 0).all()
    s = np.linalg.svd(V.reshape(-1, 10).astype(np.float64), compute_uv=False)
    assert np.square(both.astype(np.float64)).sum() == pytest.approx(
        np.square(s[:3]).sum(), rel=1e-5
    )
    scaled = partitions.per_image(V)
    assert scaled.min(axis=(1, 2)).max() == 0
    assert scaled.max(axis=(1, 2)) == pytest.approx(1)


@pytest.mark.slow
def test_agreement_is_measured_beside_svd_and_exchanged_channels(workspace: Workspace) -> None:
    found = faithful.measured(workspace, (2, 6))
    assert list(found["k"]) == [2, 6]
    said = found.drop(columns="active")
    two, six = ({way: float(row[way]) for way in said.columns} for _, row in said.iterrows())
    assert all(0 <= each[way] <= 1 for each in (two, six) for way in ("ours", "svd", "permuted"))
    assert six["ours"] > six["mean"]
    assert six["ours"] > six["permuted"]
    assert six["kl"] < two["kl"]


@pytest.mark.slow
def test_few_of_many_concepts_are_measured_beside_an_autoencoder(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faithful, "EPOCHS", 2)
    (row,) = faithful.measured_sparse(workspace, (24,)).to_dict("records")
    assert (row["k"], row["active"]) == (24, faithful.ACTIVE)
    assert all(0 <= row[way] <= 1 for way in ("ours", "faithful", "autoencoder", "svd"))
    assert row["ours"] > row["mean"]
    assert 0 < row["energy"] < 1


@pytest.mark.slow
def test_agreement_is_told_and_drawn_for_few_and_many(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("DENSE", (2, 6)), ("SPARSE", (24,)), ("EPOCHS", 1)):
        monkeypatch.setattr(faithful, name, value)
    run = SimpleNamespace(workspace=workspace)
    monkeypatch.setattr(faithful, "run_of", lambda case, folder: run)
    axes = Figure().add_subplot()
    monkeypatch.setattr(faithful, "plot", lambda name, draw: draw(axes))
    report = Report(faithful.TARGETS)
    faithful.measure(report, quick=False)
    report.skip_rest("not at 200")
    said = capsys.readouterr().out
    assert "autoencoder" in said
    assert len(axes.lines) == 18  # of two datasets four ways each, dense, and five, sparse


def test_targets_of_parts_are_of_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    ours, autoencoder, clusters = {32: 0.2, 512: 0.1}, {32: 0.1, 512: 0.2}, {32: 0.25, 512: 0.4}
    ways = {"ours": ours, "autoencoder": autoencoder, "k-means": clusters}
    ways["ours, K=auto"] = {48: 0.15}
    table = pd.DataFrame(
        [
            {"k": k, "way": way, "mAP": each}
            for way, maps in ways.items()
            for k, each in maps.items()
        ]
    )
    report = Report(part_labels.TARGETS)
    part_labels.judge(report, table)
    assert report.finish() == 1
    said = capsys.readouterr().out
    assert "concepts.map.over_best 0.8000 at-least 1 short" in said  # of few: 0.2 beside 0.25
    assert "concepts.map.over_sae 0.5000 at-least 1 short" in said  # the worst of all numbers
    assert "concepts.map.auto_over_best_k 0.7500 at-least 0.95 short" in said


def test_targets_are_of_faithful_concepts(capsys: pytest.CaptureFixture[str]) -> None:
    row: dict[str, object] = {"k": 100, "active": "any", "ours": 0.5, "svd": 0.75}
    row |= {"faithful": 0.6, "faithful permuted": 0.3}
    found = pd.DataFrame([row | {"dataset": case.dataset} for case in faithful.CASES])
    at_200 = found.assign(k=200, faithful=0.45)
    many = at_200.assign(active=16, faithful=0.9)
    report = Report(faithful.TARGETS)
    faithful.judge(report, pd.concat([found, found.assign(k=50, faithful=0.1), at_200, many]))
    assert report.finish() == 1
    said = capsys.readouterr().out
    assert "imagenette224.k100_over_svd 0.8000 at-least 0.94 short" in said
    assert "imagenet600.k100_over_plain 1.2000 at-least 1.8 short" in said
    assert "imagenet600.k200_over_plain 0.9000 at-least 1.8 short" in said
    for case in faithful.CASES:
        assert f"{case.dataset}.permuted_over_ours 0.5000 at-most 0.33 short" in said
