"""Compiled loops over positions: the few concepts that explain each, and sums over them.

Notation: v (channels,) the activations of a position, W (channels × k) concepts, unit columns,
G = WᵀW, b = Wᵀv, h ≥ 0 strengths, of which a few are above 0; r = b − G h, what the concepts
still correlate with what is left of v.

Compiling takes three seconds of each process that needs it. Nothing is kept on disk: numba's cache
is pickled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from .rounds import LAST_SWEEPS, LAST_TOL, LEAST, ROUNDS, SWEEPS, TOL

WIDTH = 16  # numbers looked through together; k and room for strengths are multiples of it

Array = NDArray[np.float32]
Indices = NDArray[np.int32]
Loop = TypeVar("Loop", bound=Callable[..., Any])

# Values are finite and sums may be taken in any order: loops become vector instructions.
_FAST = {"nnan", "ninf", "nsz", "arcp", "contract", "reassoc"}
_zero: Any = np.float32(0)


def _compiled(loop: Loop) -> Loop:
    """Compile a loop for the types it is first called with; other threads run meanwhile."""
    compiled: Any = numba.njit(fastmath=_FAST, nogil=True)(loop)
    found: Loop = compiled
    return found


@_compiled
def _take(r: Array, maxima: Array, least: float, found: Indices, start: int, wanted: int) -> int:
    """Append the largest of r, above `least`, to `found`, at most so many; return how many.

    Those taken become −1 in r.
    """
    for block in range(len(maxima)):
        high = _zero
        for i in range(block * WIDTH, (block + 1) * WIDTH):
            high = max(high, r[i])
        maxima[block] = high
    for n in range(wanted):
        high = _zero
        for block in range(len(maxima)):
            high = max(high, maxima[block])
        if high <= least:
            return n
        block = 0
        while block < len(maxima) - 1 and maxima[block] != high:
            block += 1
        at = block * WIDTH
        while at < len(r) - 1 and r[at] != high:
            at += 1
        found[start + n] = at
        r[at] = -1
        high = _zero
        for i in range(block * WIDTH, (block + 1) * WIDTH):
            high = max(high, r[i])
        maxima[block] = high
    return wanted


@_compiled
def _gather(G: Array, found: Indices, begin: int, n: int, S: Array) -> None:
    """Write inner products of the first n found to S (room, room); those before `begin` stand."""
    for a in range(begin, n):
        row = G[found[a]]
        for q in range(n):
            S[a, q] = row[found[q]]
            S[q, a] = S[a, q]


@_compiled
def _take_up(
    G: Array, b: Array, found: Indices, h: Array, r: Array, S: Array, n: int, new: int
) -> int:
    """Begin with the `new` concepts found after the first n; return how many there are now."""
    _gather(G, found, n, n + new, S)
    for a in range(n, n + new):
        h[a] = 0
        r[a] = b[found[a]]
        for q in range(n):
            r[a] -= h[q] * S[a, q]
    return n + new


@_compiled
def _descend(S: Array, r: Array, h: Array, n: int, most: int, tol: float) -> None:
    """Minimise over the first n strengths, one after the other, until all move less than `tol`."""
    for _ in range(most):
        moved = _zero
        for a in range(n):
            step = max(_zero, h[a] + r[a]) - h[a]
            if step != 0:
                h[a] += step
                for q in range(len(r)):
                    r[q] -= step * S[a, q]
                moved = max(moved, abs(step))
        if moved < tol:
            return


@_compiled
def _drop(G: Array, found: Indices, r: Array, h: Array, n: int, S: Array) -> int:
    """Leave out those of the first n whose strength is 0; return how many stay."""
    kept = 0
    for a in range(n):
        if h[a] > 0:
            found[kept], h[kept], r[kept] = found[a], h[a], r[a]
            kept += 1
    if kept < n:
        _gather(G, found, 0, kept, S)
    return kept


@_compiled
def _correlate(G: Array, b: Array, found: Indices, h: Array, n: int, r: Array) -> None:
    """Write b − G h to r (k,), −1 where h is above 0."""
    for i in range(len(r)):
        r[i] = b[i]
    a = 0
    while a + 4 <= n:  # four at a time: r is read and written as often as one of them
        x0, x1, x2, x3 = h[a], h[a + 1], h[a + 2], h[a + 3]
        g0, g1, g2, g3 = G[found[a]], G[found[a + 1]], G[found[a + 2]], G[found[a + 3]]
        for i in range(len(r)):
            r[i] -= x0 * g0[i] + x1 * g1[i] + x2 * g2[i] + x3 * g3[i]
        a += 4
    while a < n:
        x0, g0 = h[a], G[found[a]]
        for i in range(len(r)):
            r[i] -= x0 * g0[i]
        a += 1
    for q in range(n):
        r[found[q]] = -1


@_compiled
def pursue(B: Array, G: Array, n_active: int, concepts: Indices, strengths: Array) -> None:
    """Find for each position the few concepts that explain it.

    An eighth of them at a time: those that correlate most with what is left, all strengths being
    found anew each time. One at a time it is orthogonal matching pursuit, non-negative (Bruckstein,
    Elad and Zibulevsky, IEEE Trans. Information Theory 54, 2008).

    Parameters
    ----------
    B : ndarray
        float32 (positions, k), V W; k a multiple of `WIDTH`.
    G : ndarray
        float32 (k, k), WᵀW, its diagonal 1, or 0 of a concept that is none.
    n_active : int
        Concepts that a position has at most.
    concepts : ndarray
        int32 (positions, n_active) to write to.
    strengths : ndarray
        float32 (positions, n_active) to write to; 0 where a position has fewer.
    """
    room = (n_active + WIDTH - 1) // WIDTH * WIDTH
    k = B.shape[1]
    left, maxima = np.empty(k, np.float32), np.empty(k // WIDTH, np.float32)
    found = np.zeros(room, np.int32)
    h, r = np.zeros(room, np.float32), np.zeros(room, np.float32)
    S = np.zeros((room, room), np.float32)
    at_once = (n_active + ROUNDS - 1) // ROUNDS
    for p in range(len(B)):
        b = B[p]
        n, scale = 0, _zero
        for _ in range(ROUNDS + 2):  # some are left out again
            if n == n_active:
                break
            _correlate(G, b, found, h, n, left)
            new = _take(left, maxima, LEAST * scale, found, n, min(at_once, n_active - n))
            if new == 0:
                break
            if n == 0:
                scale = b[found[0]]
            n = _take_up(G, b, found, h, r, S, n, new)
            _descend(S, r, h, n, SWEEPS, TOL * scale)
            n = _drop(G, found, r, h, n, S)
        _descend(S, r, h, n, LAST_SWEEPS, LAST_TOL * scale)
        for a in range(n_active):
            concepts[p, a] = found[a] if a < n else 0
            strengths[p, a] = h[a] if a < n else _zero


@_compiled
def add_up(
    V: Array, concepts: Indices, strengths: Array, HtV: Array, HHt: Array, h_sum: Array
) -> None:
    """Add the sums of positions to HtV (k, channels), HHt (k, k) and h_sum (k,)."""
    for p in range(len(V)):
        v = V[p]
        for a in range(concepts.shape[1]):
            x = strengths[p, a]
            if x > 0:
                j = concepts[p, a]
                row = HtV[j]
                for i in range(len(v)):
                    row[i] += x * v[i]
                for q in range(concepts.shape[1]):
                    HHt[j, concepts[p, q]] += x * strengths[p, q]
                h_sum[j] += x
