"""How well single concepts tell parts of cars: mAP, Purity@16, Coverage@0.3, beside other codes.

Notation: V (n, channels) activations at the cells of all images, S (n, columns) how strong each
concept, component or cluster is there; see `pipeline.localize.alignment`. Of each part the column
is chosen on one half of the images and measured on the other. Clusters count by nearness to their
centres, components with either sign.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from benchmarks.autoencoder import train
from benchmarks.harness import Report, Target, plot, show
from benchmarks.masks import read_maps
from pipeline import nmf
from pipeline.analysis.image_data import ImageData
from pipeline.images import Affine, unit_hash
from pipeline.localize.alignment import align, summary
from pipeline.runs.bank import fit_run
from pipeline.runs.workspace import Workspace

OVER_BEST = Target("concepts.map.over_best", "at-least", 1.0)
OVER_SAE = Target("concepts.map.over_sae", "at-least", 1.0)
AUTO = Target("concepts.map.auto_over_best_k", "at-least", 0.95)
TARGETS = (OVER_BEST, OVER_SAE, AUTO)
KS, QUICK = (16, 32, 64, 128, 256, 512), (16,)
FEW = 64
"""Concepts, up to which the best of clusters and components is what ours are held against."""

ACTIVE, EPOCHS = 16, 20
"""Codes of the autoencoder's at a cell, of few concepts a quarter of them, and its epochs."""

Array = NDArray[np.float32]


def score_part_labels(report: Report, workspace: Workspace, source: Path, *, quick: bool) -> None:
    """Measure concepts and other codes of the same activations at several k."""
    V, _, order = read_maps(workspace)
    flat = V.reshape(-1, V.shape[-1])
    labels, chosen, names = _labels(workspace, source, order)
    seen = labels >= 0
    flat, labels, chosen = flat[seen.ravel()], labels[seen], chosen[seen]
    members = labels[:, None] == np.arange(1, 1 + len(names))
    rows: list[dict[str, object]] = []
    ks = QUICK if quick else KS
    for k in ks:
        for way, code in _codes(workspace, k):
            aligned = align(code(flat), members, names, chosen, "part")
            rows.append({"k": k, "way": way, "parts": len(aligned), **summary(aligned)})
    auto, ours = _ours(workspace, "auto")
    aligned = align(ours(flat), members, names, chosen, "part")
    rows.append({"k": auto, "way": "ours, K=auto", "parts": len(aligned), **summary(aligned)})
    table = pd.DataFrame(rows)
    title = f"parts of cars by single concepts, {len(labels):,} cells of {len(order)} images"
    show(title, [*map(str, table.columns)], table.to_numpy().tolist())
    plot("part-labels-quick" if quick else "part-labels", partial(_draw, table))
    judge(report, table)


def judge(report: Report, table: pd.DataFrame) -> None:
    """Report the targets, of mAP by k and way."""
    maps = table.pivot(index="k", columns="way", values="mAP")
    ours, auto = maps.pop("ours").dropna(), maps.pop("ours, K=auto").dropna()
    over = ours / maps.pop("autoencoder").loc[ours.index]
    few = maps.loc[[k for k in ours.index if k <= FEW]].max(axis=1)
    report.measured(OVER_BEST.name, float((ours / few).min()))
    report.measured(OVER_SAE.name, float(over.min()))
    report.measured(AUTO.name, float(auto.iloc[0] / ours.max()))


def _codes(workspace: Workspace, k: int) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    yield "ours", _ours(workspace, (k,))[1]
    yield "autoencoder", partial(_autoencoder, k)
    yield "PCA, both signs", partial(_components, k)
    yield "k-means", partial(_clusters, k)
    yield "k-means on the sphere", lambda V: _clusters(k, normalize(V))
    yield "its centres, projected on", partial(_projected, k)


def _ours(
    workspace: Workspace, ks: Sequence[int] | Literal["auto"]
) -> tuple[int, Callable[[Array], Array]]:
    """Return the number of concepts of a fit, and what gives their strengths."""
    config = workspace.config.model_copy(update={"k": ks})
    bank = fit_run(replace(workspace, config=config)).bank

    def strengths(V: Array) -> Array:
        X = bank.transform.forward(torch.from_numpy(V))
        H: Array = nmf.encode(X, torch.from_numpy(bank.W), active=bank.active).numpy()
        return H

    return bank.k, strengths


def _autoencoder(k: int, V: Array) -> Array:
    rows = torch.from_numpy(V)
    *_, last = train(rows, k, min(ACTIVE, k // 4), EPOCHS)
    scaled, lengths = last.model.scaled(rows)
    which, z = last.model.codes(scaled)
    dense: Array = torch.zeros(len(V), k).scatter_(1, which, z * lengths).numpy()
    return dense


def _draw(table: pd.DataFrame, axes: Axes) -> None:
    for way, own in table.groupby("way", sort=False):
        axes.plot(own["k"], own["mAP"], "o-", label=way)
    axes.set_xscale("log")
    axes.set_xlabel("k")
    axes.set_ylabel("mAP of parts of cars")
    axes.legend(fontsize=7)


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
