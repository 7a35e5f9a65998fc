"""Where concepts are, against true masks: objects of horses, parts of cars, rendered scenes.

Images are squashed to the network's input. J is the mean over images of the IoU at the original
size; NMI and ARI are pooled over the pixels of parts on 96 × 96 maps, left and right parts being
one. Peers work on the same activations, and an oracle that knows the truth chooses for them which
concept is the object; nothing of ours knows it. Constants were fixed on the horses whose names'
hashes are even; what is reported is of the others.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import Report, Target, assets, plot, show
from benchmarks.partitions import kmeans, per_image, singular
from pipeline.config import make_config
from pipeline.evaluation import part_scores, read_truth
from pipeline.images import Affine, between_grids, upsample
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.jobs.objects import fine_features, finer_layers, fit_objects, groups_of
from pipeline.jobs.prepare import prepare
from pipeline.jobs.workspace import Workspace
from pipeline.localize import affinities, fit_fine, refine, working_shape
from pipeline.localize.foreground import otsu
from pipeline.localize.scores import iou, match_parts, strongest
from pipeline.maps import ImageMaps

TARGETS = (
    Target("concepts.horses.j", "at-least", 0.60),
    Target("concepts.cars.fg_nmi", "at-least", 0.32),
    Target("concepts.cars.fg_ari", "at-least", 0.21),
    Target("concepts.sample.objects_j", "at-least", 0.75),
    Target("concepts.sample.parts_over_gradcam", "at-least", 1.15),
    Target("concepts.refinement_control_gap", "at-least", 0.15),
)
Maps = NDArray[np.float32]
Mask = NDArray[np.bool_]

SIGMA = 0.25
"""Of the centred Gaussian, in image sides: its half maximum covers a quarter of the image."""

PART_SIDE = 96


def measure(report: Report, *, quick: bool) -> None:
    """Measure the targets of localization.

    Parameters
    ----------
    report : Report
        Where the outcomes go.
    quick : bool
        Fewer images.
    """
    scores: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scores["rendered sample"] = _sample(report, folder / "sample", 160 if quick else None)
        try:
            weights = assets("weights", "mobilenet_v2.safetensors")
            horses, cars = (assets("images", each) for each in ("weizmann_horses", "car_parts"))
        except FileNotFoundError as error:
            for target in TARGETS:
                if "sample" not in target.name:
                    report.skipped(target.name, str(error))
            return
        options = {"model": "mobilenet_v2", "weights": str(weights), "image_size": "448"}
        if quick:
            options["limit"] = "48"
        finer = {"k": "10", "aux_layers": "features.13", "dataset": str(horses / "images")}
        scores["horses"] = _horses(report, _run(options | finer, folder / "horses"), horses)
        parts = {"k": "8", "dataset": str(cars / "images")}
        _cars(report, _run(options | parts, folder / "cars"), cars)
    plot("localization-quick" if quick else "localization", partial(_draw, scores))


def _run(options: dict[str, str], folder: Path) -> Workspace:
    """Carry out a run up to what is object."""
    workspace = prepare(make_config(options), folder)
    for job in (extract, factorize, localize):
        job(workspace)
    fit_objects(workspace)
    return workspace


def _horses(report: Report, workspace: Workspace, source: Path) -> dict[str, float]:
    """Score object masks beside the peers and the controls of the refinement."""
    frame = workspace.listing.frame
    held = [row for row in frame.itertuples() if _is_reported(Path(row.path).stem)]
    image_ids = [int(row.image_id) for row in held]
    maps = ImageMaps(workspace)
    truths = [
        _truth(maps, i, source / "masks" / f"{Path(row.path).stem}.png")
        for i, row in zip(image_ids, held, strict=True)
    ]

    def mean_j(mask_of: Callable[[int], Mask]) -> float:
        return float(np.mean([iou(mask_of(i), t) for i, t in zip(image_ids, truths, strict=True)]))

    evidence = {i: maps.object_evidence(i, working_shape(*_size(maps, i))) for i in image_ids}
    other = dict(zip(image_ids, image_ids[1:] + image_ids[:1], strict=True))

    def refined(values: Maps, image_id: int) -> Mask:
        return refine(maps.pixels(image_id), values)

    def of_another(image_id: int) -> Maps:
        theirs = Image.fromarray(evidence[other[image_id]])
        return np.asarray(theirs.resize(evidence[image_id].shape[::-1]))

    bump = {i: _gaussian(evidence[i].shape) for i in image_ids}
    wrong = _shuffled(workspace, maps)
    ours = {
        "everything is object": mean_j(lambda i: np.ones(_size(maps, i)[::-1], np.bool_)),
        "ours, concepts only": mean_j(lambda i: _coarse(workspace, maps, i)),
        "ours, on the finer layer": mean_j(lambda i: maps.object_mask(i, refined=False)),
        "ours": mean_j(lambda i: refined(evidence[i], i)),
        "control: centred Gaussian": mean_j(lambda i: _at_size(bump[i], maps, i) >= 0),
        "control: refined Gaussian": mean_j(lambda i: refined(bump[i], i)),
        "control: refined, another image's concepts": mean_j(lambda i: refined(of_another(i), i)),
        "(finer layer started from shuffled shares, refined)": mean_j(
            lambda i: refined(wrong(i), i)
        ),
    }
    bump_start = _from_gaussian(workspace, maps)
    ours["(finer layer started from a Gaussian, refined)"] = mean_j(
        lambda i: refined(bump_start(i), i)
    )
    peers = _peers(workspace, image_ids, truths)
    rows = [[name, value, None] for name, value in ours.items()]
    rows += [[name, value, "oracle"] for name, value in peers.items()]
    show(f"horses, {len(held)} held-out images, J", ["way", "J", "choice of concept"], rows)
    controls = [value for name, value in ours.items() if name.startswith("control: refined")]
    report.measured("concepts.horses.j", ours["ours"])
    report.measured("concepts.refinement_control_gap", ours["ours"] - max(controls))
    return peers | ours


def _peers(workspace: Workspace, image_ids: list[int], truths: list[Mask]) -> dict[str, float]:
    """Score other ways on the same activations, concepts chosen with the truth in hand.

    The oracle takes the best concept, or the best so many of those that do best alone, together.
    """
    V, H, order = _read(workspace)
    k = workspace.bank.k
    ways: dict[str, tuple[Maps, Callable[[Maps], Mask]]] = {
        "pytorch-grad-cam's rule": (per_image(H), _winners),
        f"k-means, k = {k}": (kmeans(V, k), _winners),
    }
    for name, parts in {
        f"truncated SVD, rank {k}, Otsu": singular(V, k),
        "one strength, Otsu": H,
    }.items():
        levels = [otsu(each[each > 0]) for each in np.moveaxis(parts, -1, 0)]
        ways[name] = parts, partial(_reach, np.array(levels, dtype=np.float32))
    found: dict[str, float] = {}
    for name, (parts, masks_of) in ways.items():
        masks = [
            masks_of(_raised(workspace, parts[order[image_id]], truth.shape))
            for image_id, truth in zip(image_ids, truths, strict=True)
        ]
        single = [
            [iou(mask, truth) for mask in each] for each, truth in zip(masks, truths, strict=True)
        ]
        best_first = np.mean(single, axis=0).argsort()[::-1]
        unions = [
            [iou(mask, truth) for mask in np.logical_or.accumulate(each[best_first])]
            for each, truth in zip(masks, truths, strict=True)
        ]
        found[f"{name}, best concept"] = float(np.mean(single, axis=0).max())
        found[f"{name}, best union"] = float(np.mean(unions, axis=0).max())
    return found


def _winners(raised: Maps) -> Mask:
    return np.asarray(raised.argmax(0) == np.arange(len(raised))[:, None, None])


def _reach(levels: Maps, raised: Maps) -> Mask:
    return np.asarray(raised >= levels[:, None, None])


def _cars(report: Report, workspace: Workspace, source: Path) -> None:
    """Score concepts as parts beside the peers."""
    names = json.loads((source / "parts.json").read_text("utf-8"))
    merged: dict[str, int] = {}
    lut = np.zeros(256, dtype=np.int64)
    for value, name in names.items():
        plain = name.replace("left_", "").replace("right_", "")
        lut[int(value)] = (
            0 if plain == "_background_" else 1 + merged.setdefault(plain, len(merged))
        )
    V, H, order = _read(workspace)
    bank = workspace.bank
    maps = ImageMaps(workspace)
    truth: dict[int, NDArray[np.int64]] = {}
    for row in workspace.listing.frame.itertuples():
        with Image.open(source / "parts" / f"{Path(row.path).stem}.png") as picture:
            labels = lut[np.asarray(picture)]
        at = [((np.arange(PART_SIDE) + 0.5) * n / PART_SIDE).astype(int) for n in labels.shape]
        truth[int(row.image_id)] = labels[at[0][:, None], at[1]]

    def divided(parts: Maps) -> dict[str, float]:
        pairs = []
        for image_id, row in order.items():
            raised = _raised(workspace, parts[row], (PART_SIDE, PART_SIDE))
            pairs.append((raised.argmax(0).astype(np.int64), truth[image_id]))
        return part_scores(pairs)

    ours = part_scores(
        [
            (maps.concept_map(i, (PART_SIDE, PART_SIDE), 1.0).astype(np.int64) + 1, truth[i])
            for i in order
        ]
    )
    ways = {
        "ours": ours,
        "argmax of strength (gauge)": divided(H),
        "argmax of affinity, not smoothed": divided(_unsmoothed(H, bank.W, bank.context)),
        "pytorch-grad-cam's rule": divided(per_image(H)),
        f"k-means, k = {bank.k}": divided(kmeans(V, bank.k)),
        f"truncated SVD, rank {bank.k}": divided(singular(V, bank.k)),
    }
    header = ["way", "fg_nmi", "fg_ari", "nmi", "ari"]
    rows = [[name, *(each[column] for column in header[1:])] for name, each in ways.items()]
    show(f"cars, {len(order)} images, k = {bank.k}", header, rows)
    report.measured("concepts.cars.fg_nmi", ours["fg_nmi"])
    report.measured("concepts.cars.fg_ari", ours["fg_ari"])


def _sample(report: Report, folder: Path, limit: int | None) -> dict[str, float]:
    """Score objects and parts of the rendered sample."""
    workspace = _run({} if limit is None else {"limit": str(limit)}, folder)
    root = Path(workspace.record["dataset"]["root"]).parent
    maps, bank = ImageMaps(workspace), workspace.bank
    found: dict[str, list[float]] = {}
    concepts, simple, parts = [], [], []
    for row in workspace.listing.frame.itertuples():
        image_id, name = int(row.image_id), Path(row.path).with_suffix(".png")
        truth = _truth(maps, image_id, root / "objects" / name)
        for way, mask in {
            "ours": maps.object_mask(image_id),
            "ours, not refined": maps.object_mask(image_id, refined=False),
            "everything is object": np.ones_like(truth),
            "refined Gaussian": refine(
                maps.pixels(image_id), _gaussian(working_shape(*truth.shape[::-1]))
            ),
        }.items():
            found.setdefault(way, []).append(iou(mask, truth))
        heat = maps.upsample(maps.grid_heatmap(image_id), image_id)
        concepts.append(heat >= bank.thresholds[:, None, None])
        simple.append(strongest(heat[None])[0])
        with Image.open(root / "parts" / name) as picture:
            parts.append(np.asarray(picture))
    scores = {way: float(np.mean(each)) for way, each in found.items()}
    rows = [[way, value] for way, value in scores.items()]
    show(f"rendered sample, {len(parts)} images, objects", ["way", "J"], rows)
    truth_parts = np.stack(parts)
    part_ids = [int(each) for each in np.unique(truth_parts) if each]
    choose = np.arange(len(parts)) % 2 == 0
    ours, theirs = (
        match_parts(np.stack(each), truth_parts, part_ids, choose).mean
        for each in (concepts, simple)
    )
    part_rows = [["ours, one threshold a concept", ours], ["pytorch-grad-cam's rule", theirs]]
    show("rendered sample, parts one to one, scored on other images", ["way", "IoU"], part_rows)
    report.measured("concepts.sample.objects_j", scores["ours"])
    report.measured("concepts.sample.parts_over_gradcam", ours / theirs)
    return scores


def _is_reported(stem: str) -> bool:
    return hashlib.sha256(stem.encode()).digest()[0] >= 128


def _size(maps: ImageMaps, image_id: int) -> tuple[int, int]:
    width, height = maps.entry(image_id)["size"].tolist()
    return width, height


def _truth(maps: ImageMaps, image_id: int, path: Path) -> Mask:
    labels = read_truth(path, _size(maps, image_id)).labels
    assert labels is not None
    return labels > 0


def _gaussian(shape: tuple[int, int]) -> Maps:
    """A centred Gaussian as evidence: 0 at half its maximum, in its standard deviations."""
    axes = [((np.arange(n) + 0.5) / n - 0.5) / SIGMA for n in shape]
    bump = np.exp(-(axes[0][:, None] ** 2 + axes[1] ** 2) / 2)
    return ((bump - 0.5) / bump.std()).astype(np.float32)


def _at_size(values: Maps, maps: ImageMaps, image_id: int) -> Maps:
    return np.asarray(Image.fromarray(values).resize(_size(maps, image_id)))


def _coarse(workspace: Workspace, maps: ImageMaps, image_id: int) -> Mask:
    """The object by the concepts' own grid alone."""
    only = ImageMaps(workspace)
    only.objects = replace(maps.objects, fine=None)
    return only.object_mask(image_id, refined=False)


def _strengths(workspace: Workspace, maps: ImageMaps, shares: Maps | None) -> Maps:
    """Foreground strength of all images on the concepts' grid, with other shares if given."""
    _, H, order = _read(workspace, ["H"])
    coarse = maps.objects.coarse
    if shares is not None:
        coarse = replace(coarse, shares=shares)
    top = np.concatenate([a["logits"] for a in workspace.heatmaps.iterate(["logits"])]).argmax(1)
    return coarse.maps(H, groups_of(workspace, np.array(list(order)), top))


def _relearned(workspace: Workspace, start: Maps) -> Callable[[int], Maps]:
    """Learn the fine part anew from other strengths; return its evidence by image."""
    layers = finer_layers(workspace)
    names = [f"aux/{name}" for name in layers]
    parts = list(workspace.activations.iterate(names))
    stored = {n: np.concatenate([part[f"aux/{n}"] for part in parts]) for n in layers}
    features, grid = fine_features(stored, layers)
    _, _, order = _read(workspace, ["H"])
    fine = fit_fine(features, between_grids(start[..., None], workspace.grid, grid)[..., 0])
    maps = ImageMaps(workspace)

    def evidence(image_id: int) -> Maps:
        shape = working_shape(*_size(maps, image_id))
        if fine is None:
            return np.full(shape, -1, np.float32)
        strength = fine.maps(features[[order[image_id]]])
        entry = maps.entry(image_id)
        raised = upsample(
            strength, grid, Affine(*entry["affine"].tolist()), _size(maps, image_id), shape
        )[0]
        return (raised - np.float32(fine.threshold)) / np.float32(fine.spread)

    return evidence


def _shuffled(workspace: Workspace, maps: ImageMaps) -> Callable[[int], Maps]:
    shares = maps.objects.coarse.shares
    mixed = np.random.default_rng(0).permutation(shares.shape[1])
    return _relearned(workspace, _strengths(workspace, maps, shares[:, mixed]))


def _from_gaussian(workspace: Workspace, maps: ImageMaps) -> Callable[[int], Maps]:
    strength = _strengths(workspace, maps, None)
    _, height, width = strength.shape
    bump = _gaussian((height, width))
    return _relearned(workspace, np.broadcast_to(bump, strength.shape).copy())


def _read(
    workspace: Workspace, names: Iterable[str] = ("V", "H")
) -> tuple[Maps, Maps, dict[int, int]]:
    """Return all activations and heatmaps in working order, and each image's row."""
    ids = np.concatenate([a["image_id"] for a in workspace.heatmaps.iterate(["image_id"])])
    arrays: dict[str, Any] = {"V": np.zeros(0, np.float32)}
    for name in names:
        store = workspace.activations if name == "V" else workspace.heatmaps
        arrays[name] = np.concatenate([a[name].astype(np.float32) for a in store.iterate([name])])
    return arrays["V"], arrays["H"], {int(each): row for row, each in enumerate(ids)}


def _raised(workspace: Workspace, maps: Maps, shape: tuple[int, ...]) -> Maps:
    """Raise maps (h, w, k) of a squashed image to (k, height, width)."""
    size = workspace.grid.image_size
    moved = np.ascontiguousarray(np.moveaxis(maps, -1, 0))
    height, width = shape
    affine = Affine(1.0, 1.0, 0.0, 0.0)
    return upsample(moved, workspace.grid, affine, (size, size), (height, width))


def _unsmoothed(H: Maps, W: Maps, context: Maps) -> Maps:
    flat = H.reshape(-1, 1, 1, H.shape[-1])
    return affinities(flat, W, context).reshape(H.shape)


def _draw(scores: dict[str, dict[str, float]], axes: Axes) -> None:
    names = [f"{data}: {way}" for data, each in scores.items() for way in each]
    values = [value for each in scores.values() for value in each.values()]
    axes.barh(range(len(names)), values, color="#4477aa")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("J, mean IoU of object masks")
