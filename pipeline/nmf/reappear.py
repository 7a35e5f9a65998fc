"""How sure a concept is: whether it comes back in another fit, from another start, on other images.

Notation: V (positions × channels) activations, W (channels × k) concepts of n images, all rows in
memory; d = 1 − cosine of a concept and its partner, fits being matched one to one (`match`).

A concept of the fit A is looked for in a fit B on as many other images, which nobody has. What
there is are fits on halves a, b of the images, which share no image and no start. To first order
fits of m images lie about what they estimate with a variance of σ²/m, beside a part c that starts
alone decide. Then, with ρ = m/n,

    d(A, a) = σ²/m (1 − ρ) + 2c     d(a, b) = 2 σ²/m + 2c     d(A, B) = 2ρ σ²/m + 2c,

for a is part of A. So log d(A, B) is expected at a mean of the logarithms of the other two, of a
weight that is right for σ² = 0 and for c = 0 alike: half and half for ρ = ½. (In truth it is the
odds d / (1 − d), which are d where it is small, and have no upper end.) A match of disjoint images
varies about that as those seen do. Of one concept that variance is badly known from so few, so it
is drawn to that of concepts that are as stable (Smyth, Statistical Applications in Genetics and
Molecular Biology 3, 2004); the means are drawn together by what is left of their error (James and
Stein), for what looks surest is so by luck in part; the match to come follows Student's t.

What does not come back alone may do so with others: their span does where even the largest
principal angle to the span of their partners has a small d (Björck and Golub, Mathematics of
Computation 27, 1973).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit
from torch import Tensor

from ..system.threads import each_alone
from .choose import MANY, TRIALS
from .evaluate import match
from .initialise import unit_columns
from .judge import TOL
from .sampling import Start, fit_samples
from .splits import Images, halves

ALIKE = 0.9  # cosine from which on a concept counts as found again
SPLITS = 3  # of the images into halves
N_REPLICATES = 2 * SPLITS
LEVEL = 0.9  # of the interval
MOST_TOGETHER = 3  # concepts whose span is looked for
CANDIDATES = 16  # for it, those most like a concept's partners
ROUNDING, FARTHEST = 1e-6, 1 - 1e-3  # least and largest d that are told apart
RIDGE = 1e-9  # of inner products, for concepts that are equal, or dead
WIDTH = 1.0  # of the odds, an e-fold: concepts so near are as stable
LEAST = 0.01  # of a variance: a tenth of d is no difference

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reappearance:
    """How sure each concept is.

    Attributes
    ----------
    probability : ndarray
        float64 (k,), 0 to 1: that in another fit, of as many other images and from a start of its
        own, the concept's partner has a cosine of at least `ALIKE` with it.
    low, high : ndarray
        float64 (k,), 0 to 1: the cosine with that partner lies between them with a probability of
        `LEVEL`.
    partners : ndarray
        int64 (k, `MOST_TOGETHER` − 1): of a concept that rather does not come back alone, those
        with which it rather does; −1: none.
    """

    probability: Array
    low: Array
    high: Array
    partners: NDArray[np.int64]


def replicates(V: Tensor, image_of_position: Images, k: int, seed: int = 0) -> Tensor:
    """Fit disjoint halves of the images, each from a start of its own.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32, non-negative: a sample, several positions of many images.
    image_of_position : ndarray or Tensor
        (positions,) int64: which image each position is from.
    k : int
        Number of concepts.
    seed : int
        Decides splits and starts.

    Returns
    -------
    Tensor
        (splits, 2, channels, k) float32, unit columns; no split where there is only one image. The
        same for any number of threads.
    """
    splits = [halves(image_of_position, seed + r) for r in range(SPLITS)]
    jobs = [half for split in splits if split is not None for half in split]
    # Starts of `choose_k` are few above its seed; none of these is one of them, or another's.
    trials = TRIALS if k <= MANY else 1  # as W itself was found
    starts = [Start(k, (seed + 1) * 1_000 + at, trials=trials) for at in range(len(jobs))]

    def fitted(job: tuple[Tensor, Start]) -> Tensor:
        half, start = job
        (fit,) = fit_samples(V[half], [start], tol=TOL, rough=True)
        return fit.W

    found = each_alone(fitted, list(zip(jobs, starts, strict=True)))
    return torch.stack(found).unflatten(0, (-1, 2)) if found else V.new_empty(0, 2, V.shape[1], k)


def reappearance(W: Tensor, halved: Tensor, share: float = 0.5) -> Reappearance:
    """Say how sure concepts are, by what fits of halves of their images found.

    Parameters
    ----------
    W : Tensor
        (channels, k): the concepts asked about.
    halved : Tensor
        (splits, 2, channels, k), as `replicates` gives them.
    share : float
        Above 0 and below 1: images of a half, as a share of those that W was fitted to.

    Returns
    -------
    Reappearance
        NaN, and no partners, where there is no split.
    """
    k = W.shape[1]
    partners = np.full((k, MOST_TOGETHER - 1), -1, dtype=np.int64)
    if len(halved) == 0:
        unknown = np.full(k, np.nan)
        return Reappearance(unknown, unknown, unknown, partners)
    fits = _Fits.of(W, halved)
    centre, variance = _expected(*fits.odds(torch.arange(k)[:, None]), share)
    variance = (variance + _of_like_ones(centre, variance)) / 2
    shrunk, error = _shrunk(centre, variance / len(halved))
    ahead = np.sqrt(variance + error)
    freedom = 2 * (len(halved) - 1) or 1  # half of it the concept's own
    probability = stdtr(freedom, (_odds(1 - ALIKE) - shrunk) / ahead)
    reach = stdtrit(freedom, (1 + LEVEL) / 2) * ahead
    for j in np.flatnonzero(centre > _odds(1 - ALIKE)):
        others = _together(fits, int(j), share)
        partners[j, : len(others)] = others
    low, high = (1 - _share(shrunk + side * reach) for side in (1, -1))
    return Reappearance(probability, low, high, partners)


@dataclass(frozen=True, eq=False)
class _Fits:
    """Inner products of concepts and of their partners in the fits of halves, unit vectors all.

    `own` is WᵀW (k, k); of each split and half, `across` (splits, 2, k, k) is that of W with the
    partners and `within` that of the partners; `apart` (splits, k, k) that of partners of the one
    half with those of the other. All float64.
    """

    own: Tensor
    across: Tensor
    within: Tensor
    apart: Tensor

    @classmethod
    def of(cls, W: Tensor, halved: Tensor) -> _Fits:
        """Match every fit with W."""
        w = unit_columns(W.cpu().double())
        P = torch.stack([half[:, match(W, half)[0]] for half in halved.flatten(0, 1)])
        p = torch.stack([unit_columns(each) for each in P.cpu().double()])
        p = p.unflatten(0, halved.shape[:2])
        return cls(w.T @ w, w.T @ p, p.mT @ p, p[:, 0].mT @ p[:, 1])

    def odds(self, sets: Tensor) -> tuple[Array, Array]:
        """Give log d / (1 − d) of the least like directions of spans.

        Parameters
        ----------
        sets : Tensor
            (n, m) int64: concepts that span together.

        Returns
        -------
        ndarray
            (n, splits, 2): of what each set spans and what its partners span in each fit.
        ndarray
            (n, splits): of what the partners span in the two fits of a split.
        """
        rows, columns = sets[:, :, None], sets[:, None, :]
        own = self.own[rows, columns][:, None, None]
        across, within = (
            each[:, :, rows, columns].movedim(2, 0) for each in (self.across, self.within)
        )
        apart = self.apart[:, rows, columns].movedim(1, 0)
        whole = _least_cosine(own, across, within)
        halves_ = _least_cosine(within[:, :, 0], apart, within[:, :, 1])
        return _odds(1 - whole), _odds(1 - halves_)


def _least_cosine(aa: Tensor, ab: Tensor, bb: Tensor) -> Array:
    """Give the cosine of the largest principal angle, from inner products (…, m, m) of two bases.

    With aa = L Lᵀ, the rows of L⁻¹ applied to a basis are orthonormal.
    """
    L, R = (torch.linalg.cholesky(each + RIDGE * torch.eye(each.shape[-1])) for each in (aa, bb))
    half = torch.linalg.solve_triangular(L.expand(ab.shape), ab, upper=False)
    both = torch.linalg.solve_triangular(R.expand(ab.shape), half.mT, upper=False)
    least: Array = torch.linalg.svdvals(both)[..., -1].clamp(0, 1).numpy()
    return least


def _odds(d: Array | float) -> Array:
    d = np.clip(d, ROUNDING, FARTHEST)
    odds: Array = np.log(d / (1 - d))
    return odds


def _share(odds: Array) -> Array:
    d: Array = 1 / (1 + np.exp(-odds))
    return d


def _expected(whole: Array, apart: Array, share: float) -> tuple[Array, Array]:
    """Give mean and variance of the odds of a match to come, from those seen; see `_Fits.odds`.

    The variance is that of matches of disjoint images: of what a concept stands in, one half may
    hold much and the other little, and then it is like the one's as much as it is unlike the
    other's.
    """
    weight = math.log(share) / (math.log1p(-share) - math.log(2))
    centre = weight * whole.mean((1, 2)) + (1 - weight) * apart.mean(1)
    squares = np.square(apart - apart.mean(1, keepdims=True)).sum(1)
    return centre, squares / max(1, apart.shape[1] - 1)


def _of_like_ones(centre: Array, variance: Array) -> Array:
    """Give for each concept the mean variance of those whose odds are like its own.

    The mean of all counts as one more of them: it is what is known of a concept unlike the others.
    """
    near = np.exp(-np.square((centre[:, None] - centre) / WIDTH) / 2)
    found: Array = (near @ variance + variance.mean()) / (near.sum(1) + 1) + LEAST
    return found


def _shrunk(centre: Array, error: Array) -> tuple[Array, Array]:
    """Draw means of a known error to that of all, and give what error is left."""
    among = max(0.0, float(centre.var() - error.mean()))
    kept = among / (among + error)
    return centre.mean() + kept * (centre - centre.mean()), kept * error


def _together(fits: _Fits, j: int, share: float) -> list[int]:
    """Give the one or two concepts with which j spans what comes back, the surest; or none."""
    like = torch.maximum(fits.across[..., j, :], fits.across[..., :, j]).mean((0, 1))
    like[j] = -1
    others = like.argsort(descending=True, stable=True)[: min(CANDIDATES, len(like) - 1)]
    for n_others in range(1, min(MOST_TOGETHER - 1, len(others)) + 1):
        sets = torch.combinations(others, n_others)
        odds = fits.odds(torch.cat([torch.full((len(sets), 1), j), sets], dim=1))
        centre, _ = _expected(*odds, share)
        if centre.min() <= _odds(1 - ALIKE):
            return sorted(sets[int(centre.argmin())].tolist())
    return []
