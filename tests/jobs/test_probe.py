"""HEAD=probe: a head fitted on the labels, from the activations to the atlas; HEAD=none."""

from __future__ import annotations

import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import pipeline
from pipeline.analysis.compare import compare
from pipeline.analysis.report import summary
from pipeline.analysis.run import Run, open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.images import load_image, network_input
from pipeline.jobs import factorize as stage
from pipeline.jobs.discover import discover_run
from pipeline.models import list_layers, load_network
from pipeline.runs.integrity import verify
from pipeline.runs.ownership import split_files
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.sample import write_sample
from pipeline.store import read_probe
from tests.runs import lies
from tests.runs.conftest import contents

timm: Any = import_module("timm")

VIT: dict[str, Any] = {"model": "timm:test_vit", "weights": "random", "image_size": 64}
PRODUCTS = ("bank", "heatmaps", "tables", "atlas")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 images of 16 labels, a copy of one, a file that is none, and two of a rare label."""
    base = tmp_path_factory.mktemp("labelled")
    write_sample(base / "sample", n_images=120, size=64)
    folder = base / "sample" / "images"
    first = sorted(folder.rglob("*.jpg"))[0]
    shutil.copy(first, first.with_name("copy.jpg"))
    first.with_name("broken.jpg").write_bytes(b"none")
    (folder / "rare").mkdir()
    for index in range(2):
        Image.new("RGB", (64, 64), (40 * index, 90, 10)).save(folder / "rare" / f"{index}.png")
    return folder


def make(images: Path, run: Path, **options: Any) -> Run:
    given = {"dataset": images, "run": run, "head": "probe", "k": 3, "image_size": 64}
    return pipeline.discover(**{**given, "model": "sample", **options})


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make(images, tmp_path_factory.mktemp("probe") / "run")


def pooled(run: Run, images: Path) -> pd.DataFrame:
    """Mean activations of a run's images by a forward hook on the network itself."""
    network = load_network("sample", image_size=64)
    seen: list[torch.Tensor] = []
    layer = network.module.get_submodule(run.workspace.config.layer)
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (network.mean, network.std))
    frame = run.table("images").set_index("path")
    with torch.no_grad():
        for path in frame.index:
            square, _ = network_input(load_image(images / path), 64, "squash", network.scaling)
            network.module(((square / 255 - mean) / std)[None])
    hook.remove()
    # As activations are stored.
    rows = [each[0].half().float().mean((1, 2)).numpy() for each in seen]
    frame["pooled"] = pd.Series(rows, index=frame.index, dtype=object)
    return frame


def test_the_probe_is_scikit_learns_on_the_same_images(run: Run, images: Path) -> None:
    frame = pooled(run, images)
    probe = run.workspace.probe
    counts = frame.loc[frame["split"] == "fit", "label"].value_counts()
    assert probe.labels == tuple(sorted(counts.index[counts >= 5]))
    assert "rare" not in probe.labels
    known = frame[(frame["split"] == "fit") & frame["label"].isin(probe.labels)]
    x = np.stack(known["pooled"].tolist()).astype(np.float64)
    scaler = StandardScaler().fit(x)
    other = LogisticRegression(C=probe.strength, max_iter=5_000, tol=1e-10)
    other.fit(scaler.transform(x), known["label"].to_numpy(str))
    every = scaler.transform(np.stack(frame["pooled"].tolist()).astype(np.float64))
    expected = other.decision_function(every)
    assert (frame["pred_label"] == other.predict(every)).all()
    image_ids = frame["image_id"].tolist()
    for image_id, row in zip(image_ids[:20], expected, strict=False):
        assert run.logits(image_id)[1] == pytest.approx(row.max(), abs=1e-4)
        entry = run._maps.entry(image_id)["logits"]
        assert np.abs(entry - row).max() < 1e-4
    heldout = frame[(frame["split"] == "heldout") & frame["label"].isin(probe.labels)]
    assert probe.n_fit == len(known)
    assert probe.n_heldout == len(heldout)
    assert probe.accuracy == (heldout["label"] == heldout["pred_label"]).mean()
    assert probe.chance == heldout["label"].value_counts().max() / len(heldout)
    assert probe.accuracy > probe.chance
    assert (frame["split"] == "copy").sum() == 1


def test_logits_split_exactly_and_classes_are_the_labels(run: Run) -> None:
    workspace = run.workspace
    assert workspace.cut.head_kind == "pool_linear"
    assert workspace.class_of_label == {
        label: index for index, label in enumerate(workspace.class_names)
    }
    image_ids = run.table("images")["image_id"].tolist()[:10]
    parts = run.meaning.split(image_ids)
    assert parts["exact"].all()
    stored = [run.logits(image_id)[1] for image_id in image_ids]
    assert np.allclose(parts["logit"], stored, atol=1e-4)
    for image_id in image_ids:
        rows = run.sql("from image_concepts where image_id = ? order by concept_id", [image_id])
        own = parts.set_index("image_id").loc[image_id]
        for concept_id, contribution in zip(rows["concept_id"], rows["contribution"], strict=True):
            assert contribution == pytest.approx(own[f"concept_{concept_id}"], abs=1e-4)
    labels = run.table("images").dropna(subset=["pred_label"])
    assert set(labels["pred_label"]) <= set(workspace.probe.labels)
    assert run.table("concepts")["top_label"].notna().all()
    assert run.table("concept_labels")["label"].isin([*workspace.class_names, "rare"]).all()


def test_how_good_it_is_stands_where_one_looks(run: Run) -> None:
    probe, facts = run.workspace.probe, run.workspace.record.stage("factorize").counts
    assert facts["probe_accuracy"] == pytest.approx(probe.accuracy, abs=1e-5)
    assert facts["probe_chance"] == pytest.approx(probe.chance, abs=1e-5)
    (row,) = run.sql("from fidelity where metric = 'probe_accuracy'").to_dict("records")
    assert (row["value"], row["baseline"]) == (probe.accuracy, probe.chance)
    assert (row["n"], row["split"]) == (probe.n_heldout, "heldout")
    words = f"right on {probe.accuracy:.1%} of {probe.n_heldout} held-out images"
    assert words in summary(run)
    page = (run.folder / "atlas" / "index.html").read_text(encoding="utf-8")
    assert words in page
    for path in (run.folder / "atlas").rglob("*.html"):
        assert "no classes" not in path.read_text(encoding="utf-8"), path
    assert run.workspace.record.layer.head == "pool_linear"


def test_what_is_asked_of_a_run_is_asked_of_the_probe(run: Run, images: Path) -> None:
    again = open_run(run.folder)
    row = run.table("images").iloc[0]
    found = again.explain(images / row["path"])
    assert found.classes["label"][0] == row["pred_label"]
    assert found.classes["prob"][0] == pytest.approx(row["pred_prob"], abs=2e-3)
    meaning = again.meaning
    image_ids = again.table("images")["image_id"][:3].tolist()
    before = meaning.ablate(0, image_ids)
    assert before["class_before"].tolist() == again.table("images")["pred_class"][:3].tolist()
    assert len(meaning.areas(8)) == 2
    assert meaning.fidelity(n_images=8)["value"].notna().all()
    assert meaning.importance(n_images=8).n == 8
    assert set(meaning.blur(0, 4).classes["label"]) == set(again.workspace.class_names)
    assert len(compare(run, again).pairs) == 3
    assert verify(run.folder).is_whole
    assert split_files(run.folder)[1] == []


@pytest.mark.slow
def test_a_backbone_has_classes_by_it_and_workers_agree(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "concordance"):
        alone = make(images, tmp_path / "alone", **VIT)
    said = caplog.text
    shared = make(images, tmp_path / "shared", **VIT, workers=2)
    for name in ("bank/probe.h5", "bank/bank.h5"):
        assert (alone.folder / name).read_bytes() == (shared.folder / name).read_bytes()
    assert alone.table("images").equals(shared.table("images"))
    assert alone.table("images")["pred_label"].notna().all()
    assert alone.workspace.trunk.n_prefix == 1
    assert alone.meaning.split(alone.table("images")["image_id"][:3].tolist())["exact"].all()
    assert re.search(r"labels left out, with fewer than 5 images to fit on: \d+ \(.*'rare'", said)
    assert re.search(r"probe +\d+ labels, fitted on \d+ images, right on", said)


@pytest.mark.slow
def test_a_killed_job_goes_on_to_the_same_run(
    images: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """Stands for whatever ends a process."""

    def die(*_: object) -> None:
        raise KilledError

    options = {"dataset": str(images), "model": "sample", "k": "3", "image_size": "64"}
    config = make_config({**options, "head": "probe"})
    for name in ("write_probe", "write_bank"):  # before the probe is there, and after
        with monkeypatch.context() as patched, pytest.raises(KilledError):
            patched.setattr(stage, name, die)
            discover_run(prepare(config, tmp_path / "killed"))
        assert (tmp_path / "killed" / "bank" / "probe.h5").exists() == (name == "write_bank")
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr("pipeline.jobs.localize._find", die)
        discover_run(prepare(config, tmp_path / "killed"))
    discover_run(prepare(config, tmp_path / "killed"))
    for folder in PRODUCTS:
        found = contents(tmp_path / "killed" / folder)
        assert found.keys() == contents(run.folder / folder).keys()
    for name in ("bank/probe.h5", "heatmaps/shard-00000.h5", "tables/images.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (run.folder / name).read_bytes()


def test_a_lost_or_damaged_probe_is_made_again(images: Path, run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "run" / "bank" / "probe.h5"
    whole = path.read_bytes()
    heatmaps = (tmp_path / "run" / "heatmaps" / "shard-00000.h5").stat().st_mtime_ns
    for damage in (path.unlink, lambda: path.write_bytes(whole[:-40] + bytes(40))):
        damage()
        assert not verify(tmp_path / "run").is_whole
        again = pipeline.discover(run=tmp_path / "run")
        assert path.read_bytes() == whole
        assert verify(again.folder).is_whole
    # It came out the same, so nothing else was made again.
    assert (tmp_path / "run" / "heatmaps" / "shard-00000.h5").stat().st_mtime_ns == heatmaps


@pytest.mark.slow
def test_a_run_that_keeps_no_activations_has_its_probe(
    images: Path, run: Run, tmp_path: Path
) -> None:
    kept = make(images, tmp_path / "run", keep="heatmaps")
    assert not list((kept.folder / "activations").glob("*.h5"))
    again = open_run(kept.folder)
    assert again.table("images").equals(run.table("images"))
    row = again.table("images").iloc[0]
    assert again.explain(images / row["path"]).classes["label"][0] == row["pred_label"]
    assert again.logits(row["image_id"]) == run.logits(row["image_id"])
    (kept.folder / "bank" / "probe.h5").unlink()
    mended = pipeline.discover(run=kept.folder)
    assert verify(mended.folder).is_whole
    assert mended.table("images").equals(run.table("images"))


def test_every_array_of_the_file_is_compared(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "run" / "bank" / "probe.h5"
    clean = path.read_bytes()
    (tmp_path / "run" / "bank" / "bank.json").unlink()
    told = list(lies.of_hdf5(tmp_path / "run", "bank/probe.h5"))
    assert len(told) > 30
    for lie in told:
        lie.change(path)
        if re.fullmatch(r"@(layer text|(strength|accuracy|chance) number)", lie.name):
            assert Workspace.open(tmp_path / "run").probe.labels
        else:
            with pytest.raises(UserError, match=r"probe\.h5 is damaged"):
                _ = Workspace.open(tmp_path / "run").probe
        path.write_bytes(clean)
    assert read_probe(path).labels == run.workspace.probe.labels


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, r"has 0 \(its images have no labels\)"),
        ({"one": 30}, r"has 1 \(images by label: 'one' \d+\)"),
        ({"one": 30, "two": 4}, r"has 1 \(images by label: 'one' \d+, 'two' \d\)"),
    ],
)
def test_labels_that_tell_no_two_classes_apart_are_refused_first(
    tmp_path: Path, labels: dict[str, int], words: str
) -> None:
    rng = np.random.default_rng(0)
    for label, n in (labels or {"": 12}).items():
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        for index in range(n):
            noise = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "images" / label / f"{index}.png")
    with pytest.raises(UserError, match=f"needs at least two labels of 5 images.*{words}"):
        make(tmp_path / "images", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_of_the_networks_classes_are_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("label,class_id\ncar,1\n")
    for name in ("classes", "class_names"):
        for head in ("probe", "none"):
            with pytest.raises(UserError, match="is of the network's own classes"):
                make(images, tmp_path / "run", head=head, **{name: tmp_path / "classes.csv"})
    with pytest.raises(UserError, match="give both"):
        make(images, tmp_path / "run", head=torch.nn.Linear(3, 3))
    with pytest.raises(UserError, match="it takes: what names classes"):
        make(images, tmp_path / "run", head="prob")


def test_another_head_is_another_run(images: Path, run: Run) -> None:
    with pytest.raises(UserError, match="was made with head=probe, now it is auto"):
        make(images, run.folder, head="auto")


def test_a_head_that_is_left_aside_leaves_a_backbone(images: Path, tmp_path: Path) -> None:
    found = make(images, tmp_path / "run", head="none")
    assert found.table("images")["pred_class"].isna().all()
    assert found.workspace.class_names == ()
    with pytest.raises(UserError, match=r"has no classes.*head='probe' fits a head on them"):
        found.meaning.fidelity()
    assert not (found.folder / "bank" / "probe.h5").exists()
    page = (found.folder / "atlas" / "index.html").read_text(encoding="utf-8")
    assert "This network has no classes." in page


@pytest.mark.parametrize(
    ("name", "layer", "refused"),
    [("squeezenet1_1", "features", "classifier.1"), ("vit_b_16", "encoder", "")],
)
def test_layers_of_a_network_whose_head_is_left_aside(name: str, layer: str, refused: str) -> None:
    """Scores are no layer; a class token is read by nobody, so the last block will do."""
    network = load_network(name, Path("random"), image_size=64, head="none")
    usable = [each.name for each in list_layers(network) if each.usable]
    assert usable[-1] == layer
    reasons = {each.name: each.reason for each in list_layers(network)}
    assert "already class scores" in reasons.get(refused, "already class scores")


def test_a_module_that_is_given_takes_a_probe(images: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    trunk = timm.create_model("test_resnet", num_classes=0)
    found = make(images, tmp_path / "run", model=None, network=trunk, layer=trunk.layer4)
    assert found.workspace.cut.head_kind == "pool_linear"
    assert found.table("images")["pred_label"].notna().all()
