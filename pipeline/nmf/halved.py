"""Evidence for concepts by the thousand: fits of disjoint halves of the images, and chance.

Notation: V (positions × channels) activations, W (channels × k) concepts, rows in memory.

So many concepts are asked for, not chosen: what is to be known is how many of them come back, and
that takes about as long as the fit itself, with every position having few of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from ..system.denormals import flush_denormals
from ..system.threads import each_alone
from .choose import KChoice
from .data import check
from .decide import Row
from .evaluate import match, svd_error
from .passes import sweep
from .sparse import LAST, SparseFit, fit_sparse_sample, n_last, n_steps
from .splits import Images, Split, halves, shuffle_channels
from .stats import relative_error
from .work import Work

SPLITS = 2  # of the images into halves: the least that says how much matches vary


def judge_sparse(
    V: Tensor,
    image_of_position: Images,
    k: int,
    n_active: int,
    *,
    seed: int = 0,
    progress: Callable[[Work], None] | None = None,
) -> KChoice:
    """Say how stable k concepts are of which a position has few.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32, non-negative: a sample, several positions of many images.
    image_of_position : ndarray or Tensor
        (positions,) int64: which image each position is from.
    k : int
        Number of concepts.
    n_active : int
        Concepts that a position has at most.
    seed : int
        Decides splits and starts.
    progress : callable, optional
        Told of every step of every fit, from the threads that fit: see `Work`.

    Returns
    -------
    KChoice
        Of k; flagged unless fits of halves of the images agree better than those of data whose
        channels were shuffled. `W` has no column: a fit starts by itself. ``bicv_error`` and
        ``seed_stability`` are NaN, ``error`` is that of the halves on themselves.
    """
    flush_denormals()
    check(V, "the sample to judge concepts on")
    found = [halves(image_of_position, seed + r) for r in range(SPLITS)]
    splits = [split for split in found if split is not None]
    told = _Told(2 * len(splits) + 2 * bool(splits), k, progress)
    fits = _fit_halves(V, splits, k, n_active, (seed + 1) * 1_000, told)
    chance = _fit_halves(shuffle_channels(V, seed), splits[:1], k, n_active, seed, told)
    of_all: Row = {"k": k, "svd_error": svd_error(V, k), "chosen": True}
    rows = [
        of_all | {"seed": seed + r} | _judged(V, split, pair, n_active)
        for r, (split, pair) in enumerate(zip(splits, fits, strict=True))
    ]
    control: list[Row] = [
        {"k": k, "seed": seed, "bicv_error": math.nan, "split_stability": _agreement(pair)}
        for pair in chance
    ]
    is_stable = bool(rows) and _stability(rows) > _stability(control)
    halved = [torch.stack([fit.W.cpu() for fit in pair]) for pair in fits]
    return KChoice(
        k=k,
        flagged=not is_stable,
        rows=rows,
        control=control,
        W=V.new_empty(V.shape[1], 0).cpu(),
        halves=torch.stack(halved) if halved else torch.empty(0, 2, V.shape[1], k),
    )


class _Told:
    """Tells how far fits in several threads are, all taken to be as long."""

    def __init__(self, n_fits: int, k: int, progress: Callable[[Work], None] | None) -> None:
        self._lock, self._progress = Lock(), progress
        self._n_fits, self._k, self._done = n_fits, k, 0.0

    def step(self, share: float) -> None:
        with self._lock:
            self._done += share
            if self._progress is not None:
                now = f"{self._k:,} concepts, halves of the images"
                self._progress(Work(min(self._done, self._n_fits), self._n_fits, now))


def n_evidence(k: int) -> int:
    """Give the number of steps with all concepts a position may have, in fits that are compared.

    Half as many as a fit's, at least the least: of 512 concepts 8 in place of 17 took half the
    time, and halves agreed by 0.48 in place of 0.50.
    """
    return max(LAST[0], n_last(k) // 2)


def _fit_halves(
    V: Tensor, splits: Sequence[Split], k: int, n_active: int, seed: int, told: _Told
) -> list[tuple[SparseFit, ...]]:
    """Fit the disjoint halves of the images of each split, each from a start of its own."""
    n_full = n_evidence(k)
    share = 1 / n_steps(n_active, n_full)

    def fitted(job: tuple[int, Tensor]) -> SparseFit:
        at, half = job

        def progress(phase: str, step: int, error: float) -> None:
            told.step(share)

        return fit_sparse_sample(
            V[half], k, n_active, seed=seed + at, n_full=n_full, progress=progress
        )

    jobs = list(enumerate(half for split in splits for half in split))
    fits = each_alone(fitted, jobs)
    return list(zip(fits[::2], fits[1::2], strict=True))


def _judged(V: Tensor, split: Split, pair: Sequence[SparseFit], n_active: int) -> Row:
    """Judge the fits of halves each by the other half."""
    others = zip(pair, split[::-1], strict=True)
    return {
        "error": float(np.mean([fit.history[-1][2] for fit in pair])),
        "heldout_error": float(np.mean([_error(V[at], fit.W, n_active) for fit, at in others])),
        "bicv_error": math.nan,
        "seed_stability": math.nan,
        "split_stability": _agreement(pair),
    }


def _error(V: Tensor, W: Tensor, n_active: int) -> float:
    """Give the relative error of concepts on positions they were not fitted to."""
    return relative_error(W, sweep([V], W, active=n_active))


def _stability(rows: Sequence[Row]) -> float:
    return float(np.median([row["split_stability"] for row in rows]))


def _agreement(pair: Sequence[SparseFit]) -> float:
    return float(match(*(fit.W for fit in pair))[1].median())
