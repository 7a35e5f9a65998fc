"""Concepts as parts against true parts: of cars, and of the rendered sample with its objects.

NMI and ARI are pooled over the pixels of parts on 96 × 96 maps, left and right parts being one.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import Report, show
from benchmarks.masks import Maps, raise_squashed, read_maps, true_mask
from benchmarks.partitions import kmeans, per_image, singular
from pipeline.analysis.evaluate import part_scores
from pipeline.analysis.image_data import ImageData
from pipeline.localize import affinities, centred, refine, working_shape
from pipeline.localize.scores import iou, match_parts, strongest
from pipeline.runs.workspace import Workspace

PART_SIDE = 96

Labels = NDArray[np.int64]


def score_cars(report: Report, workspace: Workspace, source: Path) -> None:
    """Score concepts as parts beside the peers."""
    names = json.loads((source / "parts.json").read_text("utf-8"))
    merged: dict[str, int] = {}
    lut = np.zeros(256, dtype=np.int64)
    for value, name in names.items():
        plain = name.replace("left_", "").replace("right_", "")
        lut[int(value)] = (
            0 if plain == "_background_" else 1 + merged.setdefault(plain, len(merged))
        )
    V, H, order = read_maps(workspace)
    bank = workspace.bank
    maps = ImageData(workspace)
    truth: dict[int, NDArray[np.int64]] = {}
    for image_id, path in workspace.listing.frame[["image_id", "path"]].itertuples(index=False):
        with Image.open(source / "parts" / f"{Path(path).stem}.png") as picture:
            labels = lut[np.asarray(picture)]
        at = [((np.arange(PART_SIDE) + 0.5) * n / PART_SIDE).astype(int) for n in labels.shape]
        truth[int(image_id)] = labels[at[0][:, None], at[1]]

    def divided(parts: Maps) -> dict[str, float]:
        pairs = []
        for image_id, row in order.items():
            raised = raise_squashed(workspace, parts[row], (PART_SIDE, PART_SIDE))
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
        "argmax of affinity": divided(affinities(H, bank.W)),
        "pytorch-grad-cam's rule": divided(per_image(H)),
        f"k-means, k = {bank.k}": divided(kmeans(V, bank.k)),
        f"truncated SVD, rank {bank.k}": divided(singular(V, bank.k)),
    }
    _show_divisions(f"cars, {len(order)} images, k = {bank.k}", ways)
    report.measured("concepts.cars.fg_nmi", ours["fg_nmi"])
    report.measured("concepts.cars.fg_ari", ours["fg_ari"])


def score_sample(report: Report, workspace: Workspace) -> dict[str, float]:
    """Score objects and parts of the rendered sample."""
    root = Path(workspace.record.dataset.root).parent
    maps, bank = ImageData(workspace), workspace.bank
    found: dict[str, list[float]] = {}
    concepts, simple, parts = [], [], []
    divisions: dict[str, list[tuple[Labels, Labels]]] = {}
    for image_id, path in workspace.listing.frame[["image_id", "path"]].itertuples(index=False):
        name = Path(path).with_suffix(".png")
        truth = true_mask(maps, image_id, root / "objects" / name)
        for way, mask in {
            "ours": maps.object_mask(image_id),
            "ours, not refined": maps.object_mask(image_id, refined=False),
            "everything is object": np.ones_like(truth),
            "refined Gaussian": refine(
                maps.pixels(image_id), centred(working_shape(*truth.shape[::-1]))
            ),
        }.items():
            found.setdefault(way, []).append(iou(mask, truth))
        heat = maps.upsample(maps.grid_heatmap(image_id), image_id)
        concepts.append(heat >= bank.thresholds[:, None, None])
        simple.append(strongest(heat[None])[0])
        with Image.open(root / "parts" / name) as picture:
            parts.append(np.asarray(picture))
        labels = parts[-1].astype(np.int64)
        near = affinities(np.moveaxis(maps.grid_heatmap(image_id), 0, -1)[None], bank.W)[0]
        for way, winner in {
            "ours": maps.concept_map(image_id, labels.shape, 1.0),
            "argmax of affinity": maps.upsample(np.moveaxis(near, -1, 0), image_id).argmax(0),
            "argmax of strength (gauge)": heat.argmax(0),
        }.items():
            divisions.setdefault(way, []).append((winner.astype(np.int64) + 1, labels))
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
    _show_divisions(
        f"rendered sample, k = {bank.k}, parts as a division",
        {way: part_scores(pairs) for way, pairs in divisions.items()},
    )
    report.measured("concepts.sample.objects_j", scores["ours"])
    report.measured("concepts.sample.parts_over_gradcam", ours / theirs)
    return scores


def _show_divisions(title: str, ways: dict[str, dict[str, float]]) -> None:
    header = ["way", "fg_nmi", "fg_ari", "nmi", "ari"]
    rows = [[name, *(each[column] for column in header[1:])] for name, each in ways.items()]
    show(title, header, rows)
