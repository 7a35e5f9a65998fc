"""What concepts mean to the network: how much of it they keep, and which labels are chance.

Notation: V (n, h, w, channels) activations, W (channels × k) concepts, D(W H) their reconstruction.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pytorch_grad_cam.feature_factorization.deep_feature_factorization import dff

from benchmarks.cue import CueFound, K, find_cue
from benchmarks.harness import Report, Target, assets, show
from pipeline import nmf
from pipeline.analysis.meaning import Meaning
from pipeline.analysis.samples import RunSamples
from pipeline.classify import Null, score_vectors
from pipeline.config import make_config
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.sample.shortcut import train_shortcut
from pipeline.store import sample_positions

AGREEMENT = Target("concepts.fidelity.k50.agreement_over_svd", "at-least", 0.95)
FALSE_RATE = Target("concepts.null.false_rate", "at-most", 0.07)
TARGETS = (AGREEMENT, FALSE_RATE)

NETWORKS = ("mobilenet_v2", "squeezenet1_1")
DATASETS = ("imagenette224", "imagenet_samples")
KS = (10, 20, 50, 100)
MOST = 200
"""Numbers of concepts beyond `KS` are tried up to this one, to see where agreement reaches 95 %."""

ENOUGH = 0.95
PEER = "pytorch-grad-cam"
N_PEER = 200
"""Images pytorch-grad-cam factorizes: it takes them as one batch, 0.13 s and 12 MB each."""

N_IMAGES = 400
PLANTED = 100
"""Classes whose own weights are put before the null as if they were concepts."""


@dataclass(frozen=True)
class Case:
    """A network on a dataset, at some numbers of concepts, with as many tests of the null."""

    network: str
    dataset: str
    ks: tuple[int, ...]
    n_tests: int
    limit: int | None = None
    with_peer: bool = True


QUICK = (Case(NETWORKS[0], DATASETS[0], (50,), 1_000, limit=800, with_peer=False),)
FULL = tuple(
    Case(network, dataset, (*KS, 150, MOST), 2_000) for network in NETWORKS for dataset in DATASETS
)


def measure(report: Report, *, quick: bool) -> None:
    """Measure the targets of meaning.

    Parameters
    ----------
    report : Report
        Where the outcomes go.
    quick : bool
        Fewer images, one network, one number of concepts.
    """
    with tempfile.TemporaryDirectory() as name:
        for case in QUICK if quick else FULL:
            _measure(report, case, Path(name))


def _measure(report: Report, case: Case, folder: Path) -> None:
    title = f"{case.network}, {case.dataset}"
    workspace = _workspace(case, folder / f"{case.network}-{case.dataset}")
    meaning = Meaning(workspace)
    rows = meaning.fidelity(case.ks, n_images=N_IMAGES, banks=_peers(workspace, case))
    _show_fidelity(title, rows[rows["class_id"].isna()], case.ks)
    _show_orders(title, meaning)
    false_rate = _false_rate(title, workspace, case.n_tests)
    if (case.network, case.dataset) == (NETWORKS[0], DATASETS[0]):
        at_50 = rows[rows["class_id"].isna() & (rows["k"] == 50)].set_index("metric")["value"]
        report.measured(AGREEMENT.name, float(at_50["agreement"] / at_50["agreement_svd"]))
        report.measured(FALSE_RATE.name, false_rate)


def _workspace(case: Case, folder: Path) -> Workspace:
    """Extract activations and fit 50 concepts, as `make discover` does."""
    options = {
        "dataset": str(assets("images", case.dataset)),
        "model": case.network,
        "weights": str(assets("weights", f"{case.network}.safetensors")),
        "k": "50",
    }
    if case.dataset == "imagenette224":
        options["classes"] = str(assets("images", "imagenette224_classes.csv"))
    if case.limit is not None:
        options["limit"] = str(case.limit)
    workspace = prepare(make_config(options), folder)
    extract(workspace)
    factorize(workspace)
    return workspace


def _peers(workspace: Workspace, case: Case) -> dict[str, NDArray[np.float32]]:
    """Let pytorch-grad-cam factorize fit images of the same activations, at every k of `KS`."""
    if not case.with_peer:
        return {}
    evidence = RunSamples(workspace)
    parts = [images.V for images in evidence.read(evidence.image_ids(N_PEER, "fit"))]
    maps = torch.cat(parts).permute(0, 3, 1, 2).contiguous().numpy()
    found = {}
    for k in KS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it stops at 200 iterations and says so
            found[f"{PEER} {k}"] = dff(maps, k)[0].astype(np.float32)
    return found


def _show_fidelity(title: str, rows: pd.DataFrame, ks: Sequence[int]) -> None:
    """Print agreement and KL by k and what stands in, and where agreement is enough."""
    values = rows.set_index(["k", "metric"])["value"]
    table = []
    for k in ks:
        peer = f"{PEER} {k}"
        names = {"concepts": "", "SVD": "_svd", PEER: f"_{peer}", "mean activation": "_mean"}
        row: list[object] = [k]
        for metric in ("agreement", "kl"):
            row += [_value(values, k, metric + ending) for ending in names.values()]
        table.append(row)
    ways = ["concepts", "SVD", PEER, "mean"]
    header = ["k", *(f"{metric}, {way}" for metric in ("agreement", "KL") for way in ways)]
    n = int(rows["n"].max())
    show(f"{title}: the network on a stand-in for V, {n} held-out images", header, table)
    enough = [k for k in ks if float(values[(k, "agreement")]) >= ENOUGH]
    reached = f"from k = {enough[0]}" if enough else f"not by k = {max(ks)}"
    print(f"  agreement of {ENOUGH:.0%}: {reached}", flush=True)


def _value(values: pd.Series, k: int, metric: str) -> float | None:
    return float(values[(k, metric)]) if (k, metric) in values.index else None


def _show_orders(title: str, meaning: Meaning) -> None:
    """Print what the order of contributions gains over random orders, and how ranks agree."""
    areas = meaning.areas()
    rows = [[row.curve, row.gain, row.ci_low, row.ci_high] for row in areas.itertuples()]
    header = ["curve", "area gained over random orders", "low", "high"]
    show(f"{title}, k = 50, {areas['n'][0]} held-out images", header, rows)
    found = meaning.importance()
    print(f"  contribution and Sobol's total index: rank agreement {found.rank_agreement:.3f}")


def _false_rate(title: str, workspace: Workspace, n_tests: int) -> float:
    """Put positions of held-out images before the null of every concept in turn.

    Returns
    -------
    float
        Share of them that pass at 0.05.
    """
    bank, cut = workspace.bank, workspace.cut
    evidence = RunSamples(workspace)
    real = bank.transform.forward(evidence.positions)
    present = nmf.encode(real, torch.from_numpy(bank.W), active=bank.active) >= torch.from_numpy(
        bank.thresholds
    )

    def score(vectors: torch.Tensor) -> torch.Tensor:
        return score_vectors(cut, bank.transform.decode(vectors))

    null = Null.of(score, real, evidence.owners)
    vectors = bank.transform.forward(_heldout_positions(workspace, n_tests))
    concept = torch.arange(len(vectors)) % bank.k
    rate = float((null.test(vectors, present[:, concept]).p <= 0.05).mean())
    context = torch.from_numpy(bank.context.T.copy())
    concepts = null.test(context, present)
    assert cut.linear is not None
    planted = bank.transform.forward(cut.linear[0][:PLANTED].clamp(min=0))
    typical = context.norm(dim=1).median()
    planted = planted / planted.norm(dim=1, keepdim=True) * typical
    passed = null.test(planted)
    rows = [
        ["positions of held-out images, at 0.05", rate, len(vectors)],
        ["planted class vectors, after BH", float(passed.significant.mean()), PLANTED],
        ["concepts, after BH", float(concepts.significant.mean()), bank.k],
    ]
    show(f"{title}: what passes the null of real positions", ["vectors", "share", "n"], rows)
    return rate


def _heldout_positions(workspace: Workspace, n: int) -> torch.Tensor:
    """Draw positions of all held-out images, float32 (≤ n, channels), none of them zero."""
    frame, seed = workspace.listing.frame, workspace.config.seed
    heldout = frozenset(frame.image_id[frame.split == "heldout"].tolist())
    most = max(n, 16 * len(heldout))
    found, _ = sample_positions(workspace.activations, heldout, most, seed)
    found = found[found.norm(dim=1) > 0]
    drawn = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))[:n]
    return found[drawn]


def show_cue() -> None:
    """Print whether a planted cue is found, blamed and can be taken out."""
    with tempfile.TemporaryDirectory() as name:
        weights = train_shortcut(Path(name) / "shortcut.safetensors")
        found = [find_cue(Path(name) / k, weights, k) for k in (K, "auto")]
    values: dict[str, Callable[[CueFound], float]] = {
        "IoU of the concept with the mark": lambda each: each.iou,
        "IoU of the next concept": lambda each: each.next_iou,
        "rank by contribution to the class of the mark": lambda each: each.rank,
        "error rate with it less without, within labels": lambda each: each.error_excess,
        "q of that": lambda each: each.error_q,
        "rank by that": lambda each: each.error_rank,
        "counter-examples taken for the class": lambda each: each.n_counter,
        "right without the concept": lambda each: each.restored,
        "right without another concept, mean": lambda each: each.restored_by_others,
    }
    rows = [[what, *map(value, found)] for what, value in values.items()]
    header = ["planted cue", *(f"concept {each.concept_id} of {each.n_concepts}" for each in found)]
    show("a network misled by a mark", header, rows)
    if not all(each.n_counter for each in found):
        print("  the network did not take the shortcut: nothing to restore", flush=True)
