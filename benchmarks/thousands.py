"""Benchmark of concepts by the thousand: encoding, fits, and sparse autoencoders beside them.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ with few strengths of a position above 0.

Explained energy is 1 − ‖V − H Wᵀ‖² / ‖V‖² for every contender, on images that none was fitted to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor

from benchmarks.autoencoder import train
from benchmarks.harness import (
    MissingAssetsError,
    Report,
    Target,
    alternate,
    assets,
    introduce,
    plot,
    ratio,
    seconds,
    show,
)
from benchmarks.tree import measure_tree
from pipeline import nmf
from pipeline.config import make_config
from pipeline.images import unit_hash
from pipeline.jobs.extract import extract
from pipeline.nmf.draw import thin
from pipeline.nmf.pursuit import Pursuit
from pipeline.runs.prepare import prepare

NETWORKS = ("mobilenet_v2", "squeezenet1_1")
K, COARSE = 1_024, 256
ENCODED = {(1_024, 16): 1.4, (1_024, 32): 2.0, (4_096, 16): 1.6}
N_ACTIVE = 16
EACH = (8, 16, 32)
EPOCHS = 20
HELD_OUT = 0.2
N_MATCHED = 2_000
"""Positions on which pursuit is compared with one concept at a time."""

TARGETS = tuple(
    target
    for network in NETWORKS
    for target in (
        *(
            Target(f"thousands.{network}.encode.k{k}_l{active}", "at-most", bound)
            for (k, active), bound in ENCODED.items()
        ),
        Target(f"thousands.{network}.encode.behind_matching_pursuit", "at-most", 0.001),
        Target(f"thousands.{network}.fit.k1024", "at-most", 8),
        Target(f"thousands.{network}.fit.growth", "at-most", 4),
        Target(f"thousands.{network}.fit.dead", "at-most", 0),
        Target(f"thousands.{network}.fit.most_alike", "at-most", 0.95),
        *(
            Target(f"thousands.{network}.over_sae.l0_{active}", "at-least", 1.0)
            for active in (EACH if network == NETWORKS[0] else (N_ACTIVE,))
        ),
        Target(f"thousands.{network}.time_over_sae", "at-most", 0.2),
        Target(f"thousands.{network}.stability_over_sae", "at-least", 1.5),
        Target(f"thousands.{network}.tree.over_free", "at-least", 0.99),
        Target(f"thousands.{network}.tree.beside_parents", "at-least", 0.9),
        Target(f"thousands.{network}.tree.time_over_fit", "at-most", 1.3),
    )
)


@dataclass(frozen=True, eq=False)
class Data:
    """Activations (positions, channels) to fit, and of other images; the image of each position."""

    V: Tensor
    image: NDArray[np.int64]
    others: Tensor

    def product(self, k: int) -> float:
        """Return the seconds of one product V W."""
        W = torch.rand(self.V.shape[1], k)
        return median(seconds(lambda: self.V @ W) for _ in range(3))


@dataclass(frozen=True, eq=False)
class Found:
    """Concepts, how long they and all of H took, and what they explain of the other images."""

    W: Tensor
    seconds: float
    explained: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="300 images, fewer epochs")
    parser.add_argument("--only", action="append", choices=NETWORKS, help="a network; repeatable")
    parser.add_argument("--ours", action="store_true", help="without autoencoders")
    given = parser.parse_args(argv)
    introduce(given.quick)
    report = Report(TARGETS)
    for network in given.only or NETWORKS:
        try:
            _measure(report, network, quick=given.quick, ours_only=given.ours)
        except MissingAssetsError as error:
            report.skip_rest(str(error))
    report.skip_rest("not asked for")
    return report.finish()


def _measure(report: Report, network: str, *, quick: bool, ours_only: bool) -> None:
    data = _data(network, quick=quick)
    name = f"thousands.{network}"
    nmf.encode(data.V[:64], torch.rand(data.V.shape[1], 32), active=4)  # compiles
    _fit(Data(data.V[:2_000], data.image[:2_000], data.others[:500]), 64, 4)
    _encode(report, name, data)
    tree = measure_tree(f"{name}, tree", data.V, data.others, N_ACTIVE)
    for figure, value in vars(tree).items():
        report.measured(f"{name}.tree.{figure}", value)
    ours = {active: _fit(data, K, active) for active in EACH}
    _judge_fit(report, name, data, ours[N_ACTIVE])
    if not ours_only:
        _beside_autoencoders(report, network, data, ours, quick=quick)


def _beside_autoencoders(
    report: Report, network: str, data: Data, ours: dict[int, Found], *, quick: bool
) -> None:
    """Train autoencoders, once for each number of active features, and compare."""
    name = f"thousands.{network}"
    wanted = EACH if network == NETWORKS[0] else (N_ACTIVE,)
    curves = {}
    for active in wanted:
        curves[active] = [
            (each.seconds, each.model.explained(data.others), each.model.explained(data.V))
            for each in train(data.V, K, active, 4 if quick else EPOCHS)
        ]
    rows: list[list[object]] = []
    for active in wanted:
        best, last = max(curves[active], key=lambda each: each[1]), curves[active][-1]
        report.measured(f"{name}.over_sae.l0_{active}", ours[active].explained / best[1])
        rows += [
            ["ours", active, ours[active].explained, ours[active].seconds],
            ["autoencoder, best epoch", active, best[1], best[0]],
            ["autoencoder, last, of fitted images", active, last[2], last[0]],
        ]
    title = f"{network}, {K:,} concepts, explained of other images"
    show(title, ["way", "active", "energy", "s"], rows)
    took = curves[N_ACTIVE][-1][0]
    report.measured(f"{name}.time_over_sae", ours[N_ACTIVE].seconds / took)
    _stability(report, name, data, quick=quick)
    plot(f"thousands-{network}{'-quick' if quick else ''}", partial(_draw, curves, ours))


def _data(network: str, *, quick: bool) -> Data:
    """Extract the activations of photographs of ten classes."""
    options = {
        "model": network,
        "weights": str(assets("weights", f"{network}.safetensors")),
        "dataset": str(assets("images", "imagenette224")),
        "limit": "300" if quick else "",
    }
    with tempfile.TemporaryDirectory() as folder:
        workspace = prepare(make_config(options), Path(folder) / "run")
        extract(workspace)
        parts = list(workspace.activations.iterate(["V", "image_id"]))
    V = np.concatenate([each["V"].reshape(-1, each["V"].shape[-1]) for each in parts])
    n_positions = len(V) // sum(len(each["V"]) for each in parts)
    image = np.repeat(np.concatenate([each["image_id"] for each in parts]), n_positions)
    is_other = np.array([unit_hash(int(each), 0, "thousands") < HELD_OUT for each in image])
    fitted, others = (torch.from_numpy(V[rows]).float() for rows in (~is_other, is_other))
    return Data(fitted, image[~is_other], others)


def _fit(data: Data, k: int, active: int, seed: int = 0) -> Found:
    """Go from the array to W and all of H."""
    H = torch.empty(len(data.V), k)
    start = time.perf_counter()
    lengths = torch.linalg.vector_norm(data.V, dim=1, keepdim=True) ** nmf.power_of(active)
    V = data.V / lengths.clamp_min(1e-30)
    sample = thin(V, nmf.sparse_sample_size(k), seed)
    W = nmf.fit(nmf.ArrayBlocks(V), sample, k, active=active, seed=seed, max_passes=2, H=H).W
    H *= lengths
    took = time.perf_counter() - start
    return Found(W, took, _explained(data.others, W, active))


def _explained(V: Tensor, W: Tensor, active: int) -> float:
    return 1 - nmf.relative_error(W, nmf.sweep([V], W, active=active)) ** 2


def _encode(report: Report, name: str, data: Data) -> None:
    """Time pursuit beside the product V W alone, and compare it with one concept at a time."""
    rows = []
    for k, active in ENCODED:
        W = thin(data.V, k, 1).T.contiguous()
        pursuit = Pursuit.of(W, active)
        contenders: dict[str, Callable[[], object]] = {
            "product": partial(torch.mm, data.V, pursuit.unit),
            "ours": partial(pursuit.codes, data.V),
        }
        times = alternate(contenders, 3)
        over = ratio(times["ours"], times["product"])
        report.measured(f"{name}.encode.k{k}_l{active}", over)
        rows.append([k, active, over])
    show(f"{name}, encoding over one product V W", ["k", "active", "over"], rows)
    W = _fit(data, K, N_ACTIVE).W
    V = data.others[:: max(1, len(data.others) // N_MATCHED)]
    plain = _matching_pursuit(V, W, N_ACTIVE)
    report.measured(f"{name}.encode.behind_matching_pursuit", plain - _explained(V, W, N_ACTIVE))


def _matching_pursuit(V: Tensor, W: Tensor, active: int) -> float:
    """Return what is explained by taking up one concept at a time, the rest by scipy."""
    unit = (W / W.norm(dim=0)).double().numpy()
    left = 0.0
    for v in V.double().numpy():
        found: list[int] = []
        rest = v
        while len(found) < active:
            correlation = unit.T @ rest
            correlation[found] = -np.inf
            if correlation.max() <= 0:
                break
            found.append(int(correlation.argmax()))
            rest = v - unit[:, found] @ nnls(unit[:, found], v)[0]
        left += float(rest @ rest)
    return 1 - left / float(V.double().square().sum())


def _judge_fit(report: Report, name: str, data: Data, fine: Found) -> None:
    coarse = _fit(data, COARSE, N_ACTIVE)
    report.measured(f"{name}.fit.k1024", fine.seconds / data.product(K))
    report.measured(f"{name}.fit.growth", fine.seconds / coarse.seconds)
    H = nmf.encode(data.V, fine.W, active=N_ACTIVE)
    report.measured(f"{name}.fit.dead", float((H.amax(0) == 0).sum()))
    cosines = (fine.W.T @ fine.W).fill_diagonal_(0)
    report.measured(f"{name}.fit.most_alike", float(cosines.max()))
    rows = [[COARSE, coarse.seconds, coarse.explained], [K, fine.seconds, fine.explained]]
    show(f"{name}, {N_ACTIVE} active", ["k", "s", "explained of other images"], rows)


def _stability(report: Report, name: str, data: Data, *, quick: bool) -> None:
    """Compare fits of disjoint halves of the images, each from a start of its own.

    Concepts weigh by Σ h² of their own codes, directions being of unit length.
    """
    images = np.unique(data.image)
    first = np.isin(data.image, np.random.default_rng(0).permutation(images)[::2])
    parts = [data.V[torch.from_numpy(rows)] for rows in (first, ~first)]

    def fitted(V: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        W = _fit(Data(V, data.image, data.others[:100]), K, N_ACTIVE, seed).W
        return W, nmf.sweep([V], W, active=N_ACTIVE).h_sq

    def trained(V: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        *_, last = train(V, K, N_ACTIVE, 4 if quick else EPOCHS, seed)
        return last.model.D.T, last.model.energies(V)

    def clustered(V: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        unit = torch.nn.functional.normalize(V, dim=1).numpy()
        means = MiniBatchKMeans(K, random_state=seed, batch_size=4_096, n_init=1).fit(unit)
        W = torch.from_numpy(means.cluster_centers_.T).float()
        W = torch.nn.functional.normalize(W, dim=0)
        return W, nmf.sweep([V], W, active=1).h_sq

    found = {}
    for way, make in {"ours": fitted, "autoencoder": trained, "k-means": clustered}.items():
        (a, energy), (b, _) = (make(V, seed) for seed, V in enumerate(parts))
        cosines = nmf.match(a, b)[1]
        found[way] = float((energy * cosines).sum() / energy.sum())
    rows = [list(each) for each in found.items()]
    show(f"{name}, cosine between halves, by energy", ["way", "cosine"], rows)
    report.measured(f"{name}.stability_over_sae", found["ours"] / found["autoencoder"])


def _draw(
    curves: dict[int, list[tuple[float, float, float]]], ours: dict[int, Found], axes: Axes
) -> None:
    for active, curve in curves.items():
        (line,) = axes.plot(*zip(*[each[:2] for each in curve], strict=True), marker=".")
        label = f"{active} active"
        axes.plot(
            ours[active].seconds,
            ours[active].explained,
            "*",
            ms=14,
            color=line.get_color(),
            label=label,
        )
    axes.set_xscale("log")
    axes.set_xlabel("seconds (stars: ours; lines: autoencoder, by epoch)")
    axes.set_ylabel("explained energy, other images")
    axes.legend()


if __name__ == "__main__":
    sys.exit(main())
