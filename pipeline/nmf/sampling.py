"""Fit a sample of positions in memory, to convergence: several starts, the best of which goes on.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, Frobenius norm.

The objective has many minima: ends of single starts spread by 0.1 to 0.2 % in error, ten times what
further passes over the data could gain. After ten steps on a part of the sample the better starts
are known well enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.nmf.data import check, shape
from pipeline.nmf.denormals import flush_denormals
from pipeline.nmf.descent import Descent, Fit, Penalty, Progress
from pipeline.nmf.initialise import initialise, unit_columns
from pipeline.nmf.passes import ENCODE_TOL, block_stats
from pipeline.nmf.solve import Encoder, strengths

MOMENTUM = 0.5  # of the steps, to start with; it grows while it pays
TRIALS = 3  # starts
TRIAL_STEPS = 10
TRIAL_POSITIONS = 3_000  # of the sample, evenly; more for k above 20, see the next
TRIAL_POSITIONS_EACH = 150  # a concept, so that rare ones are met


@dataclass(frozen=True, eq=False)
class Start:
    """What one fit starts from; see `fit` for the meaning of each."""

    k: int
    seed: int = 0
    init: str = "positions"
    W0: Tensor | None = None
    fixed: Tensor | None = None


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


def fit_samples(
    sample: Tensor,
    starts: Sequence[Start],
    *,
    penalty: Penalty | None = None,
    tol: float = 1e-5,
    max_steps: int = 200,
    progress: Progress | None = None,
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

    Returns
    -------
    list of Fit
        One a start; the same as from `fit_sample`, beyond rounding.
    """
    flush_denormals()
    check(sample, "the sample to factorize")
    penalty = penalty or Penalty()
    wanted = max(TRIAL_POSITIONS, TRIAL_POSITIONS_EACH * max(start.k for start in starts))
    thinned = sample[:: max(1, len(sample) // wanted)].contiguous()
    part = penalty.of_share(len(thinned) / len(sample))
    groups = [_trials(sample, thinned, start, part, tol) for start in starts]
    _run(thinned, [trial for trials in groups if len(trials) > 1 for trial in trials])
    descents = []
    for start, trials in zip(starts, groups, strict=True):
        best = min(trials, key=lambda trial: trial.best_value)
        descents.append(
            Descent(
                best.best,
                tol,
                max_steps,
                "sample",
                MOMENTUM,
                start.fixed,
                penalty,
                revive=lambda W, dead: _revive(sample, W, dead),
                history=best.history,
                reseeded=best.reseeded,
            )
        )
        descents[-1].report_to(progress)
    _run(sample, descents)
    return [descent.fit() for descent in descents]


def _trials(
    sample: Tensor, thinned: Tensor, start: Start, penalty: Penalty, tol: float
) -> list[Descent]:
    """Prepare the starts to try; a single one is not tried at all."""
    if start.W0 is not None:
        concepts = [_given(start.W0, sample, start.k)]
    elif start.init == "nndsvd":  # draws nothing
        concepts = [initialise(sample, start.k, start.init)]
    else:
        seeds = range(start.seed * TRIALS, (start.seed + 1) * TRIALS)
        concepts = [initialise(thinned, start.k, start.init, seed) for seed in seeds]
    if penalty.weighs_W:
        length = float(torch.linalg.vector_norm(sample, dim=1).mean()) ** 0.5
        concepts = [W * length for W in concepts]
    return [
        Descent(
            W,
            tol,
            TRIAL_STEPS,
            "trial",
            MOMENTUM,
            start.fixed,
            penalty,
            revive=lambda W, dead: _revive(thinned, W, dead),
        )
        for W in concepts
    ]


def _run(V: Tensor, descents: Sequence[Descent]) -> None:
    """Step with all descents until they are done."""
    v_sq = float(torch.linalg.vector_norm(V, dim=1).double().square().sum())
    while active := [descent for descent in descents if not descent.done]:
        encoders = [descent.penalty.encoder(descent.point, ENCODE_TOL) for descent in active]
        for descent, stats in zip(active, block_stats(V, encoders), strict=True):
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
