"""Objects of a run with auxiliary layers: fitted, stored, found, and scored against the truth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, label

from pipeline import open_run
from pipeline.analysis import objects
from pipeline.analysis.evaluate import FOUND, TRUE, evaluate
from pipeline.analysis.objects import fit_objects, read_objects
from pipeline.analysis.run import Run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.jobs.discover import discover_run
from pipeline.localize.scores import box_of, iou
from pipeline.runs.prepare import prepare
from pipeline.sample import write_sample
from tests.calling import call

N_IMAGES = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("objects")
    write_sample(base / "sample", n_images=N_IMAGES, size=160)
    options = {"dataset": str(base / "sample" / "images"), "model": "sample", "k": "10"}
    discover_run(prepare(make_config(options | {"aux_layers": "edges"}), base / "run"))
    return base


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return open_run(folder / "run")


def mean_j(run: Run, sample: Path, mask_of: Callable[[int], np.ndarray]) -> float:
    scores = []
    for image_id, path in run.sql("select image_id, path from images").to_numpy():
        with Image.open((sample / "objects" / path).with_suffix(".png")) as mask:
            scores.append(iou(mask_of(image_id), np.asarray(mask) > 0))
    return float(np.mean(scores))


def test_what_is_object_is_kept(run: Run) -> None:
    model = read_objects(run.workspace)
    assert set(model.coarse.groups) == {f"label {each}" for each in run.table("images").label}
    again = fit_objects(run.workspace)
    assert (again.coarse.shares == model.coarse.shares).all()
    assert again.coarse.threshold == model.coarse.threshold
    assert (again.winners.weights == model.winners.weights).all()
    assert (again.winners.offset == model.winners.offset).all()
    assert model.fine is not None
    assert again.fine is not None
    assert model.fine.layers.basis.shape[0] > 0
    assert model.fine.kin.labels == model.coarse.groups
    for part in ("layers", "concepts", "kin", "foreground"):
        for name, value in vars(getattr(model.fine, part)).items():
            assert np.array_equal(value, getattr(getattr(again.fine, part), name)), (part, name)
    run.workspace.objects_path.rename(run.folder / "elsewhere.h5")
    with pytest.raises(UserError, match=r"objects\.h5 is missing; discover"):
        read_objects(run.workspace)
    (run.folder / "elsewhere.h5").rename(run.workspace.objects_path)


@pytest.mark.parametrize(
    ("name", "dataset", "cut"),
    [
        ("activations/shard-00000.h5", "aux/edges", None),
        ("activations/shard-00000.h5", "aux/edges", (slice(None), slice(3))),
        ("activations/shard-00000.h5", "aux/edges", (..., slice(3))),
        ("bank/objects.h5", "finer/layer_basis", slice(3)),
        ("bank/objects.h5", "finer/offset", None),
        ("bank/objects.h5", "winners/weights", slice(3)),
    ],
)
def test_layers_of_another_shape_are_refused(
    run: Run, tmp_path: Path, name: str, dataset: str, cut: object
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.folder, copy)
    for record in copy.glob("*/*.json"):  # without one nothing is known of digests
        if record.name != "k_metrics.json":
            record.unlink()
    image_id = int(run.table("images").image_id[0])
    open_run(copy).concept_map(image_id)
    with h5py.File(copy / name, "r+") as file:
        value = file[dataset][()]
        del file[dataset]
        if cut is not None:
            file[dataset] = value[cut]
    for ask in (Run.concept_map, Run.object_mask):
        with pytest.raises(UserError, match=rf"{name} is damaged \(.*{dataset.split('/')[-1]}"):
            ask(open_run(copy), image_id)


def test_objects_are_where_they_are(run: Run, folder: Path) -> None:
    sample = folder / "sample"
    everything = mean_j(run, sample, lambda _: np.ones((160, 160), bool))
    coarse = mean_j(run, sample, lambda i: run.object_mask(i, refined=False))
    print(f"J: everything {everything:.3f}, not refined {coarse:.3f}")
    assert coarse > everything


def test_a_mask_is_where_object_is_more_probable_than_not(run: Run, folder: Path) -> None:
    image_id = int(run.table("images").image_id[1])
    for refined in (True, False, "edges"):
        strength = run.object_strength(image_id, refined=refined)
        assert strength.shape == (160, 160)
        assert strength.dtype == np.float32
        assert 0 <= strength.min() < strength.max() <= 1
        mask = run.object_mask(image_id, refined=refined)
        assert ((strength > 0.5) == mask).mean() > 0.999
    assert (run.object_strength(image_id) == run.object_strength(image_id, refined="edges")).all()


def test_a_refiner_gives_masks_or_probabilities(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = int(run.table("images").image_id[1])
    given = np.linspace(-0.5, 1, 160 * 160, dtype=np.float32).reshape(160, 160)
    monkeypatch.setattr("pipeline.plugins.load", lambda kind, name: lambda image, evidence: given)
    with pytest.raises(UserError, match=r"'theirs' gave values from -0\.5 to 1, not probabilities"):
        run.object_mask(image_id, refined="theirs")
    given = np.abs(given)
    assert (run.object_strength(image_id, refined="theirs") == given).all()
    assert (run.object_mask(image_id, refined="theirs") == (given > 0.5)).all()
    given = given.astype(np.float64)
    with pytest.raises(UserError, match=r"gave float64 \(160, 160\) .* not bool or float32"):
        run.object_strength(image_id, refined="theirs")


def test_directions_are_learned_from_enough_positions(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first shard may be of one image, or of none that was not refused."""
    (channels,) = objects.fine_channels(run.workspace)
    sizes = [0, 1, 7, 400, 3]
    asked: list[int] = []

    def shards(workspace: object, n_images: int) -> Iterator[NDArray[np.float32]]:
        for n in sizes:
            asked.append(n)
            yield np.ones((n, 8, 8, channels), np.float32)

    monkeypatch.setattr(objects, "_stacked", shards)
    found = objects._some_positions(run.workspace, 500)
    assert asked == [0, 1, 7, 400]
    assert found.shape == (408 * 64, channels)
    sizes = [0]
    assert objects._some_positions(run.workspace, 500).shape == (0, channels)


def test_without_activations_the_network_is_asked_again(run: Run, folder: Path) -> None:
    image_id = int(run.table("images").image_id[0])
    stored = run.object_mask(image_id, refined=False)
    copy = folder / "copy"
    shutil.copytree(run.folder, copy)
    for path in (copy / "activations").glob("shard-*"):
        path.unlink()
    other = open_run(copy)
    assert not other.workspace.activations.path(0).exists()
    assert (other.object_mask(image_id, refined=False) == stored).mean() > 0.99
    assert (other.concept_map(image_id) == run.concept_map(image_id)).mean() > 0.99


def test_each_pixel_has_a_concept_or_none(run: Run) -> None:
    image_id = int(run.table("images").image_id[3])
    residual, found = run.residual(image_id), run.concept_map(image_id)
    assert found.shape == residual.shape == (160, 160)
    assert found.dtype == np.int16
    assert set(np.unique(found)) <= set(range(10))
    assert ((residual >= 0) & (residual <= 1.01)).all()
    level = float(np.median(residual))
    picky = run.concept_map(image_id, most_residual=level)
    assert ((picky == -1) == (residual > level)).all()
    assert (picky[picky >= 0] == found[picky >= 0]).all()
    assert run.concept_map(image_id, shape=(9, 7)).shape == (9, 7)


def test_a_run_is_evaluated(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = folder / "sample" / "parts"
    assert call("evaluate", {"run": run.folder, "masks": parts}) == 0
    printed = capsys.readouterr().out
    scores = pd.read_csv(run.folder / "evaluation" / "scores.csv")
    assert len(scores) == N_IMAGES
    overall = next(line for line in printed.splitlines() if line.startswith("all "))
    assert float(overall.split()[2]) == pytest.approx(scores.j.mean(), abs=5e-4)
    assert scores.j.mean() == pytest.approx(mean_j(run, folder / "sample", run.object_mask))
    assert "fg_nmi" in printed
    by_label = pd.read_csv(run.folder / "evaluation" / "labels.csv").set_index("label")
    means = scores.groupby("label")[["j", "precision", "corloc", "mae"]].mean()
    pd.testing.assert_frame_equal(by_label.drop("all")[[*means]], means)
    assert by_label.loc["all", "images"] == N_IMAGES
    said = json.loads((run.folder / "evaluation" / "summary.json").read_text("utf-8"))
    assert f"F {said['max_f']:.3f}" in printed
    assert f"fg_nmi {said['parts']['fg_nmi']:.3f}" in printed
    best = pd.read_csv(run.folder / "evaluation" / "concepts.csv")
    mean = best[best["of"] == "part"]["ap"].mean()
    assert said["concepts"]["part"]["mAP"] == pytest.approx(mean)
    with Image.open(run.folder / "evaluation" / "objects.png") as picture:
        assert picture.size == (6 * 160, 3 * 160)
        colours = {colour for _, colour in picture.getcolors(1 << 20) or []}
    assert {FOUND, TRUE} <= colours


def test_boxes_are_enough(run: Run, folder: Path) -> None:
    path = run.table("images").path[0]
    table = folder / "boxes.csv"
    table.write_text(f"path,x0,y0,x1,y1\n{path},0,0,160,160\n{path},0,0,1,1\n")
    found = evaluate(run, table)
    assert len(found.images) == 1
    assert found.images.j.isna().all()
    assert found.parts == {}
    assert call("evaluate", {"run": run.folder, "masks": table}) == 0
    table.write_text("path,x0,y0,x1,y1\nnone.jpg,0,0,1,1\n")
    with pytest.raises(UserError, match="says nothing of any image"):
        evaluate(run, table)


N_OWN = 12


@pytest.fixture(scope="module")
def own(run: Run) -> dict[str, NDArray[np.bool_]]:
    """The run's own masks of some images, which as truth are met by the run exactly."""
    paths = run.table("images").path[:N_OWN]
    found = {path: run.object_mask(path, refined=False) for path in paths}
    assert all(mask.any() and not mask.all() for mask in found.values())
    assert any(label(mask)[1] > 1 for mask in found.values())  # several regions
    return found


def void_edges(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    edges = binary_dilation(mask, iterations=2) & ~mask
    return np.asarray(np.where(edges, 255, mask * 7), np.uint8)


def smooth(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(gaussian_filter(mask * 255.0, 0.7)).clip(0, 255), np.uint8)


@pytest.mark.parametrize("kind", ["exact", "void", "anti-aliased", "boxes", "shares", "x, y, w, h"])
def test_a_run_meets_its_own_masks(
    kind: str, run: Run, own: dict[str, NDArray[np.bool_]], tmp_path: Path
) -> None:
    if kind in ("exact", "void", "anti-aliased"):
        paint = {"exact": lambda x: x, "void": void_edges, "anti-aliased": smooth}[kind]
        for path, mask in own.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(paint(mask)).save((tmp_path / path).with_suffix(".png"))
        found = evaluate(run, tmp_path, refiner=None)
        assert found.images.j.min() >= (1 if kind != "anti-aliased" else 0.95)
        assert found.images.precision.min() >= (1 if kind != "anti-aliased" else 0.98)
        assert found.images.mae.between(0, 1).all()
        assert found.parts == {}  # of one object no parts are made up
    else:
        columns = "path,x,y,w,h" if kind == "x, y, w, h" else "path,x0,y0,x1,y1"
        rows = [columns]
        for path, mask in own.items():
            box = box_of(mask)
            assert box is not None
            x0, y0, x1, y1 = box
            if kind == "x, y, w, h":
                x1, y1 = x1 - x0, y1 - y0
            height, width = mask.shape
            units = (width, height, width, height) if kind == "shares" else (1, 1, 1, 1)
            sides = (side / unit for side, unit in zip((x0, y0, x1, y1), units, strict=True))
            rows.append(",".join([path, *map(str, sides)]))
        (tmp_path / "boxes.csv").write_text("\n".join(rows))
        found = evaluate(run, tmp_path / "boxes.csv", refiner=None)
    assert (found.images.corloc == 1).all()
    assert found.unused == ()
    assert found.said[-1] == f"{N_OWN} of {N_IMAGES} images have truth that is used"


def test_what_cannot_be_used_is_listed_and_the_rest_goes_on(
    run: Run, own: dict[str, NDArray[np.bool_]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third, *_ = own
    for path, mask in own.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        file = (tmp_path / path).with_suffix(".png")
        Image.fromarray(mask[::2] if path == first else mask).save(file)
    (tmp_path / second).with_suffix(".png").write_bytes(b"no picture")
    Image.fromarray(own[third]).save((tmp_path / third).with_suffix(".gif"))
    found = evaluate(run, tmp_path, refiner=None)
    assert len(found.images) == N_OWN - 3
    assert (found.images.j == 1).all()
    reasons = " | ".join(f"{what}: {why}" for what, why in found.unused)
    for words in ("pixels, its image is", "cannot be read as a mask", "not clear"):
        assert words in reasons
    assert call("evaluate", {"run": run.folder, "masks": tmp_path, "refiner": "none"}) == 0
    printed = capsys.readouterr().out
    assert f"{N_OWN - 3} of {N_IMAGES} images have truth that is used" in printed
    assert "not used: " in printed
    assert "the best concept of each label: mAP 0." in printed
    for path in own:
        (tmp_path / path).with_suffix(".png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"nothing can be used; .*cannot be read as a mask"):
        evaluate(run, tmp_path)


def test_concepts_tell_labels_and_parts(run: Run, folder: Path) -> None:
    found = evaluate(run, folder / "sample" / "parts", refiner=None)
    scores = found.alignment()
    assert scores["part"]["mAP"] > 0.3
    assert scores["label"]["mAP"] > 0.5
    assert 0.5 < found.max_f <= 1
    assert {"of", "name", "n", "concept_id", "ap", "purity"} == {*found.aligned}
