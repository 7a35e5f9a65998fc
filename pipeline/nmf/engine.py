"""Fit concepts: a sample of positions to convergence, then streamed passes over everything.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, Frobenius norm.

A step finds H, converged, for the W at hand, sums the statistics, and descends in W for this H
(HALS sweeps on HHt and VHt, so no step can raise the objective). On the sample, steps start
from an extrapolation of W, taken back where it does not pay (Ang and Gillis, Neural Computation
31, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.nmf.data import Blocks, check, shape, violation
from pipeline.nmf.denormals import flush_denormals
from pipeline.nmf.initialise import initialise, unit_columns
from pipeline.nmf.solve import Encoder, hals
from pipeline.nmf.stats import Stats, Sums, relative_error

ENCODE_TOL = 1e-3  # of H within a fit: its error enters the objective squared
W_SWEEPS = 4  # HALS sweeps over W a step; more cost time and gain nothing measurable
REVIVALS = 3  # rounds of reseeding dead concepts; k above the rank of the data has no remedy
DEAD = 1e-10  # share of the strongest concept's Σh² below which a concept is dead

Step = Callable[[str, int, float], None]


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted concepts.

    Attributes
    ----------
    W : Tensor
        (channels, k) float32, unit columns, on the CPU.
    stats : Stats
        Of all positions, with H converged for this W.
    error : float
        Relative error over all positions.
    history : list of (phase, step, error)
        Every step; phase is 'sample' or 'pass'.
    n_passes : int
        Passes over the data.
    dead : Tensor
        (k,) bool: concepts that stand nowhere, W having more than the data can fill.
    reseeded : int
        How often a dead concept was started anew from a badly explained position.
    """

    W: Tensor
    stats: Stats
    error: float
    history: list[tuple[str, int, float]] = field(default_factory=list)
    n_passes: int = 0
    reseeded: int = 0

    @property
    def dead(self) -> Tensor:
        """(k,) bool: which concepts stand nowhere."""
        return is_dead(self.stats)


def fit(
    blocks: Blocks,
    sample: Tensor,
    k: int,
    *,
    seed: int = 0,
    init: str = "positions",
    W0: Tensor | None = None,
    fixed: Tensor | None = None,
    tol: float = 1e-4,
    max_passes: int = 10,
    sample_tol: float = 1e-5,
    sample_steps: int = 200,
    progress: Step | None = None,
) -> Fit:
    """Factorize data of any size: V ≈ H Wᵀ.

    Parameters
    ----------
    blocks : Blocks
        All positions.
    sample : Tensor
        (positions, channels) float32: a representative sample of them, in memory; its device is
        where the sample is worked on.
    k : int
        Number of concepts.
    seed : int
        Decides the initialisation.
    init : {'positions', 'nndsvd', 'random'}
        See `initialise`.
    W0 : Tensor, optional
        (channels, k): concepts to start from instead.
    fixed : Tensor, optional
        (k,) bool: concepts of W0 that keep their direction.
    tol : float
        Passes end once the relative error changes by less than this share of itself.
    max_passes : int
        Passes at most; at least one is made.
    sample_tol, sample_steps : float, int
        The same for the steps on the sample.
    progress : callable, optional
        Called with (phase, step, relative error) after each step.

    Returns
    -------
    Fit
        With the statistics and the error over all positions.

    Raises
    ------
    UserError
        If data are not finite, negative, or not of one width, or W0 does not fit them.
    """
    start = fit_sample(
        sample,
        k,
        seed=seed,
        init=init,
        W0=W0,
        fixed=fixed,
        tol=sample_tol,
        max_steps=sample_steps,
        progress=progress,
    )
    if blocks.n_channels != sample.shape[1]:
        raise UserError(
            f"the data have {blocks.n_channels} channels and the sample {sample.shape[1]}"
        )
    v_sq: float | None = None

    def stats_of(W: Tensor) -> Stats:
        nonlocal v_sq
        stats = sweep(blocks, W, v_sq=v_sq)
        v_sq = stats.v_sq
        return stats

    end = refine(
        stats_of,
        start.W.to(sample.device),
        fixed=fixed,
        tol=tol,
        max_passes=max_passes,
        progress=progress,
    )
    return Fit(
        end.W, end.stats, end.error, start.history + end.history, end.n_passes, start.reseeded
    )


def fit_sample(
    sample: Tensor,
    k: int,
    *,
    seed: int = 0,
    init: str = "positions",
    W0: Tensor | None = None,
    fixed: Tensor | None = None,
    tol: float = 1e-5,
    max_steps: int = 200,
    progress: Step | None = None,
) -> Fit:
    """Factorize data in memory; parameters as for `fit`.

    Returns
    -------
    Fit
        With the statistics and the error over the sample, `n_passes` 0.
    """
    flush_denormals()
    check(sample, "the sample to factorize")
    W = initialise(sample, k, init, seed) if W0 is None else _given(W0, sample, k)
    descent = _Descent(fixed, momentum=0.5, phase="sample", progress=progress)

    norms = torch.linalg.vector_norm(sample, dim=1).double()
    v_sq = float(norms.square().sum())

    def stats_of(W: Tensor) -> Stats:
        return replace(block_stats(sample, Encoder.of(W, tol=ENCODE_TOL)), v_sq=v_sq)

    def revive(W: Tensor, dead: list[int]) -> Tensor:
        return _revive(sample, W, dead)

    return descent.run(stats_of, W, tol, max_steps, revive)


def refine(
    stats_of: Callable[[Tensor], Stats],
    W: Tensor,
    *,
    fixed: Tensor | None = None,
    tol: float = 1e-4,
    max_passes: int = 10,
    progress: Step | None = None,
) -> Fit:
    """Bring concepts to convergence by passes over data that only `stats_of` sees.

    Parameters
    ----------
    stats_of : callable
        Gives the statistics of all positions with H converged for the W it is called with:
        `sweep` here, or the ordered sum of `block_stats` computed anywhere.
    W : Tensor
        (channels, k) float32 to start from.
    fixed, tol, max_passes, progress
        As for `fit`.

    Returns
    -------
    Fit
        Its error is never above that of W.
    """
    flush_denormals()
    descent = _Descent(fixed, momentum=0.0, phase="pass", progress=progress)
    return descent.run(stats_of, unit_columns(W), tol, max_passes, None)


def sweep(
    blocks: Iterable[Tensor], W: Tensor, *, tol: float = ENCODE_TOL, v_sq: float | None = None
) -> Stats:
    """Make one pass: the statistics of all positions with H converged for W.

    Parameters
    ----------
    blocks : iterable of Tensor
        (rows, channels) float32 each.
    W : Tensor
        (channels, k) float32, on the device to compute on.
    tol : float
        Bound of the relative error of H.
    v_sq : float, optional
        ‖V‖² where an earlier pass has found it; the data are then not checked again.

    Returns
    -------
    Stats
        The blocks' statistics added in their order.

    Raises
    ------
    UserError
        If a block holds values that are not finite or negative.
    """
    encoder = Encoder.of(W, tol=tol)
    total = Stats.zeros(*W.shape)
    for index, V in enumerate(blocks):
        if V.shape[1] != W.shape[0]:
            raise UserError(
                f"block {index} of the data has {V.shape[1]} channels, the concepts {W.shape[0]}"
            )
        total = total + block_stats(V.to(W.device), encoder, index if v_sq is None else None)
    return total if v_sq is None else replace(total, v_sq=v_sq)


def block_stats(V: Tensor, encoder: Encoder, index: int | None = None) -> Stats:
    """Give the statistics of one block, with H from `encoder`.

    Parameters
    ----------
    V : Tensor
        (rows, channels) float32, on the device of the encoder.
    encoder : Encoder
        Made from W.
    index : int, optional
        Number of the block, for messages. Without it the block is known to be sound: it is not
        checked, and ‖V‖² is left 0.

    Returns
    -------
    Stats
        Over the rows of this block.

    Raises
    ------
    UserError
        If the block has an index and holds values that are not finite or negative.
    """
    sums = Sums(V.shape[1], len(encoder.fold), V.device)
    lowest = V.new_zeros(())
    for v, h in encoder.run(V):
        sums.add(v, h)
        if index is not None:
            sums.add_norms(v)
            lowest = torch.minimum(lowest, v.amin())
    stats = sums.stats()
    if index is not None and not (stats.v_sq < math.inf and float(lowest) >= 0):
        raise UserError(f"block {index} of the data: {violation(V)}")
    return stats


def is_dead(stats: Stats) -> Tensor:
    """(k,) bool: concepts whose Σh² is nothing beside the strongest one's (W: unit columns)."""
    return stats.h_sq <= DEAD * stats.h_sq.max()


class _Descent:
    """Steps from statistics to better concepts, with the record of how they went."""

    def __init__(
        self, fixed: Tensor | None, *, momentum: float, phase: str, progress: Step | None
    ) -> None:
        self.fixed = fixed
        self.momentum = momentum
        self.phase = phase
        self.progress = progress
        self.history: list[tuple[str, int, float]] = []
        self.reseeded = 0

    def run(
        self,
        stats_of: Callable[[Tensor], Stats],
        W: Tensor,
        tol: float,
        max_steps: int,
        revive: Callable[[Tensor, list[int]], Tensor] | None,
    ) -> Fit:
        """Descend from W; see `fit` and `refine`."""
        best, best_stats, best_error = W, None, float("inf")
        plain = before = point = W
        momentum, revivals = self.momentum, 0
        for step in range(max_steps):
            stats = stats_of(point)
            error = relative_error(point, stats)
            self._record(step, error)
            if error > best_error:
                if point is plain:
                    break  # at the rounding of the objective
                point, momentum = plain, momentum / 1.5
                continue
            gain, best, best_stats, best_error = best_error - error, point, stats, error
            dead = torch.nonzero(is_dead(stats)).flatten().tolist()
            if dead and revive is not None and revivals < REVIVALS:
                revivals += 1
                revived = revive(point, dead)
                if revived is not point:
                    self.reseeded += len(dead)
                    plain = before = point = revived
                    continue
            if gain <= tol * error or step + 1 == max_steps:
                break
            plain, before = self._descend(point, stats), plain
            momentum = min(0.99, momentum * 1.05)
            point = plain
            if self.momentum:
                point = unit_columns((plain + momentum * (plain - before)).clamp_(min=0))
        assert best_stats is not None
        return Fit(
            best.cpu(), best_stats, best_error, self.history, len(self.history), self.reseeded
        )

    def _record(self, step: int, error: float) -> None:
        self.history.append((self.phase, step, error))
        if self.progress is not None:
            self.progress(self.phase, step, error)

    def _descend(self, W: Tensor, stats: Stats) -> Tensor:
        """Give better concepts (unit columns) for the H behind the statistics."""
        free = None if self.fixed is None else torch.nonzero(~self.fixed).flatten().tolist()
        Wt = W.detach().cpu().T.contiguous()
        hals(Wt, stats.HHt.float(), stats.VHt.T.float().contiguous(), W_SWEEPS, free)
        return unit_columns(Wt.T.contiguous()).to(W.device)


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
    for v, h in Encoder.of(W, tol=ENCODE_TOL).run(sample):
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
