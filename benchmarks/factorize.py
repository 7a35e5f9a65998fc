"""Benchmark of the factorization: time and error against other packages', encoding, memory.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.

Every contender goes from the same float32 array to W and all of H, on the same threads; errors are
float64 with H converged. All of it takes hours, most of them scikit-learn's; ``--only`` measures a
part: ``--only squeezenet1_1.k50``, ``--only mobilenet_v2``, ``--only memory``.

With ``--device cuda`` those compete that can compute there; the data start and end in the
processor's memory.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks import peers
from benchmarks.comparison import chase, draw, in_turns, judge, tabulate
from benchmarks.contenders import OURS, Array, Case, Contender, Outcome, contenders, deviation
from benchmarks.from_store import factorize, repeat_shards
from benchmarks.harness import (
    Report,
    Target,
    alternate,
    assets,
    introduce,
    plot,
    ratio,
    show,
    watch,
)
from pipeline import nmf
from pipeline.config import make_config
from pipeline.jobs.extract import extract
from pipeline.runs.prepare import prepare
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
SPREAD_K = 20


@dataclass(frozen=True)
class Size:
    """How much is measured; `repeats` are those of the small and the large store on disk."""

    n_images: int | None
    networks: tuple[str, ...]
    ks: tuple[int, ...]
    n_seeds: int
    repeats: tuple[int, int]
    n_spread: int
    """Seeds over which the spread of the ends is looked at."""


QUICK = Size(200, ("squeezenet1_1",), (20,), 1, (1, 10), 0)
FULL = Size(None, NETWORKS, KS, 3, (3, 30), 10)


@dataclass(eq=False)
class Bench:
    """What all parts of the benchmark share; what they find is in `report` and `outcomes`."""

    size: Size
    folder: Path
    report: Report
    asked: list[Contender]
    quick: bool
    outcomes: dict[str, list[Outcome]]
    encoded: dict[int, list[float]]
    device: str = "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a smaller case, within two minutes")
    parser.add_argument("--only", action="append", help="parts whose name begins so; repeatable")
    parser.add_argument("--seeds", type=int, help="seeds to take medians of (default: 3)")
    parser.add_argument("--device", default="cpu", help="what to compute on (default: cpu)")
    given = parser.parse_args(argv)
    introduce(given.quick)
    if given.device != "cpu":
        if not torch.cuda.is_available():
            parser.error(f"--device {given.device}: torch finds no CUDA device here")
        print(f"on {torch.cuda.get_device_name(given.device)}")
        nmf.NMF(2, device=given.device).fit(np.eye(8))  # wakes it: not timed
    size = QUICK if given.quick else FULL
    if given.seeds is not None:
        size = replace(size, n_seeds=given.seeds)
    report = Report(TARGETS)
    try:
        images = assets("images", "imagenette224")
        weights = {name: assets("weights", f"{name}.safetensors") for name in NETWORKS}
    except FileNotFoundError as error:
        report.skip_rest(str(error))
        return report.finish()
    with tempfile.TemporaryDirectory() as name:
        asked = contenders(_peers(), given.device)
        bench = Bench(size, Path(name), report, asked, given.quick, {}, {}, given.device)
        for network in size.networks:
            parts = {
                part: work
                for part, work in _parts(bench, network).items()
                if not given.only or any(part.startswith(each) for each in given.only)
            }
            if parts:
                _measure(bench, network, parts, images, weights[network])
    for k, ratios in bench.encoded.items():
        report.measured(ENCODED[k].name, max(ratios))
    report.skip_rest(
        "not asked for" if given.only else "takes longer than a small case may, run without --quick"
    )
    if bench.outcomes:
        kind = "-quick" if given.quick else "-part" if given.only else ""
        device = "" if given.device == "cpu" else f"-{given.device}"
        plot(f"factorize{device}{kind}", partial(draw, bench.outcomes))
    return report.finish()


Work = Callable[[Case, ShardStore], None]


def _parts(bench: Bench, network: str) -> dict[str, Work]:
    """List what there is to measure on a network, in the order in which it is worth knowing."""
    size = bench.size
    parts: dict[str, Work] = {
        f"{network}.k{k}": partial(_compare, bench, network, k) for k in size.ks
    }
    if bench.device == "cpu":
        parts[f"{network}.encode"] = partial(_encoding, bench)
        parts[f"{network}.store"] = partial(_from_store, size.ks)
        if network == size.networks[0]:
            parts["memory"] = partial(_memory_growth, bench)
        if size.n_spread and network == size.networks[-1]:  # the smaller case: dozens of fits
            parts[f"{network}.spread"] = partial(_spread, bench)
    if not bench.quick:
        parts |= {f"{network}.k{k}.curves": partial(_curves, bench, network, k) for k in size.ks}
    return parts


def _measure(
    bench: Bench, network: str, parts: dict[str, Work], images: Path, weights: Path
) -> None:
    """Extract the activations of a network and carry out the parts."""
    store = _extract(network, images, weights, bench.size, bench.folder)
    V = _read(store)
    case = Case(
        f"{network}, {len(V):,} positions × {V.shape[1]}", V, bench.folder / f"{network}.npy"
    )
    np.save(case.file, V)
    for work in parts.values():
        work(case, store)
    case.file.unlink()


def _peers() -> Path | None:
    """Return the folder of the peers' packages, or say why there is none."""
    try:
        return peers.environment()
    except peers.UnavailableError as error:
        print(f"without torchnmf and Overcomplete: {error}")
        return None


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


def _compare(bench: Bench, network: str, k: int, case: Case, _: ShardStore) -> None:
    """Run all contenders and print what they came to."""
    asked = [each for each in bench.asked if each.in_quick or not bench.quick]
    outcomes = bench.outcomes.setdefault(f"{network} k={k}", [Outcome(each) for each in asked])
    in_turns(outcomes, case, k, bench.size.n_seeds)
    tabulate(f"{case.name}, k = {k}, {bench.size.n_seeds} seeds", case, k, outcomes)
    if bench.device == "cpu":
        judge(f"factorize.{network}.k{k}", outcomes, bench.report, bench.quick)


def _curves(bench: Bench, network: str, k: int, case: Case, _: ShardStore) -> None:
    """Print how errors fall with time."""
    name = f"{network} k={k}"
    if name not in bench.outcomes:
        bench.outcomes[name] = [Outcome(each) for each in bench.asked]
        in_turns(bench.outcomes[name], case, k, 1)
    chase(case, k, bench.outcomes[name])


def _spread(bench: Bench, case: Case, _: ShardStore) -> None:
    """Print how far the ends of many seeds are apart."""
    outcomes = [Outcome(each) for each in bench.asked if each.n_seeds > 1]
    in_turns(outcomes, case, SPREAD_K, bench.size.n_spread)
    title = f"{case.name}, k = {SPREAD_K}, {bench.size.n_spread} seeds"
    tabulate(title, case, SPREAD_K, outcomes)


def _encoding(bench: Bench, case: Case, _: ShardStore) -> None:
    """Time encoding beside the product it needs, for each k that has a target."""
    for k in ENCODED:
        found = _encoding_over_product(case.name, case.V, k)
        bench.encoded.setdefault(k, []).append(found)


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


def _from_store(ks: Sequence[int], case: Case, store: ShardStore) -> None:
    """Print the same work starting from compressed shards on disk."""
    rows = []
    for k in ks:
        timing = factorize(store, k)
        rows.append([k, timing.fit, timing.encode, timing.n_passes, f"{timing.error:.5f}"])
    header = ["k", "seconds to W", "seconds to all of H", "passes", "error"]
    show(f"{case.name}, {OURS} from the store", header, rows)


def _memory_growth(bench: Bench, _: Case, store: ShardStore) -> None:
    """Factorize a small and a large store on disk, each in its process; compare their memory."""
    k = 20
    bare = watch(["-m", "benchmarks.from_store", str(bench.folder), "0", str(k)]).peak
    peaks, rows = [], []
    for times in bench.size.repeats:
        with _repeated(store, bench.folder / f"repeated-{times}", times) as repeated:
            arguments = [str(repeated.folder), str(repeated.n_shards), str(k)]
            watched = watch(["-m", "benchmarks.from_store", *arguments])
        n, passes, fit, encode = map(float, watched.output.split()[:4])
        peaks.append(watched.peak)
        each = encode / n * 1e6
        gigabytes = (watched.peak, watched.peak - bare)
        rows.append([f"{int(n):,}", int(passes), fit, encode, each, *gigabytes])
    header = ["positions", "passes", "seconds to W", "to all of H", "µs per position of that"]
    show(f"from disk, k = {k}", [*header, "peak GB", "above imports"], rows)
    bench.report.measured("factorize.memory_growth", peaks[1] / peaks[0])


@contextmanager
def _repeated(store: ShardStore, folder: Path, times: int) -> Iterator[ShardStore]:
    try:
        yield repeat_shards(store, folder, times)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
