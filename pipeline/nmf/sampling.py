"""Fit a sample of positions in memory, to convergence: several starts, the best of which goes on.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, Frobenius norm.

The objective has many minima: ends of single starts spread by 0.1 % in error, more than further
passes over the data could gain, and miss what is rare. A start has a few concepts more than asked
for, which are merged once they have settled (see `merge`). After ten more steps on a part of the
sample the better starts are known well enough.

A part of the data is drawn by energy: each position in proportion to its ‖v‖², and scaled so that
all drawn ones have the same. The objective weighs positions so; the part then stands for the whole
as well as two to three times as many positions drawn alike (E‖v‖⁴ / (E‖v‖²)² is 1.7 to 2.9 on
activations of networks).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.nmf.data import check, shape
from pipeline.nmf.denormals import flush_denormals
from pipeline.nmf.descent import Descent, Fit, Penalty, Progress
from pipeline.nmf.initialise import check_k, initialise, unit_columns
from pipeline.nmf.merge import merge
from pipeline.nmf.passes import ENCODE_TOL, block_stats
from pipeline.nmf.solve import Encoder, Ends, strengths
from pipeline.nmf.threads import each_alone

MOMENTUM = 0.5  # of the steps, to start with; it grows while it pays
MIDDLE = 4  # a rough fit converges on so small a part of the sample before it meets all of it
TRIALS = 4  # starts
TRIAL_STEPS = 10
SPARE = 4  # concepts more to start with; two miss more, many more take the rare ones' place
TRIAL_POSITIONS = 1_200  # drawn by energy; more for k above 20, see the next
TRIAL_POSITIONS_EACH = 60  # a concept: enough to tell which start ends best


@dataclass(frozen=True, eq=False)
class Start:
    """What one fit starts from; see `fit` for the meaning of each. Of `trials` drawn starts the
    best goes on.
    """

    k: int
    seed: int = 0
    init: str = "positions"
    W0: Tensor | None = None
    fixed: Tensor | None = None
    trials: int = TRIALS

    def __post_init__(self) -> None:
        check_k(self.k)
        if self.fixed is not None and self.W0 is None:
            raise UserError("concepts are to stay fixed, but none are given: pass W0")


def fit_sample(
    sample: Tensor,
    k: int,
    *,
    seed: int = 0,
    init: str = "positions",
    W0: Tensor | None = None,
    fixed: Tensor | None = None,
    penalty: Penalty | None = None,
    tol: float = 1e-5,
    max_steps: int = 200,
    progress: Progress | None = None,
) -> Fit:
    """Factorize data in memory; parameters as for `fit`.

    Returns
    -------
    Fit
        With the statistics and the error over the sample, `n_passes` 0.
    """
    start = Start(k, seed, init, W0, fixed)
    (found,) = fit_samples(
        sample, [start], penalty=penalty, tol=tol, max_steps=max_steps, progress=progress
    )
    return found


def thin(V: Tensor, n: int, seed: int = 0) -> Tensor:
    """Draw positions by energy, so that few stand for all.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32.
    n : int
        How many to draw.
    seed : int
        Decides which.

    Returns
    -------
    Tensor
        (n, channels): rows of V in their order, all scaled to the quadratic mean of V's lengths; V
        itself where it has not more than n rows or is not finite.
    """
    if len(V) <= n:
        return V
    squares = torch.linalg.vector_norm(V, dim=1).double().square()
    total = float(squares.sum())
    if not total < float("inf"):
        return V
    if total == 0:
        return V[:n]
    drawn = energy_draw(squares, n, seed)
    scaled: Tensor = V[drawn] * (total / len(V) / squares[drawn]).sqrt().to(V.dtype)[:, None]
    return scaled


def representatives(V: Tensor, n: int, penalty: Penalty, seed: int = 0) -> Tensor:
    """Draw positions by energy or, under a penalty that scaled ones would not keep, evenly."""
    return V[:: max(1, len(V) // n)].contiguous() if penalty.l1_H > 0 else thin(V, n, seed)


def energy_draw(squares: Tensor, n: int, seed: int) -> Tensor:
    """Draw n indices in proportion to `squares` (positions,) float64, evenly along their order.

    The points of an even comb on their running sum (systematic sampling): neighbours, which are of
    one image, do not all come or all stay out; an index of more than its share comes repeatedly.
    """
    running = squares.cumsum(0)
    shift = torch.rand(1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    comb = (torch.arange(n, dtype=torch.float64) + shift).to(squares.device) * (running[-1] / n)
    drawn: Tensor = torch.searchsorted(running, comb).clamp_(max=len(squares) - 1)
    return drawn


def coarse(sample: Tensor) -> Tensor:
    """Give the sample in the precision that is enough to find W on: bfloat16 where it is fast.

    Rounding moves activations by 0.2 % at random, which averages out in HHt and VHt: W of the fit
    explains as much (tested); its error is measured in float32 by the passes.
    """
    fast = sample.device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return sample.to(torch.bfloat16) if fast else sample


def fit_samples(
    sample: Tensor,
    starts: Sequence[Start],
    *,
    penalty: Penalty | None = None,
    tol: float = 1e-5,
    max_steps: int = 200,
    progress: Progress | None = None,
    rough: bool = False,
) -> list[Fit]:
    """Make several fits of the same data in memory, all in the same products.

    Parameters
    ----------
    sample : Tensor
        (positions, channels) float32.
    starts : sequence of Start
        One a fit.
    penalty, tol, max_steps, progress
        As for `fit`; `progress` is not told of trials that are given up.
    rough : bool
        Compute in `coarse` precision: errors and statistics are good to a thousandth then.

    Returns
    -------
    list of Fit
        One a start; the same as from `fit_sample`, beyond rounding.
    """
    flush_denormals()
    check(sample, "the sample to factorize")
    penalty = penalty or Penalty()
    wanted = max(TRIAL_POSITIONS, TRIAL_POSITIONS_EACH * max(start.k for start in starts))
    thinned = representatives(sample, wanted, penalty)
    part = penalty.of_share(len(thinned) / len(sample))
    ends = _tried(sample, thinned, starts, part, tol, rough)
    if progress is not None:
        for record in itertools.chain.from_iterable(end.history for end in ends):
            progress(*record)
    stages = {"sample": sample}
    if rough:
        middle = representatives(sample, max(1, len(sample) // MIDDLE), penalty, 1)
        stages = {"part": middle} | stages
    for phase, V in stages.items():
        share = penalty.of_share(len(V) / len(sample))
        ends = [
            Descent(
                end.best,
                tol,
                max_steps,
                phase,
                MOMENTUM,
                start.fixed,
                share,
                revive=partial(_revive, V),
                progress=progress,
                history=end.history,
                reseeded=end.reseeded,
            )
            for end, start in zip(ends, starts, strict=True)
        ]
        _run(coarse(V) if rough else V, ends)
    return [end.fit() for end in ends]


def _tried(
    sample: Tensor,
    thinned: Tensor,
    starts: Sequence[Start],
    penalty: Penalty,
    tol: float,
    rough: bool,
) -> list[Descent]:
    """Try what each fit may start from on few positions, and give the best for each."""

    def descents(concepts: Sequence[Tensor], start: Start) -> list[Descent]:
        revive = partial(_revive, thinned)
        about = tol, TRIAL_STEPS, "trial", MOMENTUM, start.fixed, penalty, revive
        return [Descent(W, *about) for W in concepts]

    V = coarse(thinned) if rough else thinned
    wide = [descents(_concepts(sample, thinned, fit, penalty), fit) for fit in starts]
    pairs = list(zip(starts, wide, strict=True))
    _run(V, [one for fit, each in pairs for one in each if _spare(one, fit)])
    merged = [
        descents([_merged(one, fit.k) if _spare(one, fit) else one.point for one in each], fit)
        for fit, each in pairs
    ]
    _run(V, [one for each in merged if len(each) > 1 for one in each])
    return [min(each, key=lambda one: one.best_value) for each in merged]


def _spare(descent: Descent, start: Start) -> bool:
    return descent.point.shape[1] > start.k


def _merged(descent: Descent, k: int) -> Tensor:
    found = descent.fit()
    return merge(found.W, found.stats, k).to(descent.point.device)


def _concepts(sample: Tensor, thinned: Tensor, start: Start, penalty: Penalty) -> list[Tensor]:
    """Give first concepts to try: several, with some to spare, or those that nobody draws."""
    if start.W0 is not None:
        concepts = [_given(start.W0, sample, start.k)]
    elif start.init == "nndsvd":
        concepts = [initialise(sample, start.k, start.init)]
    else:
        seeds = range(start.seed * start.trials, (start.seed + 1) * start.trials)
        drawn = partial(initialise, thinned, start.k + SPARE, start.init)
        concepts = each_alone(drawn, list(seeds))
    if penalty.weighs_W:
        length = float(torch.linalg.vector_norm(sample, dim=1).mean()) ** 0.5
        concepts = [W * length for W in concepts]
    return concepts


def _run(V: Tensor, descents: Sequence[Descent]) -> None:
    """Step with all descents until they are done."""
    norms = torch.linalg.vector_norm(V, dim=1, dtype=torch.float32)
    v_sq = float(norms.double().square().sum())
    ends = {id(descent): Ends.room(V, descent.point.shape[1]) for descent in descents}
    while active := [descent for descent in descents if not descent.done]:
        encoders = [descent.penalty.encoder(descent.point, ENCODE_TOL) for descent in active]
        own = [ends[id(descent)] for descent in active]
        for descent, stats in zip(active, block_stats(V, encoders, ends=own), strict=True):
            descent.tell(replace(stats, v_sq=v_sq))


def _given(W0: Tensor, sample: Tensor, k: int) -> Tensor:
    """Check concepts a user gave."""
    if tuple(W0.shape) != (sample.shape[1], k):
        raise UserError(
            f"the given concepts are {shape(W0)}, the data need channels × k = "
            f"{sample.shape[1]} × {k}"
        )
    check(W0.T.float(), "the given concepts")
    return unit_columns(W0.float().to(sample.device))


def _revive(sample: Tensor, W: Tensor, dead: list[int]) -> Tensor:
    """Restart dead concepts from the worst explained positions, or give W itself if none is left.

    After each one, what it explains is taken from the residual, so that the next differs.
    """
    residual = torch.empty_like(sample)
    start = 0
    for v, h in strengths([Encoder.of(W, tol=ENCODE_TOL)], sample):
        torch.addmm(v, h, W.T, alpha=-1, out=residual[start : start + len(v)])
        start += len(v)
    residual.clamp_(min=0)
    negligible = 1e-6 * float(torch.linalg.vector_norm(sample, dim=1).max())
    revived = W.clone()
    for j in dead:
        norms = torch.linalg.vector_norm(residual, dim=1)
        worst = int(norms.argmax())
        if not float(norms[worst]) > negligible:
            return W if j == dead[0] else revived
        revived[:, j] = residual[worst] / norms[worst]
        residual -= torch.outer(residual @ revived[:, j], revived[:, j])
        residual.clamp_(min=0)
    return revived
