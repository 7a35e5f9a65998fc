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

import math
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
from .decide import SHARED, Row, decide, fewest, images_of, near_best, passes
from .descent import Fit
from .evaluate import gram, match, svd_errors
from .judge import Halves, fit_counted, fit_halves, halves_of, judged, median, paired
from .sampling import Start
from .splits import Images, Split, halves, shuffle_channels
from .work import Tally, Work

REPLICATES, TRIALS = 3, 2  # starts of a fit: four take longer and find hardly more
FURTHER_TRIALS = 1  # of larger candidates, and of the shuffled data beside them
MANY = 32  # concepts: of more, all of which are asked for, one fit starts as good a one as three do


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
        split_stability, svd_error, chosen; NaN where the images were too few to split. Of a
        further candidate one: its error is that of halves on themselves, its seed_stability NaN.
    control : list of dict
        Of the shuffled data, k, seed, bicv_error, split_stability: one per candidate near the best;
        the others cannot be chosen whatever chance does. One split is enough, for what is the same
        at every position differs little between splits.
    W : Tensor
        (channels, k) float32, unit columns: the consensus of the replicates at the chosen k, to
        start a fit from; of a further candidate no column, and a fit starts by itself.
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
    further: Sequence[int] = (),
    seed: int = 0,
    n_replicates: int | None = None,
    progress: Callable[[Work], None] | None = None,
) -> KChoice:
    """Choose the number of concepts.

    The largest k within one standard error of the least bi-cross-validated error that passes the
    control (see `decide`); if there is none, the least error, flagged. Where that is the largest
    candidate, `further` ones are tried as long as each has less error than the one before, and the
    fewest concepts are taken that foretell nearly as much as the best (see `fewest`).

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32, non-negative: a sample, several positions of many images.
    image_of_position : ndarray or Tensor
        (positions,) int64: which image each position is from.
    ks : sequence of int
        Candidates; a single one is chosen whatever its evidence, flagged if it is not stable.
    further : sequence of int
        Larger candidates, which are judged by one split alone.
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
    found = _weigh(V, image_of_position, splits, ks, seed, trials, work)
    shuffled = shuffle_channels(V, seed)

    def chance(k: int, trials: int) -> list[Row]:
        work.add_control([k])
        fits = fit_halves(shuffled, splits[:1], k, seed, trials, work)
        return judged(shuffled, splits[:1], fits, k, seed)

    control = [row for k in near_best(found.rows) for row in chance(k, trials)]
    k, flagged = decide(found.rows, control)
    if further and k == ks[-1] and splits[0] is not None:
        same = next(row for row in found.rows if row["k"] == k and row["seed"] == seed)
        more = _go_on(V, image_of_position, splits[0], further, seed, same, work)
        best = fewest([same, *more.rows])
        found = found.and_(more)
        if best > k:
            k, control = best, control + chance(best, FURTHER_TRIALS)
            flagged = not passes(k, found.rows, control)
    pairs = found.pairs[k]
    return KChoice(
        k=k,
        flagged=flagged,
        rows=[row | {"chosen": row["k"] == k} for row in found.rows],
        control=control,
        W=consensus(found.whole[k], seed) if k in found.whole else torch.empty(V.shape[1], 0),
        halves=torch.stack(pairs) if pairs else torch.empty(0, 2, V.shape[1], k),
        n_beyond=found.n_beyond,
    )


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What is known of candidates: rows, and by k the concepts of all images and of halves."""

    rows: list[Row]
    whole: dict[int, list[Tensor]]
    pairs: dict[int, list[Tensor]]
    n_beyond: int

    def and_(self, more: _Evidence) -> _Evidence:
        """Add what is known of larger candidates, up to which these reached."""
        return _Evidence(
            self.rows + more.rows,
            self.whole | more.whole,
            self.pairs | more.pairs,
            self.n_beyond + more.n_beyond,
        )


def _weigh(
    V: Tensor,
    image_of_position: Images,
    splits: Sequence[Split | None],
    ks: Sequence[int],
    seed: int,
    trials: int,
    work: Tally,
) -> _Evidence:
    """Fit candidates to all images and to halves, as far as images share concepts."""
    found = _Evidence([], {}, {}, 0)
    for at, (k, floor) in enumerate(zip(ks, svd_errors(gram([V]), ks), strict=True)):
        whole, apart = _fit_all(V, splits, k, seed, trials, work)
        if at and images_of(V, whole[0].W, image_of_position) < SHARED:
            work.leave_out(ks[at + 1 :])
            return replace(found, n_beyond=len(ks) - at)
        found.whole[k] = [fit.W for fit in sorted(whole, key=lambda fit: fit.error)]
        found.pairs[k] = [torch.stack([fit.W for fit in pair]) for pair in apart if pair]
        rows = judged(V, splits, apart, k, seed)
        again = _seed_stability([fit.W for fit in whole])
        found.rows.extend(
            row | {"error": fit.error, "seed_stability": cosine, "svd_error": floor}
            for row, fit, cosine in zip(rows, whole, again, strict=True)
        )
    return found


def _go_on(
    V: Tensor,
    image_of_position: Images,
    split: Split,
    ks: Sequence[int],
    seed: int,
    before: Row,
    work: Tally,
) -> _Evidence:
    """Fit larger candidates to the halves of one split, as long as each has less error."""
    found, least = _Evidence([], {}, {}, 0), float(before["bicv_error"])
    for at, (k, floor) in enumerate(zip(ks, svd_errors(gram([V]), ks), strict=True)):
        work.add_pair(k)
        (pair,) = fit_halves(V, [split], k, seed, FURTHER_TRIALS, work)
        if pair is None or images_of(V, pair[0].W, image_of_position) < SHARED:
            return replace(found, n_beyond=len(ks) - at)
        (row,) = judged(V, [split], [pair], k, seed)
        error = float(np.mean([fit.error for fit in pair]))
        found.rows.append(row | {"error": error, "seed_stability": math.nan, "svd_error": floor})
        found.pairs[k] = [torch.stack([fit.W for fit in pair])]
        if float(row["bicv_error"]) >= least:
            break
        least = float(row["bicv_error"])
    return found


def _seed_stability(Ws: Sequence[Tensor]) -> list[float]:
    """Give for each fit the mean over the others of the median matched cosine; NaN if alone."""
    if len(Ws) == 1:
        return [float("nan")]
    return [
        float(np.mean([median(match(W, other)[1]) for other in Ws if other is not W])) for W in Ws
    ]


def _fit_all(
    V: Tensor, splits: Sequence[Split | None], k: int, seed: int, trials: int, work: Tally
) -> tuple[list[Fit], Halves]:
    """Fit all images, a replicate per split, and the disjoint halves of each split."""
    starts = [Start(k, seed + r, trials=trials) for r in range(len(splits))]
    fits: list[Callable[[], list[Fit]]] = [partial(fit_counted, V, starts, work)]
    fits += [
        partial(fit_counted, V[half], [start], work, 0.5)
        for half, start in halves_of(splits, starts)
    ]
    whole, *apart = each_alone(lambda fit: fit(), fits)
    return whole, paired(splits, apart)
