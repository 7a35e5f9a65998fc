"""Fits of disjoint halves of the images, each judged by the other half.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from ..system.threads import each_alone
from .decide import Row
from .descent import Fit
from .evaluate import match
from .passes import ENCODE_TOL, block_stats
from .sampling import Start, fit_samples
from .solve import Encoder
from .splits import Split, bi_cv_error, channel_folds
from .stats import relative_error
from .work import Tally

TOL = 3e-5  # of the relative error per step: a tenth of the differences between neighbouring k
FOLDS = 4  # of the channels; two cut narrow concepts in two, and the error then says where

Halves = list[tuple[Fit, ...] | None]


def fit_halves(
    V: Tensor, splits: Sequence[Split | None], k: int, seed: int, trials: int, work: Tally
) -> Halves:
    """Fit the disjoint halves of the images, of each split."""
    starts = [Start(k, seed + r, trials=trials) for r in range(len(splits))]
    jobs = halves_of(splits, starts)
    fits = each_alone(lambda job: fit_counted(V[job[0]], [job[1]], work, 0.5), jobs)
    return paired(splits, fits)


def halves_of(
    splits: Sequence[Split | None], starts: Sequence[Start]
) -> list[tuple[Tensor, Start]]:
    """Give the halves of each split, each with a start of its own: a common one might agree."""
    pairs = zip(splits, starts, strict=True)
    return [
        (half, replace(start, seed=start.seed + at * len(splits)))
        for split, start in pairs
        if split is not None
        for at, half in enumerate(split)
    ]


def fit_counted(V: Tensor, starts: Sequence[Start], work: Tally, share: float = 1.0) -> list[Fit]:
    """Fit, telling of every step; `share` is that of the positions."""
    k = starts[0].k

    def step(phase: str, number: int, error: float) -> None:
        work.tell(f"{k} concepts, {phase} step {number}")

    fits = fit_samples(V, starts, tol=TOL, progress=step)
    work.finish(k * share * len(starts))
    return fits


def paired(splits: Sequence[Split | None], fits: Sequence[list[Fit]]) -> Halves:
    """Give the fits of the halves, split by split."""
    found = iter([fit for (fit,) in fits])
    return [None if split is None else (next(found), next(found)) for split in splits]


def judged(
    V: Tensor,
    splits: Sequence[Split | None],
    fits: Halves,
    k: int,
    seed: int,
) -> list[Row]:
    """Judge the fits of halves each by the other half: a row per split."""
    rows: list[Row] = []
    for r, (split, pair) in enumerate(zip(splits, fits, strict=True)):
        values = [float("nan")] * 3
        if split is not None and pair is not None:
            values = _judged_pair([V[half] for half in split], pair, seed + r)
        names = ("heldout_error", "bicv_error", "split_stability")
        rows.append({"k": k, "seed": seed + r} | dict(zip(names, values, strict=True)))
    return rows


def _judged_pair(parts: Sequence[Tensor], pair: Sequence[Fit], seed: int) -> list[float]:
    """Give held-out error, bi-cross-validated error and stability of the fits of two halves."""
    folds = channel_folds(parts[0].shape[1], FOLDS, seed)
    heldout, bicv = [], []
    for fit, other in zip(pair, reversed(parts), strict=True):
        W = fit.W.to(other.device)
        (stats,) = block_stats(other, [Encoder.of(W, tol=ENCODE_TOL)], 0)
        heldout.append(relative_error(W, stats))
        bicv.append(bi_cv_error(other, W, folds, fit.stats))
    stability = median(match(*(fit.W for fit in pair))[1])
    return [float(np.mean(heldout)), float(np.mean(bicv)), stability]


def median(cosines: Tensor) -> float:
    return float(np.median(cosines.numpy()))
