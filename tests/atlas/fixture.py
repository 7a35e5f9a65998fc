"""Atlas input without a pipeline: rendered pictures, smooth heatmaps and every table of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from scipy import ndimage

from pipeline import nmf
from pipeline.atlas import LONG, AtlasData
from pipeline.store import Suspects
from pipeline.tables import TABLES, level_rows, suspect_rows, to_arrow, tree_rows
from tests.classify.fixture import make_bank

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]

NASTY = (
    "</script><script>window.owned=1</script>",
    '"><img src=x onerror="window.owned=1">',
    "javascript:window.owned=1",
    "'; drop table images; --",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.\u0000\u2028line\u2029",
    "日本語 Ünïcödé 🐕 a very long label that goes on and on until no line can hold it",
)
NOTHING = 0.25  # what the head answers to nothing
NAMES = ("wheel", "wing", "sail", "window", "leaf", "wave", "roof", "mast")


@dataclass(frozen=True)
class Parts:
    """What a run would have measured, before it is put into tables."""

    images: Sequence[Bytes]
    paths: Sequence[str]
    labels: Sequence[str | None]
    heatmaps: Floats  # (n, k, h, w), gauge units
    class_names: Sequence[str]
    concept_logits: Floats  # (k, classes)
    image_logits: Floats  # (n, classes)
    weights: Floats  # (k, classes), what a concept adds to a class at mean strength 1


def gauge(heatmaps: Floats) -> Floats:
    """Rescale (n, k, h, w) so that each concept's self-weighted mean strength is 1."""
    total = heatmaps.sum(axis=(0, 2, 3), dtype=np.float64)
    squares = np.square(heatmaps, dtype=np.float64).sum(axis=(0, 2, 3))
    typical = np.where(total > 0, squares / np.maximum(total, 1e-9), 1.0)  # or it stands nowhere
    scaled: Floats = heatmaps / typical[:, None, None]
    return scaled.astype(np.float32)


def resample(maps: Floats, image_id: int, height: int, width: int) -> Floats:
    """Bilinear, cell centres at (i + ½)/n of the image, as a run's `upsample` would do."""
    h, w = maps.shape[1:]
    y = (np.arange(height) + 0.5) * h / height - 0.5
    x = (np.arange(width) + 0.5) * w / width - 0.5
    grid = np.meshgrid(y, x, indexing="ij")
    up = [ndimage.map_coordinates(each, grid, order=1, mode="nearest") for each in maps]
    return np.asarray(up, np.float32).reshape(len(maps), height, width)


def synthetic(
    n_images: int = 24,
    k: int = 6,
    seed: int = 0,
    *,
    class_names: Sequence[str] = NAMES,
    names: Callable[[int], str] = lambda i: f"scene/{i:04d}.png",
    bare: bool = False,
) -> AtlasData:
    """Pictures of soft coloured blobs, one colour a concept, with heatmaps that follow them.

    `bare` leaves out everything that may be missing: labels, stability, effects, tests, objects.
    """
    rng = np.random.default_rng(seed)
    hues = rng.integers(40, 230, (k, 3))
    images, maps = [], np.zeros((n_images, k, 7, 7), np.float32)
    for i in range(n_images):
        height, width = (120, 160) if i % 3 else (160, 110)
        picture = np.full((height, width, 3), rng.integers(90, 200, 3), np.float64)
        picture += rng.normal(0, 6, picture.shape)
        for j in rng.choice(k, size=min(k, 3), replace=False):
            cy, cx, size = rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.85), rng.uniform(0.1, 0.2)
            blob = _blob(height, width, cy, cx, size)[..., None]
            picture = picture * (1 - blob) + hues[j] * blob
            maps[i, j] += _blob(7, 7, cy, cx, size)
        images.append(picture.clip(0, 255).astype(np.uint8))
    weights = rng.normal(0, 1, (k, len(class_names)))
    logits = np.einsum("nk,kc->nc", maps.mean((2, 3)) * 30, weights)
    true = np.where(np.arange(n_images) % 5 == 2, logits.argmin(1), logits.argmax(1))
    labels = [None if bare else class_names[int(each)] for each in true]
    paths = [names(i) for i in range(n_images)]
    parts = Parts(images, paths, labels, gauge(maps), class_names, weights * 4, logits, weights)
    return assemble(
        parts, seed=seed, bare=bare, ids=image_ids([f"image {i}" for i in range(n_images)])
    )


def assemble(
    parts: Parts,
    *,
    seed: int = 0,
    bare: bool = False,
    title: str = "",
    ids: npt.NDArray[np.int64] | None = None,
) -> AtlasData:
    """Fill all tables from measured parts and give the readers an atlas needs."""
    n, k = parts.heatmaps.shape[:2]
    ids = image_ids(parts.paths) if ids is None else ids
    order = np.argsort(ids)
    threshold = np.full(k, 0.35)
    tables = {
        "images": _images(parts, ids, bare),
        "concepts": _concepts(parts, threshold, bare),
        "concept_classes": _concept_classes(parts, bare),
        "concept_labels": _concept_labels(parts, threshold, bare),
        "image_concepts": _image_concepts(parts, ids, threshold, bare),
        "regions": _regions(parts, ids, threshold),
        "concept_pairs": _pairs(parts, threshold),
        "k_metrics": _k_metrics(k, bare),
        "fidelity": _fidelity(k, bare),
        "rejected": _rejected(bare),
        "duplicates": TABLES["duplicates"].schema().empty_table().to_pandas(),
        "suspects": _suspects(parts, bare),
        **_tree(k, bare),
    }
    regions = tables["regions"].sort_values("score", ascending=False).drop_duplicates("image_id")
    objects = regions.sort_values("image_id").assign(
        concept_ids=lambda t: t.concept_id.map(lambda j: [j])
    )
    columns = ["image_id", "concept_ids", "x0", "y0", "x1", "y1", "area", "score"]
    tables["objects"] = objects[columns].iloc[: 0 if bare else None].reset_index(drop=True)
    for name in ("images", "image_concepts", "regions"):
        tables[name] = tables[name].sort_values("image_id", kind="stable").reset_index(drop=True)
    at = {int(ids[i]): int(i) for i in order}
    top = parts.image_logits.max(1)

    def object_mask(image_id: int, height: int, width: int) -> npt.NDArray[np.bool_]:
        strongest = parts.heatmaps[at[image_id]].max(axis=0)[None]
        return np.asarray(resample(strongest, image_id, height, width)[0] > 0.6)

    return AtlasData(
        title=title or "synthetic · blobs",
        summary={
            "dataset": "synthetic", "model": "blobs", "layer": "last", "concepts": str(k),
            "images": str(n), "relative error": "0.412", "seed": str(seed),
        },
        tables={name: table for name, table in tables.items() if name not in LONG},
        sql=ask(tables),
        read_image=lambda image_id, _: parts.images[at[image_id]],
        read_heatmap=lambda image_id: parts.heatmaps[at[image_id]],
        upsample=resample,
        object_mask=None if bare else object_mask,
        logits=None if bare else lambda image_id: (NOTHING, float(top[at[image_id]])),
        settings={} if bare else {"MODEL": "blobs", "SEED": str(seed)},
        label_classes={} if bare else {name: j for j, name in enumerate(parts.class_names)},
    )  # fmt: skip


def _suspects(parts: Parts, bare: bool) -> pd.DataFrame:
    """Call the first concepts suspects, the second together with the first."""
    names = parts.class_names
    k = 0 if bare else min(2, parts.heatmaps.shape[1])
    numbers = {"q_value": 1e-4, "gain": 0.1, "spread": 0.97, "background": 0.7, "fixed": 0.8}
    counts = {"n_images": 398, "n_labels": 2, "repaired": 61, "broken": 2}
    shares = {"accuracy_with": 0.54, "accuracy_without": 0.79, "accuracy_ablated": 0.69}
    rows = [
        {
            **numbers, **counts, **shares, "concept_id": each, "score": 0.02 / (each + 1),
            "to": [0], "labels": [*dict.fromkeys(names[:2])], "place": "at the top left",
            "with_concepts": [0] if each else [],
        }
        for each in range(k)
    ]  # fmt: skip
    return suspect_rows(Suspects(rows, 2_000, 2, ""), names, {})


def _tree(k: int, bare: bool) -> dict[str, pd.DataFrame]:
    """Merge the last two concepts, then that and the one before, and so on; a level at the half."""
    bank = replace(make_bank(4, k), energies=np.linspace(0.2, 0.1, k))
    if bare or k < 4:
        return {"concept_tree": tree_rows(bank, []), "concept_levels": level_rows(bank, [])}
    pairs = np.array([(k - 2, k - 1), *((k - 3 - i, k + i) for i in range(k - 2))])
    nodes = nmf.nodes_at(pairs, k // 2)
    levels = (
        nmf.Level(torch.from_numpy(bank.W), np.arange(k), np.linspace(0.8, 1, k), 0.4, 0.42),
        nmf.Level(torch.ones(4, k // 2), nodes, np.full(k // 2, np.nan), 0.6, 0.62),
    )
    tree = nmf.Tree(pairs, np.linspace(0.01, 0.05, k - 1), torch.ones(4, k - 1), levels)
    bank = replace(bank, tree=tree)
    said = {"class_id": None, "level": None, "metric": "agreement", "n": 10}
    rows = [said | {"k": n, "value": value} for n, value in ((k, 0.9), (k // 2, 0.7))]
    names = [f"name {each} <b>" for each in range(k)]
    return {"concept_tree": tree_rows(bank, names), "concept_levels": level_rows(bank, rows)}


def ask(tables: Mapping[str, pd.DataFrame]) -> Callable[[str], pd.DataFrame]:
    """Give a function that runs DuckDB queries over tables; columns they lack are null."""
    database = duckdb.connect()
    for name, table in tables.items():
        columns = TABLES[name].column_names
        assert set(table.columns) <= set(columns), name
        database.register(name, to_arrow(TABLES[name], table.reindex(columns=columns)))
    return lambda query: database.execute(query).df()


def with_tables(data: AtlasData, **changed: pd.DataFrame) -> AtlasData:
    """The same data with other tables."""
    tables = {name: data.sql(f"select * from {name}") for name in TABLES} | changed
    short = {name: table for name, table in tables.items() if name not in LONG}
    return replace(data, tables=short, sql=ask(tables))


def image_ids(paths: Sequence[str]) -> npt.NDArray[np.int64]:
    """Numbers of 63 bits from paths, more than a browser's numbers hold exactly."""
    digests = [hashlib.sha256(path.encode("utf-8", "surrogatepass")).digest()[:8] for path in paths]
    return np.array([int.from_bytes(each, "big") >> 1 for each in digests], np.int64)


def _blob(height: int, width: int, cy: float, cx: float, size: float) -> Floats:
    y, x = np.mgrid[0:height, 0:width]
    near = ((y + 0.5) / height - cy) ** 2 + ((x + 0.5) / width - cx) ** 2
    return np.asarray(np.exp(-near / (2 * size**2)))


def _softmax(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def _images(parts: Parts, ids: Floats, bare: bool) -> pd.DataFrame:
    best = parts.image_logits.argmax(1)
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "image_id": ids,
            "path": list(parts.paths),
            "label": list(parts.labels),
            "labels": [[] if each is None else [each] for each in parts.labels],
            "width": [each.shape[1] for each in parts.images],
            "height": [each.shape[0] for each in parts.images],
            "split": ["fit" if bare or i % 5 else "heldout" for i in range(len(ids))],
            "pred_class": best,
            "pred_label": [None if bare else parts.class_names[int(each)] for each in best],
            "pred_prob": _softmax(parts.image_logits).max(1),
            "residual": rng.uniform(0.2, 0.7, len(ids)),
        }
    )


def _concepts(parts: Parts, threshold: Floats, bare: bool) -> pd.DataFrame:
    n, k = len(parts.heatmaps), len(threshold)
    rng = np.random.default_rng(2)
    present = parts.heatmaps >= threshold[:, None, None]
    prob = _softmax(parts.concept_logits)
    top = prob.argmax(1)
    p = np.where(np.arange(k) % 4 == 3, 0.41, 0.001)
    energy = np.square(parts.heatmaps, dtype=np.float64).sum((0, 2, 3))
    vectors = parts.heatmaps.mean((2, 3)).T + 0.05 * rng.random((k, n))

    def maybe(values: Floats) -> list[Any]:
        return [None] * k if bare else list(values)

    return pd.DataFrame(
        {
            "concept_id": np.arange(k),
            "layer": "features.18",
            "n_images": present.any((2, 3)).sum(0),
            "coverage": present.mean((0, 2, 3)),
            "energy": energy / energy.sum() * 0.8,
            "stability": maybe(rng.uniform(0.3, 0.99, k)),
            "reappears": maybe(np.where(np.arange(k) % 3 == 1, 0.31, 0.97)),
            "reappears_low": maybe(np.full(k, 0.25)),
            "reappears_high": maybe(np.full(k, 0.75)),
            "reappears_with": [None if bare or each % 6 != 1 else [0, 3] for each in range(k)],
            "presence_threshold": threshold,
            "threshold_reason": "Otsu over 1000 positive strengths",
            "importance": maybe(rng.gamma(1.0, 0.4, k)),
            "deletion_effect": maybe(rng.normal(0.4, 0.3, k)),
            "insertion_effect": maybe(rng.normal(0.3, 0.3, k)),
            "top_class": top,
            "top_label": [None if bare else parts.class_names[int(each)] for each in top],
            "top_prob": prob.max(1),
            "top_p": maybe(p),
            "top_significant": maybe(p < 0.05),
            "kind": maybe(np.where(np.arange(k) % 4 == 3, "none", "group")),
            "group": [None if bare or j % 4 == 3 else f"things {j} · others" for j in range(k)],
            "group_classes": [None if bare or j % 4 == 3 else [0, 1] for j in range(k)],
            "group_q": maybe(p),
            "group_mass": maybe(np.full(k, 0.62)),
            "group_moved": maybe(np.full(k, 0.01)),
            "group_share": maybe(np.full(k, 0.47)),
            "vector": [each.astype(np.float32) for each in vectors],
            "context_vector": [each.astype(np.float32) * 2 for each in vectors],
        }
    )


def _concept_classes(parts: Parts, bare: bool) -> pd.DataFrame:
    k, n_classes = parts.concept_logits.shape
    rows = []
    for source, factor in (("context", 1.0), ("direction", 0.4)):
        logits = parts.concept_logits * factor
        prob = _softmax(logits)
        z = (logits - logits.mean(0)) / (logits.std(0) + 1e-9)
        for j in range(k):
            for rank, c in enumerate(np.argsort(-logits[j])[: min(10, n_classes)]):
                name = None if bare else parts.class_names[int(c)]
                score = None if bare else float(z[j, c] * 2)
                rows.append((j, source, rank, int(c), name, logits[j, c], prob[j, c], score))
    columns = ["concept_id", "source", "rank", "class_id", "label", "logit", "prob", "z"]
    return pd.DataFrame(rows, columns=columns)


def _concept_labels(parts: Parts, threshold: Floats, bare: bool) -> pd.DataFrame:
    columns = [
        "concept_id", "label", "n", "precision", "recall", "lift", "error_rate_with",
        "error_rate_without", "ci_low", "ci_high", "q_value",
    ]  # fmt: skip
    if bare:
        return pd.DataFrame({name: [] for name in columns})
    has = np.asarray((parts.heatmaps >= threshold[:, None, None]).any((2, 3)))
    labels = np.array([str(each) for each in parts.labels])
    rng = np.random.default_rng(3)
    rows = []
    for j in range(has.shape[1]):
        for label in sorted(set(labels)):
            both = (has[:, j] & (labels == label)).sum()
            precision = both / max(1, has[:, j].sum())
            recall, share = both / (labels == label).sum(), (labels == label).mean()
            gap = float(rng.normal(0.02, 0.08))
            rows.append(
                (j, label, int(both), precision, recall, precision / share, max(0, 0.1 + gap), 0.1,
                 gap - 0.06, gap + 0.06, float(rng.uniform()))
            )  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _image_concepts(parts: Parts, ids: Floats, threshold: Floats, bare: bool) -> pd.DataFrame:
    n, k, h, w = parts.heatmaps.shape
    flat = parts.heatmaps.reshape(n, k, h * w)
    peak = flat.argmax(2)
    sizes = np.array([each.shape[:2] for each in parts.images])
    best = parts.image_logits.argmax(1)
    contribution = flat.mean(2) * parts.weights.T[best]
    return pd.DataFrame(
        {
            "image_id": np.repeat(ids, k),
            "concept_id": np.tile(np.arange(k), n),
            "mean": flat.mean(2).ravel(),
            "max": flat.max(2).ravel(),
            "area": (flat >= threshold[:, None]).mean(2).ravel(),
            "peak_x": ((peak % w + 0.5) / w * sizes[:, 1:]).ravel(),
            "peak_y": ((peak // w + 0.5) / h * sizes[:, :1]).ravel(),
            "contribution": [None] * (n * k) if bare else contribution.ravel(),
        }
    )


def _regions(parts: Parts, ids: Floats, threshold: Floats) -> pd.DataFrame:
    rows = []
    n, k, h, w = parts.heatmaps.shape
    for i in range(n):
        height, width = parts.images[i].shape[:2]
        for j in range(k):
            labelled, _ = ndimage.label(parts.heatmaps[i, j] >= threshold[j])
            for number, box in enumerate(ndimage.find_objects(labelled), start=1):
                y, x = box
                inside = parts.heatmaps[i, j][box][labelled[box] == number]
                area = inside.size / (h * w)
                rows.append(
                    (int(ids[i]), j, x.start * width / w, y.start * height / h,
                     x.stop * width / w, y.stop * height / h, area, float(inside.max()))
                )  # fmt: skip
    columns = ["image_id", "concept_id", "x0", "y0", "x1", "y1", "area", "score"]
    return pd.DataFrame(rows, columns=columns)


def _pairs(parts: Parts, threshold: Floats) -> pd.DataFrame:
    k = parts.heatmaps.shape[1]
    strength = parts.heatmaps.mean((2, 3)).T
    unit = strength / (np.linalg.norm(strength, axis=1, keepdims=True) + 1e-9)
    has = (parts.heatmaps >= threshold[:, None, None]).any((2, 3)).astype(float)
    rows = []
    for a in range(k):
        for b in range(a + 1, k):
            both = float((has[:, a] * has[:, b]).sum())
            either = float(np.maximum(has[:, a], has[:, b]).sum())
            rows.append((a, b, float(unit[a] @ unit[b]), both / len(has), both / max(1, either)))
    columns = ["concept_a", "concept_b", "cosine", "cooccurrence", "jaccard"]
    return pd.DataFrame(rows, columns=columns)


def _k_metrics(k: int, bare: bool) -> pd.DataFrame:
    columns = [
        "k", "seed", "error", "heldout_error", "bicv_error", "seed_stability", "split_stability",
        "svd_error", "chosen",
    ]  # fmt: skip
    rng = np.random.default_rng(4)
    rows = []
    for each in [k] if bare else sorted({max(1, k // 4), max(1, k // 2), k, 2 * k, 4 * k}):
        for seed in range(1 if bare else 3):
            error = 0.9 * each**-0.15
            bicv = None if bare else 0.62 + 0.03 * np.log(each / k) ** 2 + rng.normal(0, 0.003)
            stable = None if bare else float(np.clip(0.97 - 0.09 * np.log2(each / k * 4 + 1), 0, 1))
            rows.append((each, seed, error, None if bare else error * 1.04, bicv, stable, stable,
                         error * 0.97, each == k))  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _fidelity(k: int, bare: bool) -> pd.DataFrame:
    rows: list[tuple[object, ...]] = []
    if not bare:
        rows += [
            ("agreement", "heldout", k, None, None, None, 0.81, 0.86, 200),
            ("agreement_mean", "heldout", k, None, None, None, 0.11, 0.86, 200),
            ("kl", "heldout", k, None, None, None, 0.44, 0.39, 200),
        ]
        rows += [
            (metric, "heldout", k, j, level, None, start + slope * level, start + 0.1 * level, 50)
            for metric, start, slope in (("deletion", 0.9, -0.5), ("insertion", 0.2, 0.5))
            for level in np.linspace(0, 1, 6)
            for j in range(k)
        ]
        rows += [
            (metric, "heldout", k, None, level, None, 0.9 * level**0.3, 0.9 * level, 50)
            for metric in ("deletion", "insertion")
            for level in np.linspace(0, 1, 6)
        ]
    columns = ["metric", "split", "k", "concept_id", "level", "class_id", "value", "baseline", "n"]
    return pd.DataFrame(rows, columns=columns)


def _rejected(bare: bool) -> pd.DataFrame:
    rows = [] if bare else [("broken/one.jpg", "truncated file"), ("notes.txt.jpg", "not an image")]
    return pd.DataFrame(rows, columns=["path", "reason"])
