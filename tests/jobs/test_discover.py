"""The whole job on the bundled sample: every output there, true, and the same on a second call."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam.feature_factorization.deep_feature_factorization import dff

from pipeline.analysis.run import Run, open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.jobs.discover import discover_run
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.localize.scores import iou, match_parts, strongest
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.sample import PARTS, write_sample
from pipeline.store import ShardStore
from pipeline.tables import TABLES
from tests.calling import call

N_IMAGES = 360
SIDE = 80
"""Parts are scored on maps of so many pixels a side."""


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, n_images=N_IMAGES)
    return folder


@pytest.fixture(scope="session")
def run(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "sample"
    options = {"dataset": str(sample / "images"), "model": "sample", "k": "12,16"}
    discover_run(prepare(make_config(options), folder))
    return open_run(folder)


def test_every_file_of_the_contract_is_there(run: Run) -> None:
    names = {path.name for path in run.folder.iterdir()}
    assert {"run.json", "config.toml", "activations", "bank", "heatmaps", "tables"} <= names
    assert (run.folder / "atlas" / "index.html").exists()
    record = json.loads((run.folder / "run.json").read_text())
    assert [entry["status"] for entry in record["stages"].values()] == ["done"] * 6
    assert {"config", "versions", "git_commit", "weights", "dataset", "layer"} <= set(record)
    assert len(record["weights"]["sha256"]) == 64


def test_every_table_has_its_schema_and_real_rows(run: Run) -> None:
    for name in TABLES:
        table = pq.read_table(run.folder / "tables" / f"{name}.parquet")
        assert table.schema.equals(TABLES[name].schema(), check_metadata=True), name
        assert len(table) > 0 or name in ("rejected", "duplicates", "suspects")
        for column in table.schema.names:
            values = table[column]
            nullable = column in {"concept_id", "level", "class_id", "q_value", "ci_low", "ci_high"}
            nullable |= column.startswith(("error_", "dataset_"))
            nullable |= column in ("labels_agree", "damage", "note", "reappears_with", "place")
            nullable |= column.startswith(("name", "group"))
            nullable |= name == "concept_tree" and column in (
                "parent_id", "merged_into", "share", "of_several",
            )  # fmt: skip
            nullable |= column in ("node", "n_of_several") or name == "concept_levels"
            assert nullable or values.null_count == 0, (name, column)


def test_tables_agree_with_the_heatmaps_and_with_each_other(run: Run) -> None:
    concepts, images = run.table("concepts"), run.table("images")
    rows = run.table("image_concepts")
    image_id = int(images.image_id[7])
    H = run.grid_heatmap(image_id)
    mine = rows[rows.image_id == image_id].set_index("concept_id")
    for concept in mine.index:
        assert mine["mean"][concept] == pytest.approx(H[concept].mean(), rel=1e-4)
        assert mine["max"][concept] == pytest.approx(H[concept].max(), rel=1e-4)
        threshold = concepts.presence_threshold[concept]
        assert mine["area"][concept] == pytest.approx((H[concept] >= threshold).mean(), abs=1e-6)
    held = rows[rows.area > 0].groupby("concept_id").size()
    assert concepts.n_images.tolist() == held.reindex(concepts.concept_id, fill_value=0).tolist()
    mean_area = rows.groupby("concept_id")["area"].sum() / len(images)
    assert concepts.coverage.to_numpy() == pytest.approx(mean_area.to_numpy(), rel=1e-4)
    assert concepts.energy.sum() == pytest.approx(1 - run.workspace.bank.error**2, abs=1e-3)
    assert (concepts.energy.diff().dropna() <= 0).all()
    assert images.path.is_monotonic_increasing
    pairs = run.table("concept_pairs")
    assert (pairs.concept_a < pairs.concept_b).all()


def test_images_fetched_together_are_read_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = run.table("images").image_id.tolist()[:8]
    alone = [open_run(run.folder).grid_heatmap(image_id) for image_id in ids]
    opened: list[int] = []
    original = ShardStore.open

    def counted(
        store: ShardStore, index: int, *, compared: bool = True
    ) -> AbstractContextManager[h5py.File]:
        opened.append(index)
        return original(store, index, compared=compared)

    monkeypatch.setattr(ShardStore, "open", counted)
    fresh = open_run(run.folder)
    fresh.fetch(ids)
    assert 0 < len(opened) == len(set(opened)) <= run.workspace.heatmaps.n_shards
    for image_id, expected in zip(ids, alone, strict=True):
        assert np.array_equal(fresh.grid_heatmap(image_id), expected)
    assert len(opened) == len(set(opened))
    with pytest.raises(UserError, match="there is no image 5 in"):
        fresh.fetch([ids[0], 5])


def test_boxes_lie_within_their_images(run: Run) -> None:
    for name in ("regions", "objects"):
        boxes = run.table(name).merge(run.table("images"), on="image_id")
        assert len(boxes) > 100
        assert (boxes.x0 >= 0).all()
        assert (boxes.y0 >= 0).all()
        assert (boxes.x0 < boxes.x1).all()
        assert (boxes.y0 < boxes.y1).all()
        assert (boxes.x1 <= boxes.width).all()
        assert (boxes.y1 <= boxes.height).all()
    objects = run.table("objects")
    inside = [len(ids) > 0 for ids in objects.concept_ids]
    assert np.mean(inside) > 0.9


def test_the_network_sees_the_same_in_the_concepts(run: Run) -> None:
    rows = run.table("fidelity")
    whole = rows[rows.class_id.isna()].set_index("metric")
    assert whole.value["agreement"] > whole.baseline["agreement"] + 0.3
    assert whole.value["kl"] < whole.baseline["kl"] / 2
    assert set(whole.split) == {"heldout"}
    assert 0.8 < whole.value["accuracy_network"] <= 1


def test_objects_are_found(run: Run, sample: Path) -> None:
    scores, areas = [], []
    for image_id, path in run.sql("select image_id, path from images").to_numpy():
        with Image.open((sample / "objects" / path).with_suffix(".png")) as mask:
            truth = np.asarray(mask) > 0
        scores.append(iou(run.object_mask(image_id), truth))
        areas.append(truth.mean())  # the score of taking everything for the object
    print(f"objects J {np.mean(scores):.3f} (everything as object: {np.mean(areas):.3f})")
    assert np.mean(scores) > 1.2 * np.mean(areas)


@pytest.mark.slow
def test_commands_on_a_run(run: Run, sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(name: str, **options: Path) -> str:
        assert call(name, options) == 0
        return capsys.readouterr().out

    scores = printed("evaluate", run=run.folder, masks=sample / "objects")
    overall = re.search(r"^all +360 +([\d.]+)", scores, re.MULTILINE)
    assert overall is not None
    assert 0.2 < float(overall[1]) < 1
    assert re.search(r"all \d+ files of .* are as", printed("verify", run=run.folder))
    assert printed("status", run=run.folder).count("done") == 6
    listed = printed("concepts", run=run.folder)
    assert f"{len(run.table('concepts'))} concepts of sample parts, 360 images" in listed
    matched = printed("compare", a=run.folder, b=run.folder)
    assert matched.count(" 1.000") == len(run.table("concepts"))
    assert call("evaluate", {"run": run.folder, "masks": run.folder}) == 2
    assert "says nothing of any image" in capsys.readouterr().err


def test_calls_of_the_contract(run: Run, sample: Path) -> None:
    image_id, path = run.sql("select image_id, path from images").iloc[0]
    whole = run.heatmap(image_id)
    k = len(run.table("concepts"))
    assert whole.shape == (k, 160, 160)
    assert whole.dtype == np.float32
    assert np.array_equal(run.heatmap(image_id, 3), whole[3])
    scaled = run.heatmap(image_id, per_image=True)
    grid = run.grid_heatmap(image_id).max(axis=(1, 2))[:, None, None]
    assert np.nanmax(scaled) <= 1 + 1e-6
    assert scaled * grid == pytest.approx(whole, abs=1e-4, nan_ok=True)
    assert run.object_mask(image_id).shape == (160, 160)
    top = run.sql("select top_label, coverage from concepts order by energy desc")
    assert isinstance(top, pd.DataFrame)
    assert len(top) == k
    encoding = run.bank.encode([sample / "images" / path, run.image(image_id)])
    assert np.array_equal(encoding.H[0], encoding.H[1])
    # Stored heatmaps may come from bfloat16, which PRECISION=auto takes where it is faster.
    assert encoding.H[0] == pytest.approx(run.grid_heatmap(image_id), rel=0.03, abs=0.05)
    assert encoding.residual.shape == (2, *encoding.H.shape[2:])
    found = run.explain(sample / "images" / path)
    assert found.heatmaps.shape == whole.shape
    assert found.picture.dtype == np.uint8
    assert found.picture.shape[1] > 2 * 160
    assert found.classes.prob.is_monotonic_decreasing
    assert set(found.legend.columns) == {"concept_id", "label", "prob", "max", "contribution"}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda run: run.table("concept"), "there is no table 'concept'; did you mean 'concepts'"),
        (lambda run: run.heatmap(1), "there is no image 1 in"),
        (lambda run: run.heatmap(run.table("images").image_id[0], 99), "there is no concept 99"),
        (lambda run: run.explain("nowhere.jpg"), "nowhere.jpg cannot be used"),
        (
            lambda run: run.explain(np.zeros((3, 3))),
            "this picture cannot be used: an image is uint8 (height, width, 3)",
        ),
        (
            lambda run: run.explain(np.zeros((0, 9, 3), np.uint8)),
            "this picture cannot be used: too small: 9 × 0 pixels",
        ),
        (lambda run: run.explain(7), "an image is a path, a PIL image or uint8"),
        (lambda run: run.heatmap(None), "an image is an image_id or a path, this is 'None'"),
        (lambda run: run.heatmap(1.5), "an image is an image_id or a path, this is '1.5'"),
        (lambda run: run.heatmap([1]), "an image is an image_id or a path"),
        (lambda run: run.heatmap(2**70), "there is no image 11805"),
        (lambda run: run.show("cat/nowhere.jpg"), "there is no image 'cat/nowhere.jpg' in"),
        (lambda run: run.object_mask(Path("/etc/passwd")), "there is no image '/etc/passwd' in"),
        (lambda run: run.concept("tench"), "a concept is a number, this is 'tench'; none is"),
        (lambda run: run.concept(None), "a concept is a number from 0 to"),
        (lambda run: run.concept(-1), "there is no concept -1"),
        (lambda run: run.images_with(0, min_area="much"), "min_area is a share of the image"),
        (lambda run: run.images_with("x"), "a concept is a number, this is 'x'"),
        (lambda run: run.sql("select nothing"), "the query cannot be answered: Binder Error"),
        (lambda run: run.sql("select ?", []), "the query cannot be answered"),
        (lambda run: run.meaning.split("nowhere.jpg"), "there is no image 'nowhere.jpg' in"),
        (lambda run: run.meaning.split(None), "an image is an image_id or a path"),
        (lambda run: run.meaning.ablate("x", 1), "a concept is a number from 0 to"),
        (lambda run: run.meaning.blur("x"), "a concept is a number from 0 to"),
        (lambda run: run.meaning.importance("tench"), "a class is a number from 0 to"),
        (lambda run: run.meaning.fidelity("x"), "ks is a whole number from 1 upward, this is 'x'"),
        (lambda run: run.meaning.fidelity([]), "ks is one whole number or several, this is []"),
        (lambda run: run.sql("select ?", 5), "the query cannot be answered"),
        (lambda run: run.meaning.curves(0), "n_images is a whole number from 1 upward"),
        (lambda run: run.meaning.blur(0, n_images=-1), "n_images is a whole number from 1 upward"),
        (
            lambda run: run.meaning.fidelity(banks={"svd": run.bank.W}),
            "a bank cannot be called 'svd': nmf, svd, mean are ours",
        ),
        (
            lambda run: run.meaning.fidelity(banks={"mine": run.bank.W[:, :1]}),
            "the bank 'mine' has 1 concepts, and none of",
        ),
        (
            lambda run: run.meaning.fidelity(banks={"mine": run.bank.W[1:]}),
            "the bank 'mine' is (",
        ),
        (
            lambda run: run.object_mask(run.table("images").image_id[0], refined=1),
            "refined is True, False or a mask refiner's",
        ),
        (lambda run: run.bank.encode("one.jpg"), "one.jpg cannot be used"),
        (lambda run: run.bank.encode([]), "no image was given"),
        (lambda run: run.heatmap(np.arange(3)), "an image is an image_id or a path"),
    ],
)
def test_wrong_calls_are_one_sentence(run: Run, call: object, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        call(run)  # type: ignore[operator]
    assert str(caught.value).startswith(sentence)


def test_what_plainly_means_an_image_or_a_concept_is_taken(run: Run, sample: Path) -> None:
    image_id, path = run.sql("select image_id, path from images").iloc[3]
    expected = run.heatmap(int(image_id))
    file = sample / "images" / path
    for same in (str(path), Path(path), file, str(file), np.int64(image_id)):
        assert np.array_equal(run.heatmap(same), expected)
    assert np.array_equal(run.heatmap(path, np.int64(2)), expected[2])
    assert np.array_equal(run.heatmap(path, 2.0), expected[2])  # type: ignore[arg-type]
    assert run.show(path).title == path
    with Image.open(file) as picture:
        explained = run.explain(picture)
        assert np.array_equal(explained.heatmaps, run.explain(file).heatmaps)
        one, two = run.bank.encode(picture), run.bank.encode([file])
    assert np.array_equal(one.H, two.H)
    label = path.split("/")[0]
    found = run.sql("select count(*) as n from images where label = ?", [label])
    named = run.sql("select count(*) as n from images where label = $label", {"label": label})
    assert found["n"].iloc[0] == named["n"].iloc[0] > 0
    by_id = run.sql("select path from images where image_id = ?", [np.int64(image_id)])
    assert by_id["path"].tolist() == [path]
    share, n = np.float32(0.05), np.int64(3)
    holding = run.images_with(np.int64(0), min_area=share, limit=n)  # type: ignore[arg-type]
    assert len(holding) == 3


def test_a_file_of_the_dataset_is_found_from_any_folder_and_through_links(
    run: Run, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id, path = run.sql("select image_id, path from images").iloc[3]
    expected = run.heatmap(int(image_id))
    (tmp_path / "link").symlink_to(sample / "images")
    for same in (tmp_path / "link" / path, sample / "images" / "nowhere" / ".." / path):
        assert np.array_equal(run.heatmap(same), expected)
    monkeypatch.chdir(sample)
    assert np.array_equal(run.heatmap(Path("images") / path), expected)
    monkeypatch.chdir((sample / "images" / path).parent)
    assert np.array_equal(run.heatmap(Path(path).name), expected)
    with pytest.raises(UserError, match="there is no image"):
        run.heatmap(tmp_path / Path(path).name)


def test_another_number_is_fitted_as_the_runs_own_was(run: Run) -> None:
    """One function fits: at the run's own number it gives the run's own bank, bit for bit."""
    bank, again = run.workspace.bank, run.meaning.fitted(run.workspace.bank.k)
    for field in fields(bank):
        ours, theirs = getattr(bank, field.name), getattr(again, field.name)
        if field.name == "reappearance":
            for part, value in vars(ours).items():
                assert np.array_equal(value, getattr(theirs, part), equal_nan=True), part
        elif field.name == "tree":
            assert np.array_equal(ours.pairs, theirs.pairs)
            assert np.array_equal(ours.losses, theirs.losses)
            for a, b in zip(ours.levels, theirs.levels, strict=True):
                assert np.array_equal(a.W, b.W)
                assert np.array_equal(a.shares, b.shares, equal_nan=True)
        elif ours is None:
            assert theirs is None
        elif field.name != "transform":
            assert np.array_equal(ours, theirs, equal_nan=isinstance(ours, float)) or (
                np.array_equal(np.asarray(ours), np.asarray(theirs), equal_nan=True)
            ), field.name
    assert again.transform.kind == bank.transform.kind
    other = run.meaning.fitted(5)
    assert other.k == 5
    assert other.error > bank.error


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files but those that hold times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json" and path.parent.name != "logs"
    }


def test_a_second_call_changes_nothing(run: Run) -> None:
    before = contents(run.folder)
    discover_run(Workspace.open(run.folder))
    assert contents(run.folder) == before


def test_a_run_can_be_moved(run: Run, tmp_path: Path) -> None:
    moved = shutil.copytree(run.folder, tmp_path / "elsewhere")
    again = open_run(moved)
    assert again.table("concepts").equals(run.table("concepts"))
    image_id = int(again.table("images").image_id[0])
    assert np.array_equal(again.heatmap(image_id), run.heatmap(image_id))


def test_a_lost_shard_is_made_again_as_it_was(run: Run, tmp_path: Path) -> None:
    copy = shutil.copytree(run.folder, tmp_path / run.folder.name)
    before = contents(copy)
    for store in ("activations", "heatmaps"):
        (copy / store / "shard-00000.h5").unlink()
    discover_run(Workspace.open(copy))
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seed": "1"}, "was made with seed=0, now it is 1; pass another run"),
        ({"k": "8"}, "was made with k=[12, 16], now it is [8]"),
        ({"resize": "crop"}, "was made with resize=squash, now it is crop"),
    ],
)
def test_a_run_is_not_mixed_with_another(
    run: Run, sample: Path, options: dict[str, str], sentence: str
) -> None:
    base = {"dataset": str(sample / "images"), "model": "sample", "k": "12,16"}
    with pytest.raises(UserError, match="was made with") as caught:
        prepare(make_config(base | options), run.folder)
    assert sentence in str(caught.value)


@pytest.mark.slow
def test_workers_change_nothing(sample: Path, tmp_path: Path) -> None:
    options = {"dataset": str(sample / "images"), "model": "sample", "k": "6", "limit": "150"}
    folders = [tmp_path / "alone", tmp_path / "workers"]
    for folder, workers in zip(folders, ("0", "2"), strict=True):
        workspace = prepare(make_config(options | {"workers": workers}), folder)
        for job in (extract, factorize, localize):
            job(workspace)
    alone, workers_ = (contents(folder) for folder in folders)
    assert alone.keys() == workers_.keys()
    for name in alone:
        if name.endswith(".h5"):
            assert alone[name] == workers_[name], name


@pytest.fixture(scope="session")
def truth(sample: Path) -> dict[str, NDArray[np.uint8]]:
    """Return the parts of every image, uint8 (SIDE, SIDE), by path."""
    return {
        str(path.relative_to(sample / "parts")): np.asarray(
            Image.open(path).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        )
        for path in (sample / "parts").rglob("*.png")
    }


def part_scores(
    workspace: Workspace, truth: dict[str, NDArray[np.uint8]]
) -> Iterator[tuple[str, float]]:
    """Score concepts as parts: ours, ours on shuffled pairs, and pytorch-grad-cam's."""
    frame = workspace.listing.frame.sort_values("path")
    parts = np.stack([truth[str(Path(path).with_suffix(".png"))] for path in frame.path])
    run = Run(workspace)
    shape = (SIDE, SIDE)
    H = np.stack([run.upsample(run.grid_heatmap(i), i, shape) for i in frame.image_id])
    choose = np.arange(len(H)) // len(PARTS) % 2 == 0
    part_ids = list(range(1, len(PARTS) + 1))
    thresholds = workspace.bank.thresholds[:, None, None]
    present = np.greater_equal(H, thresholds)
    shuffled = parts[np.random.default_rng(0).permutation(len(parts))]
    yield "concepts", match_parts(present, parts, part_ids, choose).mean
    yield "shuffled pairs", match_parts(present, shuffled, part_ids, choose).mean
    yield "pytorch-grad-cam", match_parts(peer(workspace, run), parts, part_ids, choose).mean


def peer(workspace: Workspace, run: Run) -> NDArray[np.bool_]:
    """Let pytorch-grad-cam factorize the same activations and apply its rule."""
    frame = workspace.listing.frame.sort_values("path")
    V = {
        int(image_id): maps
        for arrays in workspace.activations.iterate(["V", "image_id"])
        for image_id, maps in zip(arrays["image_id"], arrays["V"], strict=True)
    }
    maps = np.stack([V[image_id] for image_id in frame.image_id]).astype(np.float32)
    _, found = dff(np.ascontiguousarray(maps.transpose(0, 3, 1, 2)), workspace.bank.k)
    raised = [
        run.upsample(each.astype(np.float32), image_id, (SIDE, SIDE))
        for each, image_id in zip(found, frame.image_id, strict=True)
    ]
    return strongest(np.stack(raised))


@pytest.mark.filterwarnings("ignore:Maximum number of iterations:Warning")
@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 5))]
)
def test_concepts_are_parts(
    seed: int,
    sample: Path,
    truth: dict[str, NDArray[np.uint8]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = {"dataset": str(sample / "images"), "model": "sample", "seed": str(seed)}
    options |= {"limit": "240"}
    workspace = prepare(make_config(options), tmp_path / "run")
    for job in (extract, factorize, localize):
        job(workspace)
    scores = dict(part_scores(workspace, truth))
    with capsys.disabled():
        listed = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        print(f"\nseed {seed}, k = {workspace.bank.k}: part IoU of {listed}")
    assert scores["concepts"] >= 3 * scores["shuffled pairs"]
    assert scores["concepts"] >= 1.15 * scores["pytorch-grad-cam"]


def test_a_rejected_image_is_listed_and_the_rest_goes_on(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for path in sorted((sample / "images").rglob("*.jpg"))[::6]:
        target = folder / path.relative_to(sample / "images")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (folder / "car" / "empty.jpg").touch()
    (folder / "car" / "<b>text.jpg").write_text("not an image")
    options = {"dataset": str(folder), "model": "sample", "k": "5"}
    discover_run(prepare(make_config(options), tmp_path / "run"))
    run = open_run(tmp_path / "run")
    assert run.table("rejected").to_numpy().tolist() == [
        ["car/<b>text.jpg", "not an image"],
        ["car/empty.jpg", "empty file"],
    ]
    assert len(run.table("images")) == 60
    options["max_rejects"] = "1"
    with pytest.raises(UserError, match="2 images could not be read, more than max_rejects=1"):
        discover_run(prepare(make_config(options), tmp_path / "strict"))


@pytest.mark.slow
def test_signed_activations_are_split(sample: Path, tmp_path: Path) -> None:
    options = {
        "dataset": str(sample / "images"),
        "model": "convnext_tiny",
        "weights": "random",
        "layer": "features.5",
        "image_size": "64",
        "limit": "40",
        "k": "4",
    }
    workspace = prepare(make_config(options), tmp_path / "run")
    for job in (extract, factorize, localize):
        job(workspace)
    bank = workspace.bank
    assert bank.transform.kind == "split"
    V = torch.from_numpy(workspace.activations.read(0, ["V"])["V"]).float()
    assert float(V.min()) < 0
    H, residual = bank.encode(V)
    expected = (V - bank.decode(H)).norm(dim=-1) / V.norm(dim=-1)
    assert torch.allclose(residual, expected, atol=1e-5)
    with pytest.raises(UserError, match=r"negative.*none"):
        prepare(make_config(options | {"transform": "none"}), tmp_path / "none")
