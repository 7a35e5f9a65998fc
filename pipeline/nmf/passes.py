"""One pass over data: H converged for given concepts, and the statistics summed on the way.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..errors import UserError
from ..system.threads import one_thread, side_by_side
from .data import extremes, squares_of_rows, violation
from .pursuit import Pursuit
from .solve import Encoder, Ends, strengths
from .stats import Stats, Sums, rows_at_once

Coder = Encoder | Pursuit

ENCODE_TOL = 1e-2  # of H within a fit; what is reached is 100 times better, and enters squared


def sweep(
    blocks: Iterable[Tensor],
    W: Tensor,
    *,
    tol: float = ENCODE_TOL,
    v_sq: float | None = None,
    signed: bool = False,
    active: int | None = None,
) -> Stats:
    """Make one pass: the statistics of all positions with H converged for W.

    Parameters
    ----------
    blocks : iterable of Tensor
        (rows, channels) float32 or float16 each.
    W : Tensor
        (channels, k) float32, on the device to compute on.
    tol : float
        Bound of the relative error of H.
    v_sq : float, optional
        ‖V‖² where an earlier pass has found it; the data are then not checked again.
    signed : bool
        Whether negative values are taken as they are.
    active : int, optional
        Concepts that a position has at most; without it as many as explain most.

    Returns
    -------
    Stats
        The blocks' statistics added in their order.

    Raises
    ------
    UserError
        If a block holds values that are not finite or, unless `signed`, negative, or is of another
        width than W.
    """
    encoder = Encoder.of(W, tol=tol) if active is None else Pursuit.of(W, active)
    (total,) = sweep_many(blocks, [encoder], v_sq=v_sq, signed=signed)
    return total


def sweep_many(
    blocks: Iterable[Tensor],
    encoders: Sequence[Coder],
    *,
    v_sq: float | None = None,
    totals: Sequence[Stats] | None = None,
    first: int = 0,
    after_block: Callable[[int, list[Stats]], None] | None = None,
    out: Tensor | None = None,
    signed: bool = False,
) -> list[Stats]:
    """Make one pass for several sets of concepts at once; see `sweep`.

    Parameters
    ----------
    blocks : iterable of Tensor
        (rows, channels) float32 or float16 each.
    encoders : sequence of Encoder or Pursuit
        One per set of concepts.
    v_sq : float, optional
        ‖V‖² if known.
    totals : sequence of Stats, optional
        Sums over the blocks before `first`, to go on from.
    first : int
        Number of the first of `blocks`.
    after_block : callable, optional
        Called after each block with its number and the sums so far.
    out : Tensor, optional
        (positions of `blocks`, Σk) float32 to write the strengths to.
    signed : bool
        As for `sweep`.

    Returns
    -------
    list of Stats
        One per encoder.
    """
    sums = list(totals or [Stats.zeros(*encoder.shape) for encoder in encoders])
    start = 0
    for index, V in enumerate(blocks, first):
        rows = None if out is None else out[start : start + len(V)]
        start += len(V)
        stats = block_stats(V, encoders, None if v_sq is not None else index, rows, signed)
        with one_thread():
            sums = [total + each for total, each in zip(sums, stats, strict=True)]
        if after_block is not None:
            after_block(index, sums)
    return sums if v_sq is None else [replace(total, v_sq=v_sq) for total in sums]


def block_stats(
    V: Tensor,
    encoders: Sequence[Coder],
    index: int | None = None,
    out: Tensor | None = None,
    signed: bool = False,
    ends: Sequence[Ends] | None = None,
) -> list[Stats]:
    """Give the statistics of one block for several sets of concepts.

    Parameters
    ----------
    V : Tensor
        (rows, channels) float32 or float16.
    encoders : sequence of Encoder or Pursuit
        One per set of concepts; V is worked on where they are.
    index : int, optional
        Number of the block, for messages. Without it the block is known to be sound: it is not
        checked, and ‖V‖² is left 0.
    out : Tensor, optional
        (rows, Σk) float32 to write the strengths to, set beside set.
    signed : bool
        Whether negative values are sound.
    ends : sequence of Ends, optional
        One per encoder: where to start from, if known, and to keep where H ended.

    Returns
    -------
    list of Stats
        One per encoder.

    Raises
    ------
    UserError
        If the block has an index and holds values that are not finite or, unless `signed`,
        negative, or is of another width than the concepts.
    """
    n_channels, device = encoders[0].shape[0], encoders[0].device
    if V.shape[1] != n_channels:
        raise UserError(
            f"block {index or 0} of the data has {V.shape[1]} channels, the concepts {n_channels}"
        )
    V = V.to(device)

    dense = [each for each in encoders if isinstance(each, Encoder)]
    if len(dense) < len(encoders):
        return _sparse_stats(V, encoders, index, out, signed)

    def of_span(span: slice) -> tuple[list[Stats], float]:
        rows = None if out is None else out[span]
        own = None if ends is None else [each.since(span.start) for each in ends]
        return _span_stats(V[span], dense, index is not None, rows, own)

    at_once = ends[0].rows if ends else rows_at_once(device, n_channels)
    spans, lows = zip(*side_by_side(of_span, V, at_once), strict=True)
    with one_thread():
        stats = [functools.reduce(operator.add, each) for each in zip(*spans, strict=True)]
    for each in ends or ():
        each.known = True
    if index is not None and not (stats[0].v_sq < math.inf and (signed or min(lows) >= 0)):
        raise UserError(f"block {index} of the data: {violation(V)}")
    return stats


def _sparse_stats(
    V: Tensor, coders: Sequence[Coder], index: int | None, out: Tensor | None, signed: bool
) -> list[Stats]:
    """Give the statistics of one block for sets of concepts of which positions have few each."""
    found: list[Stats] = []
    v_sq, start = 0.0, 0
    if index is not None:
        v_sq = float(squares_of_rows(V).sum())
        low = extremes(V)[0] if len(V) and not signed else 0.0
        if not (v_sq < math.inf and low >= 0):
            raise UserError(f"block {index} of the data: {violation(V)}")
    for coder in coders:
        assert isinstance(coder, Pursuit)
        codes, k = coder.codes(V), coder.shape[1]
        found.append(replace(coder.stats(V, codes), v_sq=v_sq))
        if out is not None:
            codes.dense(out[:, start : start + k])
        start += k
    return found


def _span_stats(
    V: Tensor,
    encoders: Sequence[Encoder],
    check: bool,
    out: Tensor | None,
    ends: Sequence[Ends] | None,
) -> tuple[list[Stats], float]:
    """Give the statistics of neighbouring positions and, to `check` them, the least value."""
    sums = Sums(V.shape[1], [len(encoder.fold) for encoder in encoders], V.device)
    low = torch.zeros((), device=V.device)
    start = 0
    for v, h in strengths(encoders, V, ends=ends):
        sums.add(v, h)
        if out is not None:
            out[start : start + len(v)] = h
            start += len(v)
        if check:
            sums.add_norms(v)
            low = torch.minimum(low, v.amin())
    return sums.stats(), float(low)
