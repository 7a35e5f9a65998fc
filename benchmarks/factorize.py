"""Benchmark of the factorization: time and error against scikit-learn's, encoding, memory.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.

Every contender goes from the same float32 array to W and all of H, on the same threads; errors are
float64 with H converged.
"""

from __future__ import annotations

import itertools
import math
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.axes import Axes

from benchmarks.contenders import (
    CONTENDERS,
    OURS,
    Array,
    Factors,
    Outcome,
    deviation,
    true_error,
)
from benchmarks.from_store import factorize, repeat_shards
from benchmarks.harness import (
    Report,
    Target,
    alternate,
    assets,
    plot,
    ratio,
    seconds,
    show,
    wants_quick,
    watch,
)
from pipeline import nmf
from pipeline.config import make_config
from pipeline.jobs.extract import extract
from pipeline.jobs.prepare import prepare
from pipeline.store import ShardStore

NETWORKS = ("squeezenet1_1", "mobilenet_v2")
KS = (10, 20, 50)
BOUNDS = {
    "speedup": Target("speedup", "at-least", 25),
    "error_ratio": Target("error_ratio", "at-most", 1.001),
    "explained_ratio": Target("explained_ratio", "at-least", 0.995),
}
ENCODED = {
    20: Target("factorize.encode.k20", "at-most", 3),
    50: Target("factorize.encode.k50", "at-most", 6),
}
TARGETS = (
    *(
        Target(f"factorize.{network}.k{k}.{name}", bound.sense, bound.bound)
        for network in NETWORKS
        for k in KS
        for name, bound in BOUNDS.items()
    ),
    *ENCODED.values(),
    Target("factorize.memory_growth", "at-most", 1.05),
)
ENCODE_TOL = 1e-3
"""How close to the converged H an encoding has to come to count."""

ENCODE_ROUNDS = 7


@dataclass(frozen=True)
class Size:
    """How much is measured; `repeats` are those of the small and the large store on disk."""

    n_images: int | None
    networks: tuple[str, ...]
    ks: tuple[int, ...]
    n_seeds: int
    repeats: tuple[int, int]


QUICK = Size(200, ("squeezenet1_1",), (20,), 1, (1, 10))
FULL = Size(None, NETWORKS, KS, 3, (3, 30))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where a target was missed."""
    quick = wants_quick(__doc__ or "", argv)
    size = QUICK if quick else FULL
    report = Report(TARGETS)
    try:
        images = assets("images", "imagenette224")
        weights = {name: assets("weights", f"{name}.safetensors") for name in NETWORKS}
    except FileNotFoundError as error:
        report.skip_rest(str(error))
        return report.finish()
    outcomes: dict[str, list[Outcome]] = {}
    encoding: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for network in size.networks:
            store = _extract(network, images, weights[network], size, Path(name))
            V = _read(store)
            title = f"{network}, {len(V):,} positions × {V.shape[1]}"
            for k in size.ks:
                outcomes[f"{network} k={k}"] = _compare(title, V, k, size, quick)
                _judge(f"factorize.{network}.k{k}", outcomes[f"{network} k={k}"], report)
            for k in ENCODED:
                encoding.setdefault(k, []).append(_encoding_over_product(title, V, k))
            _from_store(title, store, size.ks)
            if network == "squeezenet1_1":
                growth = _memory_growth(store, size, Path(name))
                report.measured("factorize.memory_growth", growth)
    for k, ratios in encoding.items():
        report.measured(ENCODED[k].name, max(ratios))
    report.skip_rest("takes longer than a small case may, run without --quick")
    plot("factorize-quick" if quick else "factorize", partial(_draw, outcomes))
    return report.finish()


def _extract(network: str, images: Path, weights: Path, size: Size, folder: Path) -> ShardStore:
    """Extract the activations that are factorized."""
    options = {"dataset": str(images), "model": network, "weights": str(weights)}
    if size.n_images is not None:
        options["limit"] = str(size.n_images)
    workspace = prepare(make_config(options), folder / network)
    extract(workspace)
    return workspace.activations


def _read(store: ShardStore) -> Array:
    """Read all positions as one float32 array."""
    parts = [arrays["V"].astype(np.float32) for arrays in store.iterate(["V"])]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def _compare(title: str, V: Array, k: int, size: Size, quick: bool) -> list[Outcome]:
    """Run all contenders, seed by seed in turns, and print what they came to."""
    asked = [each for each in CONTENDERS if each.in_quick or not quick]
    outcomes = [Outcome(each, [], [], []) for each in asked]
    for seed in range(size.n_seeds):
        for outcome in outcomes:
            if seed < outcome.contender.max_seeds:
                _run(outcome, V, k, seed)
    ours = outcomes[0]
    floor = nmf.svd_error(torch.from_numpy(V), k)
    rows = [
        [
            each.contender.name,
            each.time,
            each.time / ours.time,
            f"{each.error:.5f}",
            f"{each.error / ours.error:.5f}",
            f"{max(each.errors) - min(each.errors):.5f}",
            each.cosine(),
        ]
        for each in outcomes
    ]
    rows.append(
        [
            "truncated SVD (floor)",
            None,
            None,
            f"{floor:.5f}",
            f"{floor / ours.error:.5f}",
            "–",
            None,
        ]
    )
    header = ["way", "seconds", "× ours", "error", "× ours", "spread", "cosine of seeds"]
    show(f"{title}, k = {k}, {size.n_seeds} seeds", header, rows)
    return outcomes


def _run(outcome: Outcome, V: Array, k: int, seed: int) -> None:
    kept: list[Factors] = []
    took = seconds(lambda: kept.append(outcome.contender.run(V, k, seed)))
    W, H = kept.pop()
    assert H.shape == (len(V), k), H.shape
    outcome.seconds.append(took)
    outcome.errors.append(true_error(V, W))
    outcome.concepts.append(W)


def _judge(name: str, outcomes: Sequence[Outcome], report: Report) -> None:
    """Compare with scikit-learn's `NMF` from its better start: the one of the smaller error."""
    ours = next(each for each in outcomes if each.contender.name == OURS)
    references = [each for each in outcomes if each.contender.is_reference]
    reference = min(references, key=lambda each: each.error)
    report.measured(f"{name}.speedup", reference.time / ours.time)
    report.measured(f"{name}.error_ratio", ours.error / reference.error)
    explained = (1 - ours.error**2) / (1 - reference.error**2)
    report.measured(f"{name}.explained_ratio", explained)


def _encoding_over_product(title: str, array: Array, k: int) -> float:
    """Time encoding with fixed W beside the one product of V and W it needs.

    Returns
    -------
    float
        Ratio of the times; infinite where the encoding is not converged.
    """
    W = torch.from_numpy(nmf.NMF(n_components=k, random_state=0).fit(array).components_.T.copy())
    V = torch.from_numpy(array)
    product, H = torch.empty(len(V), k), torch.empty(len(V), k)
    works = {
        "product": lambda: torch.mm(V, W, out=product),
        "encode": lambda: nmf.encode(V, W, tol=ENCODE_TOL, out=H),
    }
    alternate(works, 1)
    times = alternate(works, ENCODE_ROUNDS)
    off = deviation(array, W.numpy(), H.numpy())
    found = ratio(times["encode"], times["product"])
    rows = [
        ["one float32 product V W", median(times["product"]), 1.0, None],
        ["pipeline.nmf.encode", median(times["encode"]), found, off],
    ]
    header = ["way", "seconds", "× the product", "deviation from exact H"]
    show(f"{title}, encoding with fixed W, k = {k}", header, rows)
    return found if off <= ENCODE_TOL else math.inf


def _from_store(title: str, store: ShardStore, ks: Sequence[int]) -> None:
    """Print the same work starting from compressed shards on disk."""
    rows = []
    for k in ks:
        timing = factorize(store, k)
        rows.append([k, timing.fit, timing.encode, timing.n_passes, f"{timing.error:.5f}"])
    header = ["k", "seconds to W", "seconds to all of H", "passes", "error"]
    show(f"{title}, pipeline.nmf from the store", header, rows)


def _memory_growth(store: ShardStore, size: Size, folder: Path) -> float:
    """Factorize a small and a large store on disk, each in its process; compare their memory.

    Returns
    -------
    float
        Ratio of the peaks, large to small.
    """
    k = 20
    bare = watch(["-m", "benchmarks.from_store", str(folder), "0", str(k)]).peak
    peaks, rows = [], []
    for times in size.repeats:
        repeated = repeat_shards(store, folder / f"repeated-{times}", times)
        arguments = [str(repeated.folder), str(repeated.n_shards), str(k)]
        watched = watch(["-m", "benchmarks.from_store", *arguments])
        n, passes, fit, encode, _ = map(float, watched.output.split())
        peaks.append(watched.peak)
        rows.append([f"{int(n):,}", int(passes), fit, encode, watched.peak, watched.peak - bare])
    header = ["positions", "passes", "seconds to W", "to all of H", "peak GB", "above imports"]
    show(f"from disk, k = {k}", header, rows)
    return peaks[1] / peaks[0]


def _draw(outcomes: dict[str, list[Outcome]], axes: Axes) -> None:
    """Draw error above our own against seconds: a colour a contender, a mark a case."""
    marks = dict(zip(outcomes, itertools.cycle("osD^vP"), strict=False))
    colours = {each.name: f"C{index}" for index, each in enumerate(CONTENDERS)}
    for case, results in outcomes.items():
        ours = results[0].error
        for each in results:
            name = each.contender.name
            relative = [error / ours for error in each.errors]
            axes.scatter(each.seconds, relative, marker=marks[case], color=colours[name])
    for name, colour in colours.items():
        axes.scatter([], [], color=colour, label=name)
    for case, mark in marks.items():
        axes.scatter([], [], marker=mark, color="grey", label=case)
    axes.set_xscale("log")
    axes.set_xlabel("seconds from V to W and all of H")
    axes.set_ylabel("relative error / that of pipeline.nmf")
    axes.legend(fontsize="small")


if __name__ == "__main__":
    sys.exit(main())
