"""How well single concepts tell parts of cars: mAP, Purity@16, Coverage@0.3, beside other codes.

Notation: V (n, channels) activations at the cells of all images, S (n, columns) how strong each
concept, component or cluster is there; see `pipeline.localize.alignment`. Of each part the column
is chosen on one half of the images and measured on the other. Clusters count by nearness to their
centres, components with either sign.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from benchmarks.harness import Report, Target, show
from benchmarks.masks import read_maps
from pipeline import nmf
from pipeline.analysis.image_data import ImageData
from pipeline.images import Affine, unit_hash
from pipeline.localize.alignment import align, summary
from pipeline.runs.bank import fit_run
from pipeline.runs.workspace import Workspace

OVER_BEST = Target("concepts.map.over_best", "at-least", 1.0)
KS, QUICK = (16, 32, 64), (16,)

Array = NDArray[np.float32]


def score_part_labels(report: Report, workspace: Workspace, source: Path, *, quick: bool) -> None:
    """Measure concepts and other codes of the same activations at several k."""
    V, _, order = read_maps(workspace)
    flat = V.reshape(-1, V.shape[-1])
    labels, chosen, names = _labels(workspace, source, order)
    seen = labels >= 0
    flat, labels, chosen = flat[seen.ravel()], labels[seen], chosen[seen]
    members = labels[:, None] == np.arange(1, 1 + len(names))
    rows, ratios = [], []
    for k in QUICK if quick else KS:
        found = {}
        for way, code in _codes(workspace, k):
            aligned = align(code(flat), members, names, chosen, "part")
            found[way] = summary(aligned)
            rows.append({"k": k, "way": way, "parts": len(aligned), **found[way]})
        maps = {way: each["mAP"] for way, each in found.items()}
        ratios.append(maps.pop("ours") / max(maps.values()))
    table = pd.DataFrame(rows)
    title = f"parts of cars by single concepts, {len(labels):,} cells of {len(order)} images"
    show(title, [*map(str, table.columns)], table.to_numpy().tolist())
    report.measured(OVER_BEST.name, min(ratios))


def _codes(workspace: Workspace, k: int) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    bank = fit_run(workspace, (k,)).bank

    def ours(V: Array) -> Array:
        X = bank.transform.forward(torch.from_numpy(V))
        H: Array = nmf.encode(X, torch.from_numpy(bank.W), active=bank.active).numpy()
        return H

    yield "ours", ours
    yield "PCA, both signs", partial(_components, k)
    yield "k-means", partial(_clusters, k)
    yield "k-means on the sphere", lambda V: _clusters(k, normalize(V))
    yield "its centres, projected on", partial(_projected, k)


def _components(k: int, V: Array) -> Array:
    found = PCA(k, random_state=0).fit_transform(V).astype(np.float32)
    return np.concatenate([found, -found], axis=1)


def _clusters(k: int, V: Array) -> Array:
    fitted = MiniBatchKMeans(k, random_state=0, batch_size=4096, n_init=5).fit(V)
    nearness: Array = -fitted.transform(V).astype(np.float32)
    return nearness


def _projected(k: int, V: Array) -> Array:
    """Project on the directions of clusters on the sphere: long activations count for more."""
    fitted = MiniBatchKMeans(k, random_state=0, batch_size=4096, n_init=5).fit(normalize(V))
    projected: Array = V @ normalize(fitted.cluster_centers_).T.astype(np.float32)
    return projected


def _labels(
    workspace: Workspace, source: Path, order: dict[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], list[str]]:
    """Return the part at the middle of each cell (-1: beyond the image), which images choose, and
    the parts' names from 1 on; left and right ones are one."""
    names = json.loads((source / "parts.json").read_text("utf-8"))
    merged: dict[str, int] = {}
    lut = np.zeros(256, np.int64)
    for value, name in names.items():
        plain = name.replace("left_", "").replace("right_", "")
        if plain != "_background_":
            lut[int(value)] = 1 + merged.setdefault(plain, len(merged))
    maps, grid = ImageData(workspace), workspace.grid
    centres = np.stack(np.meshgrid(grid.centres_x, grid.centres_y), -1) + 0.5
    labels = np.full((len(order), *centres.shape[:2]), -1, np.int64)
    chosen = np.zeros(labels.shape, np.bool_)
    for image_id, path in workspace.listing.frame[["image_id", "path"]].itertuples(index=False):
        with Image.open(source / "parts" / f"{Path(path).stem}.png") as picture:
            truth = lut[np.asarray(picture)]
        affine = Affine(*maps.entry(image_id)["affine"].tolist())
        x, y = np.moveaxis(affine.to_image(centres), -1, 0)
        inside = (x >= 0) & (x < truth.shape[1]) & (y >= 0) & (y < truth.shape[0])
        labels[order[image_id]][inside] = truth[y[inside].astype(int), x[inside].astype(int)]
        chosen[order[image_id]] = unit_hash(image_id, 0, "evaluate") < 0.5
    return labels, chosen, list(merged)
