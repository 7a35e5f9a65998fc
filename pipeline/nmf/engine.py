"""Fit concepts: a sample of positions to convergence, then streamed passes over everything.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, Frobenius norm.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..system.denormals import flush_denormals
from ..system.threads import one_thread
from .checkpoint import Checkpoint, Cursor, pack, unpack
from .data import Blocks
from .descent import Descent, Fit, Penalty, Progress, tell_all
from .passes import ENCODE_TOL, Coder, sweep_many
from .pursuit import Pursuit
from .sampling import Start, fit_samples
from .solve import H_TOL
from .sparse import SparseFit, fit_sparse_sample
from .stats import Stats

TOL = 2e-4  # of the relative error per pass: a quarter of how far ends of single starts are apart
SAMPLE_TOL = 3e-5  # per step, and several make up for a pass
SAMPLE = 12_000
SAMPLE_EACH = 800  # per concept


def sample_size(k: int) -> int:
    """Give the number of positions, drawn by energy, on which to find k concepts.

    With 20,000 for 10 or 20 concepts the ends of eight seeds were no better.
    """
    return max(SAMPLE, SAMPLE_EACH * k)


def fit(
    blocks: Blocks,
    sample: Tensor,
    k: int,
    *,
    seed: int = 0,
    init: str = "positions",
    W0: Tensor | None = None,
    fixed: Tensor | None = None,
    penalty: Penalty | None = None,
    tol: float = TOL,
    max_passes: int = 10,
    sample_tol: float = SAMPLE_TOL,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    H: Tensor | None = None,
    v_sq: float | None = None,
    active: int | None = None,
) -> Fit:
    """Factorize data of any size: V ≈ H Wᵀ.

    Parameters
    ----------
    blocks : Blocks
        All positions.
    sample : Tensor
        (positions, channels) float32: a representative sample of them, in memory; its device is
        where everything is computed.
    k : int
        Number of concepts.
    seed : int
        Decides the initialisation, the only thing drawn.
    init : {'positions', 'nndsvd', 'random'}
        See `initialise`.
    W0 : Tensor, optional
        (channels, k): concepts to start from instead.
    fixed : Tensor, optional
        (k,) bool: concepts of W0 that stay as they are.
    penalty : Penalty, optional
        Sparsity of W and H; its l1_W and l2_W weigh against the sum over all positions.
    tol : float
        Passes end once another step of W would change the relative error by less than this share
        of itself.
    max_passes : int
        Passes at most; at least one is made.
    sample_tol : float
        The same for the steps on the sample.
    progress : callable, optional
        Called with (phase, step, relative error) after each step.
    checkpoint : Checkpoint, optional
        A fit that was killed goes on where it last saved, and ends with the same bits.
    H : Tensor, optional
        (positions, k) float32 on the device of the sample, to write the strengths to: what `encode`
        gives for W, without another pass.
    v_sq : float, optional
        ‖V‖² where the data have been looked through: they are not checked again.
    active : int, optional
        Concepts that a position has at most, for concepts by the thousand: see `sparse`. Then
        `init`, `fixed`, `penalty` and `sample_tol` say nothing.

    Returns
    -------
    Fit
        With the statistics and the error over all positions.

    Raises
    ------
    UserError
        If data are not finite, negative, or not of one width, or W0 does not fit them.
    """
    flush_denormals()
    _check_widths(blocks, sample)
    penalty = penalty or Penalty()
    passes = partial(
        Descent,
        tol=tol,
        max_steps=max_passes,
        phase="pass",
        fixed=fixed,
        penalty=penalty,
        apart=active is not None,
        progress=progress,
    )
    saved = None if checkpoint is None else checkpoint.load()
    if saved is None:
        part = penalty.of_share(len(sample) / max(1, blocks.n_positions))
        how: dict[str, Any] = {"penalty": part, "tol": sample_tol, "progress": progress}
        first: Fit | SparseFit
        if active is None:
            (first,) = fit_samples(sample, [Start(k, seed, init, W0, fixed)], rough=True, **how)
        else:
            first = fit_sparse_sample(sample, k, active, seed=seed, W0=W0, progress=progress)
        cursor = Cursor(v_sq=v_sq)
        descent = passes(first.W, history=first.history, reseeded=first.reseeded)
    else:
        descent = passes(torch.zeros(sample.shape[1], k))
        cursor = unpack(saved, descent)

    def save(cursor: Cursor) -> None:
        if checkpoint is not None and checkpoint.due():
            checkpoint.save(pack(descent, cursor))

    coder = _coder(active, H_TOL if H is not None else ENCODE_TOL, sample.device)
    _stream(blocks, [descent], coder, cursor, save, H)
    if H is not None and (saved is not None or descent.best is not descent.told):
        encoder = coder(descent, descent.best)
        sweep_many(blocks, [encoder], v_sq=descent.fit().stats.v_sq, out=H)
    return descent.fit()


def fit_many(
    blocks: Blocks,
    sample: Tensor,
    starts: Sequence[Start],
    *,
    tol: float = TOL,
    max_passes: int = 10,
    sample_tol: float = SAMPLE_TOL,
) -> list[Fit]:
    """Make several fits, of any k and seeds, in the same passes over the data.

    Parameters are those of `fit`; so are the results, beyond rounding.
    """
    flush_denormals()
    _check_widths(blocks, sample)
    firsts = fit_samples(sample, starts, tol=sample_tol, rough=True)
    descents = [
        Descent(
            first.W,
            tol,
            max_passes,
            "pass",
            fixed=start.fixed,
            history=first.history,
            reseeded=first.reseeded,
        )
        for first, start in zip(firsts, starts, strict=True)
    ]
    coder = _coder(None, ENCODE_TOL, sample.device)
    _stream(blocks, descents, coder, Cursor(), lambda _: None)
    return [descent.fit() for descent in descents]


def refine(
    stats_of: Callable[[Tensor], Stats],
    W: Tensor,
    *,
    fixed: Tensor | None = None,
    tol: float = TOL,
    max_passes: int = 10,
    progress: Progress | None = None,
) -> Fit:
    """Bring concepts to convergence by passes over data that only `stats_of` sees.

    Parameters
    ----------
    stats_of : callable
        Gives the statistics of all positions with H converged for the W it is called with:
        `sweep`, or the ordered sum of `block_stats` computed anywhere.
    W : Tensor
        (channels, k) float32 to start from; `stats_of` gets concepts on the device of these.
    fixed, tol, max_passes, progress
        As for `fit`.

    Returns
    -------
    Fit
        Its error is never above that of W.
    """
    flush_denormals()
    descent = Descent(W, tol, max_passes, "pass", fixed=fixed, progress=progress)
    while not descent.done:
        descent.tell(stats_of(descent.point.to(W.device)))
    return descent.fit()


def _coder(
    active: int | None, tol: float, device: torch.device
) -> Callable[[Descent, Tensor], Coder]:
    """Say what finds the strengths of a descent's concepts: all of them, or few a position."""

    def of(descent: Descent, W: Tensor) -> Coder:
        if active is None:
            return descent.penalty.encoder(W, tol, device)
        return Pursuit.of(W.to(device), active)

    return of


def _stream(
    blocks: Blocks,
    descents: Sequence[Descent],
    coder: Callable[[Descent, Tensor], Coder],
    cursor: Cursor,
    save: Callable[[Cursor], None],
    H: Tensor | None = None,
) -> None:
    """Make passes, from `cursor` on, until all descents are done."""
    while active := [descent for descent in descents if not descent.done]:
        at = cursor

        def after_block(index: int, sums: list[Stats], at: Cursor = at) -> None:
            save(Cursor(index + 1, sums, at.v_sq))

        with one_thread():
            encoders = [coder(each, each.point) for each in active]
        stats = sweep_many(
            itertools.islice(blocks, at.block, None),
            encoders,
            v_sq=at.v_sq,
            totals=at.sums,
            first=at.block,
            after_block=after_block,
            out=H if at.block == 0 else None,
        )
        cursor = Cursor(v_sq=stats[0].v_sq)
        tell_all(active, stats)


def _check_widths(blocks: Blocks, sample: Tensor) -> None:
    if blocks.n_channels != sample.shape[-1]:
        raise UserError(
            f"the data have {blocks.n_channels} channels and the sample {sample.shape[-1]}"
        )
