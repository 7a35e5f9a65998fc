"""Fit a sample of positions in memory, to convergence: several starts, the best of which goes on.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, Frobenius norm.

The objective has many minima: ends of single starts spread by 0.1 % in error, more than further
passes over the data could gain, and miss what is rare. So there are several starts, with a few
concepts more than asked for, which are merged once they have settled (see `merge`). That is done on
few positions; which start ends best shows after three steps on a quarter of the sample (on as few
positions as before it is often another one), where the best goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..system.denormals import flush_denormals
from ..system.threads import all_threads, check_stop, one_thread
from .data import check, shape, squares_of_rows
from .descent import Descent, Fit, Penalty, Progress, tell_all
from .draw import representatives
from .initialise import check_k, initialise, initialise_each, unit_columns
from .merge import merge
from .passes import ENCODE_TOL, block_stats
from .solve import Encoder, Ends, strengths

MOMENTUM = 0.5  # of the steps, to start with; it grows while it pays
PART = 4  # fits converge on so small a part of the sample before they meet all of it
PART_TOL = 3.0  # times the tolerance on all of it: the rest would fit that part alone
TRIALS = 4  # starts
TRIAL_STEPS = 10
CONTEST_STEPS = 3  # on the part, after the merger: enough to tell which start ends best
SPARE = 4  # concepts more to start with; two miss more, many more take the rare ones' place
TRIAL_POSITIONS = 1_200  # drawn by energy; more for k above 20, see the next
TRIAL_POSITIONS_EACH = 60  # per concept


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


def coarse(sample: Tensor) -> Tensor:
    """Give the sample in the precision that is enough to find W on: bfloat16 where it is fast.

    Rounding moves activations by 0.2 % at random, which averages out in HHt and VHt: W of the fit
    explains as much (tested); its error is measured in float32 by the passes.
    """
    if sample.device.type == "cpu" and not torch.cpu._is_avx512_bf16_supported():
        return sample
    with all_threads():
        return sample.to(torch.bfloat16)


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
        One per fit.
    penalty, tol, max_steps, progress
        As for `fit`; `progress` is not told of trials that are given up.
    rough : bool
        Compute in `coarse` precision: errors and statistics are good to a thousandth then.

    Returns
    -------
    list of Fit
        One per start; the same as from `fit_sample`, beyond rounding.
    """
    flush_denormals()  # in all threads, hence before there is but one
    check(sample, "the sample to factorize")
    penalty = penalty or Penalty()
    few = max(TRIAL_POSITIONS, TRIAL_POSITIONS_EACH * max(start.k for start in starts))
    n_part = max(few, len(sample) // PART)
    how: dict[str, Any] = {"max_steps": max_steps, "momentum": MOMENTUM}

    def stage(phase: str, V: Tensor, tol: float = tol) -> _Stage:
        share = penalty.of_share(len(V) / len(sample))
        rows = coarse(V) if rough else V
        v_sq = float((squares if rows is sample else squares_of_rows(rows)).sum())
        return _Stage(V, rows, v_sq, {**how, "phase": phase, "tol": tol, "penalty": share})

    with one_thread():
        squares = squares_of_rows(sample)
        thinned = stage("trial", representatives(sample, few, penalty, squares=squares))
        whole = part = stage("sample", sample)
        if n_part < len(sample):
            drawn = representatives(sample, n_part, penalty, 1, squares)
            part = stage("part", drawn, PART_TOL * tol)
        firsts = [_concepts(sample, thinned.V, start, penalty) for start in starts]
        ends = _best_of_trials(firsts, thinned, part, starts)
        for end in ends:
            if progress is not None:
                for record in end.history:
                    progress(*record)
            end.progress = progress
        part.run(ends)
        if part is not whole:
            ends = [whole.goes_on(end) for end in ends]
            whole.run(ends)
        return [end.fit() for end in ends]


@dataclass(frozen=True, eq=False)
class _Stage:
    """Positions on which descents step: V as it is, `rows` in the precision of the steps and their
    ‖V‖², and what all the descents have in common.
    """

    V: Tensor
    rows: Tensor
    v_sq: float
    how: dict[str, Any]

    def begin(self, W: Tensor, fixed: Tensor | None = None) -> Descent:
        """Give a descent from W."""
        return Descent(W, fixed=fixed, revive=partial(_revive, self.V), **self.how)

    def goes_on(self, end: Descent) -> Descent:
        """Give a descent from where one on other positions ended."""
        descent = self.begin(end.best, end.fixed)
        descent.history, descent.reseeded = end.history, end.reseeded
        descent.progress = end.progress
        return descent

    def run(self, descents: Sequence[Descent], n_steps: int | None = None) -> None:
        """Step with all descents, until they are done or have made so many steps."""
        V = self.rows
        ends = {id(descent): Ends.room(V, descent.point.shape[1]) for descent in descents}
        for _ in itertools.count() if n_steps is None else range(n_steps):
            active = [descent for descent in descents if not descent.done]
            if not active:
                break
            own = [ends[id(descent)] for descent in active]
            encoders = [each.penalty.encoder(each.point, ENCODE_TOL, V.device) for each in active]
            stats = block_stats(V, encoders, ends=own)
            tell_all(active, [replace(each, v_sq=self.v_sq) for each in stats])


def _best_of_trials(
    firsts: Sequence[Sequence[Tensor]], thinned: _Stage, part: _Stage, starts: Sequence[Start]
) -> list[Descent]:
    """Go on a little from each of a fit's first concepts; give the best, a descent on the part."""
    wide = [
        [thinned.begin(W) for W in Ws if W.shape[1] > start.k]
        for Ws, start in zip(firsts, starts, strict=True)
    ]
    thinned.run(list(itertools.chain.from_iterable(wide)), TRIAL_STEPS)
    tried = [
        [part.begin(W, start.fixed) for W in [_merged(each, start.k) for each in trials] or Ws]
        for Ws, trials, start in zip(firsts, wide, starts, strict=True)
    ]
    part.run([one for each in tried if len(each) > 1 for one in each], CONTEST_STEPS)
    return [min(each, key=lambda one: one.best_value) for each in tried]


def _merged(descent: Descent, k: int) -> Tensor:
    found = descent.fit()
    return merge(found.W, found.stats, k)


def _concepts(sample: Tensor, thinned: Tensor, start: Start, penalty: Penalty) -> list[Tensor]:
    """Give first concepts to try: several, with some to spare, or those that nobody draws."""
    if start.W0 is not None:
        concepts = [_given(start.W0, sample, start.k)]
    elif start.init == "nndsvd":
        concepts = [initialise(sample, start.k, start.init)]
    else:
        seeds = range(start.seed * start.trials, (start.seed + 1) * start.trials)
        concepts = initialise_each(thinned, start.k + SPARE, start.init, seeds)
    if penalty.weighs_W:
        length = float(torch.linalg.vector_norm(sample, dim=1).mean()) ** 0.5
        concepts = [W * length for W in concepts]
    return concepts


def _given(W0: Tensor, sample: Tensor, k: int) -> Tensor:
    """Check concepts a user gave."""
    if tuple(W0.shape) != (sample.shape[1], k):
        raise UserError(
            f"the given concepts are {shape(W0)}, the data need channels × k = "
            f"{sample.shape[1]} × {k}"
        )
    check(W0.T.float(), "the given concepts")
    return unit_columns(W0.float())


@all_threads()
def _revive(sample: Tensor, W: Tensor, dead: list[int]) -> Tensor:
    """Restart dead concepts from the worst explained positions, or give W itself if none is left.

    After each one, what it explains is taken from the residual, so that the next differs.
    """
    residual = torch.empty_like(sample)
    concepts = W.to(sample.device)
    start = 0
    for v, h in strengths([Encoder.of(concepts, tol=ENCODE_TOL)], sample):
        torch.addmm(v, h, concepts.T, alpha=-1, out=residual[start : start + len(v)])
        start += len(v)
    residual.clamp_(min=0)
    negligible = 1e-6 * float(torch.linalg.vector_norm(sample, dim=1).max())
    revived = W.clone()
    for j in dead:
        check_stop()
        norms = torch.linalg.vector_norm(residual, dim=1)
        worst = int(norms.argmax())
        if not float(norms[worst]) > negligible:
            return W if j == dead[0] else revived
        direction = residual[worst] / norms[worst]
        revived[:, j] = direction
        residual -= torch.outer(residual @ direction, direction)
        residual.clamp_(min=0)
    return revived
