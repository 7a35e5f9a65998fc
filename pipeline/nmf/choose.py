"""Choose the number of concepts by evidence from held-out images, and say how stable concepts are.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ. Every split is by image: positions of one image are alike.

The error on held-out positions with H refitted falls for ever with k, and concepts of two seeds
agree even where there is nothing to find. So k is judged by two things that noise cannot feign:
the bi-cross-validated error (Owen and Perry, Annals of Applied Statistics 3, 2009: held-out images,
H from three quarters of the channels, the error on the last quarter, in turns) and the agreement of
fits on disjoint halves of the images, each against the same for data whose channels were shuffled
independently. Of few images more concepts would each be of a single one, and the error cannot tell:
candidates end where most concepts stand in fewer than `SHARED` images, each counted by its share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from ..system.denormals import flush_denormals
from ..system.threads import each_alone
from .consensus import consensus
from .data import check
from .decide import SHARED, Row, decide, images_of, near_best
from .descent import Fit
from .evaluate import gram, match, svd_errors
from .passes import ENCODE_TOL, block_stats
from .sampling import Start, fit_samples
from .solve import Encoder
from .splits import Images, Split, bi_cv_error, channel_folds, halves, shuffle_channels
from .stats import relative_error
from .work import Tally, Work

TOL = 3e-5  # of the relative error per step: a tenth of the differences between neighbouring k
REPLICATES, TRIALS = 3, 2  # starts of a fit: four take longer and find hardly more
MANY = 32  # concepts: of more, all of which are asked for, one fit starts as good a one as three do
FOLDS = 4  # of the channels; two cut narrow concepts in two, and the error then says where


@dataclass(frozen=True, eq=False)
class KChoice:
    """A number of concepts and the evidence for it.

    Attributes
    ----------
    k : int
        The choice.
    flagged : bool
        No stable k: no candidate within one standard error of the best passed the control, and the
        choice is the least bi-cross-validated error alone.
    rows : list of dict
        One per candidate and replicate: k, seed, error, heldout_error, bicv_error, seed_stability,
        split_stability, svd_error, chosen; NaN where the images were too few to split.
    control : list of dict
        Of the shuffled data, k, seed, bicv_error, split_stability: one per candidate near the best;
        the others cannot be chosen whatever chance does. One split is enough, for what is the same
        at every position differs little between splits.
    W : Tensor
        (channels, k) float32, unit columns: the consensus of the replicates at the chosen k, to
        start a fit from.
    halves : Tensor
        (replicates, 2, channels, k) float32: the concepts of the disjoint halves of the images at
        the chosen k; no replicate where the images could not be split.
    n_beyond : int
        Candidates, the largest ones, that the images are too few for: concepts would not be shared.
    """

    k: int
    flagged: bool
    rows: list[Row]
    control: list[Row]
    W: Tensor
    halves: Tensor
    n_beyond: int = 0

    def stability(self, W: Tensor) -> NDArray[np.float64]:
        """Say for each concept how well it is found again on either half of the images.

        Parameters
        ----------
        W : Tensor
            (channels, k): the concepts asked about.

        Returns
        -------
        ndarray
            (k,) float64 from 0 to 1: cosine between the concept's partners in the fits on the two
            halves, mean over replicates; NaN where the images could not be split.
        """
        if len(self.halves) == 0:
            return np.full(W.shape[1], np.nan)
        found = []
        for pair in self.halves:
            a, b = (half[:, match(W, half)[0]].double() for half in pair)
            found.append(torch.nn.functional.cosine_similarity(a, b, dim=0))
        return torch.stack(found).mean(0).numpy().astype(np.float64)


def choose_k(
    V: Tensor,
    image_of_position: Images,
    ks: Sequence[int],
    *,
    seed: int = 0,
    n_replicates: int | None = None,
    progress: Callable[[Work], None] | None = None,
) -> KChoice:
    """Choose the number of concepts.

    The largest k within one standard error of the least bi-cross-validated error that passes the
    control (see `decide`); if there is none, the least error, flagged.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32, non-negative: a sample, several positions of many images.
    image_of_position : ndarray or Tensor
        (positions,) int64: which image each position is from.
    ks : sequence of int
        Candidates; a single one is chosen whatever its evidence, flagged if it is not stable.
    seed : int
        Decides all splits and starts.
    n_replicates : int
        Fits on all of the sample, and splits into halves, for each candidate: three, or one of a
        single candidate of more than `MANY`, whose evidence would take longer than the fit.
    progress : callable, optional
        Told of every step of every fit, from the threads that fit: see `Work`.

    Returns
    -------
    KChoice
        Deterministic for one thread count.

    Raises
    ------
    UserError
        If there is no candidate, one is below 1, or the data cannot be factorized.
    """
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise UserError(f"K needs numbers of at least 1 to choose from, got {list(ks)}")
    flush_denormals()
    check(V, "the sample to choose K on")
    is_large = len(ks) == 1 and ks[0] > MANY
    n_replicates = n_replicates or (1 if is_large else REPLICATES)
    trials = 1 if is_large else TRIALS
    splits = [halves(image_of_position, seed + r) for r in range(n_replicates)]
    work = Tally(ks, len(splits), sum(each is not None for each in splits), progress)
    floors = svd_errors(gram([V]), ks)
    rows: list[Row] = []
    replicates: dict[int, list[Tensor]] = {}
    pairs: dict[int, list[Tensor]] = {}
    for k, floor in zip(ks, floors, strict=True):
        whole, apart = _fit_all(V, splits, k, seed, trials, work)
        if replicates and images_of(V, whole[0].W, image_of_position) < SHARED:
            work.leave_out([each for each in ks if each > k])
            break
        replicates[k] = [fit.W for fit in sorted(whole, key=lambda fit: fit.error)]
        pairs[k] = [torch.stack([fit.W for fit in pair]) for pair in apart if pair is not None]
        found = _judged(V, splits, apart, k, seed)
        again = _seed_stability([fit.W for fit in whole])
        for row, fit, cosine in zip(found, whole, again, strict=True):
            rows.append(row | {"error": fit.error, "seed_stability": cosine, "svd_error": floor})
    shuffled = shuffle_channels(V, seed)
    control: list[Row] = []
    near = near_best(rows)
    work.add_control(near)
    for k in near:
        chance = _fit_halves(shuffled, splits[:1], k, seed, trials, work)
        control += _judged(shuffled, splits[:1], chance, k, seed)
    k, flagged = decide(rows, control)
    rows = [row | {"chosen": row["k"] == k} for row in rows]
    apart_at_k = torch.stack(pairs[k]) if pairs[k] else torch.empty(0, 2, V.shape[1], k)
    W = consensus(replicates[k], seed)
    return KChoice(k, flagged, rows, control, W, apart_at_k, len(ks) - len(replicates))


def _seed_stability(Ws: Sequence[Tensor]) -> list[float]:
    """Give for each fit the mean over the others of the median matched cosine; NaN if alone."""
    if len(Ws) == 1:
        return [float("nan")]
    return [
        float(np.mean([_median(match(W, other)[1]) for other in Ws if other is not W])) for W in Ws
    ]


Halves = list[tuple[Fit, ...] | None]


def _fit_all(
    V: Tensor, splits: Sequence[Split | None], k: int, seed: int, trials: int, work: Tally
) -> tuple[list[Fit], Halves]:
    """Fit all images, a replicate per split, and the disjoint halves of each split."""
    starts = [Start(k, seed + r, trials=trials) for r in range(len(splits))]
    fits: list[Callable[[], list[Fit]]] = [partial(_fit_counted, V, starts, work)]
    fits += [
        partial(_fit_counted, V[half], [start], work, 0.5)
        for half, start in _halves_of(splits, starts)
    ]
    whole, *apart = each_alone(lambda fit: fit(), fits)
    return whole, _paired(splits, apart)


def _fit_halves(
    V: Tensor, splits: Sequence[Split | None], k: int, seed: int, trials: int, work: Tally
) -> Halves:
    """Fit the disjoint halves of the images, of each split."""
    starts = [Start(k, seed + r, trials=trials) for r in range(len(splits))]
    jobs = _halves_of(splits, starts)
    fits = each_alone(lambda job: _fit_counted(V[job[0]], [job[1]], work, 0.5), jobs)
    return _paired(splits, fits)


def _halves_of(
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


def _fit_counted(V: Tensor, starts: Sequence[Start], work: Tally, share: float = 1.0) -> list[Fit]:
    """Fit, telling of every step; `share` is that of the positions."""
    k = starts[0].k

    def step(phase: str, number: int, error: float) -> None:
        work.tell(f"{k} concepts, {phase} step {number}")

    fits = fit_samples(V, starts, tol=TOL, progress=step)
    work.finish(k * share * len(starts))
    return fits


def _paired(splits: Sequence[Split | None], fits: Sequence[list[Fit]]) -> Halves:
    """Give the fits of the halves, split by split."""
    found = iter([fit for (fit,) in fits])
    return [None if split is None else (next(found), next(found)) for split in splits]


def _judged(
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
    stability = _median(match(*(fit.W for fit in pair))[1])
    return [float(np.mean(heldout)), float(np.mean(bicv)), stability]


def _median(cosines: Tensor) -> float:
    return float(np.median(cosines.numpy()))
