"""Concepts of which a head makes what it makes of the activations: energy is not all it listens to.

Notation: V (images × positions × channels) activations, W (channels × k) concepts, H (images ×
positions × k) strengths; v̄, h̄ means over the P positions of an image; R (classes × channels) a
*readout*: a linear map that gives an image's logits from v̄, C = RᵀR.

W is learned to bring each image's mean activation near, as the readout sees it, beside the
activations themselves:

    Σ_p s_p² ‖v_p − W h_p‖² + μ P ‖C^½ (v̄ − W h̄)‖²,    W, H ≥ 0

in turns: H for fixed W, the exact solution for all positions of an image together, and W for fixed
H by accelerated projected gradients. s_p is ‖v_p‖^−power where concepts of positions so shortened
explain more of images unseen: see `lengths`. Of concepts by the thousand, of which a position has
few, H is found by pursuit: see `together_few`.
H of the learning are forgotten: users get the H of ordinary least squares. An encoder that
sees the mean logits finds the answer whatever the concepts are, even with the channels of W
exchanged at random.

References
----------
Beck, A. & Teboulle, M. (2009). A fast iterative shrinkage-thresholding algorithm.
van Bokhoven, W. (1981). Piecewise-linear modelling and analysis: the modulus iteration of `solve`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .data import squares_of_rows
from .lengths import inverse_lengths
from .pursuit import Pursuit
from .solve import MAX_ITERATIONS, encode
from .stats import accumulate, relative_error

WEIGHT = 8.0
"""μ, of C scaled so that it sees as much of how means differ as they hold of it. Twice as much
costs more energy for the same answers."""

TURNS, STEPS = 8, 30
"""Turns at most, and gradients for W in each."""

TOL = 1e-2
"""Of H within a turn."""

ROUNDS = 4
"""Of pursuit within a turn."""

GIVEN = 0.03
"""Share of the explained energy that may be given for it, at most."""


@dataclass(frozen=True, eq=False)
class Taught:
    """Concepts learned so.

    Attributes
    ----------
    W : Tensor
        float32 (channels, k).
    n_turns : int
        Turns taken.
    given : float
        Share of the explained energy that it costs.
    """

    W: Tensor
    n_turns: int
    given: float


def teach(
    V: Tensor, W: Tensor, readout: Tensor, *, power: float = 0.0, active: int | None = None
) -> Taught:
    """Bring concepts near what a readout reads of the means of images.

    Turns end before more than `GIVEN` of the explained energy is lost.

    Parameters
    ----------
    V : Tensor
        float32 (images, positions, channels), not negative.
    W : Tensor
        float32 (channels, k), the best there are for energy, to start from.
    readout : Tensor
        float32 (classes, channels), of any scale.
    power : float
        Of their length that positions were shortened by, for W.
    active : int, optional
        Concepts that a position has at most; as many as explain most by default.
    """
    C = WEIGHT * _metric(readout, V.mean(1))
    first = _explained(V.flatten(0, 1), W, active)
    taught = Taught(W, 0, 0.0)
    if not (C.any() and first > 0):
        return taught
    for turn in range(1, TURNS + 1):
        H = together(V, W, C) if active is None else together_few(V, W, C, active)
        W = _learn_W(V, H, W, C, power)
        given = 1 - _explained(V.flatten(0, 1), W, active) / first
        if given > GIVEN:
            break
        taught = Taught(W, turn, given)
    return taught


def together(V: Tensor, W: Tensor, C: Tensor, tol: float = TOL) -> Tensor:
    """Give the H ≥ 0 of Σ_p ‖v_p − W h_p‖² + P (v̄ − W h̄)ᵀ C (v̄ − W h̄), of each image.

    The matrix of the problem is that of least squares where strengths differ from their mean, and
    has WᵀCW besides on the mean: two inverses of k × k are enough, see `solve`.

    Parameters
    ----------
    V : Tensor
        float32 (images, positions, channels).
    W : Tensor
        float32 (channels, k).
    C : Tensor
        float32 (channels, channels), symmetric, positive semidefinite.
    tol : float
        Bound of the relative error of H.
    """
    norms = W.norm(dim=0)
    D = torch.where(norms > 0, 1 / norms.clamp_min(1e-12), 0.0)
    unit = W * D
    G = (unit.T @ unit).double() + torch.diag((norms == 0).double())
    S = G + (unit.T @ C @ unit).double()
    low = float(torch.linalg.eigvalsh(G)[0].clamp_min(1e-3))
    high = float(torch.linalg.eigvalsh(S)[-1])
    rho, q = math.sqrt(low * high), 1 - 2 / (1 + math.sqrt(high / low))
    n_iterations = min(MAX_ITERATIONS, math.ceil(math.log(tol / 4) / math.log(max(q, 1e-3))))
    one = torch.eye(len(G), dtype=torch.float64)
    inverse_G, inverse_S = (torch.linalg.inv(rho * one + each) for each in (G, S))
    fold = (2 * rho * inverse_G - one).float()
    on_mean = (2 * rho * (inverse_S - inverse_G)).float()
    B = V @ unit
    mean = B.mean(1)
    seen = mean + V.mean(1) @ (C @ unit)
    constant = (B - mean[:, None]) @ inverse_G.float() + (seen @ inverse_S.float())[:, None]
    Y, flat = constant.clone(), constant.flatten(0, 1)
    for _ in range(n_iterations):
        H = Y.abs()
        Y = torch.addmm(flat, H.flatten(0, 1), fold).view_as(H)
        Y += (H.mean(1) @ on_mean)[:, None]
    solved: Tensor = Y.clamp_min(0) * (2 * D)
    return solved


def together_few(V: Tensor, W: Tensor, C: Tensor, n_active: int, rounds: int = ROUNDS) -> Tensor:
    """Give an H ≥ 0 of the problem of `together` with few concepts a position.

    At its solution each position is explained as if C (v̄ − W h̄), what the readout misses of its
    image, were added to it: pursuit of that finds H, H what is missed, and so on. A step by
    (I + C)⁻¹ is right where W explains everything, and too short where it does not.

    Parameters
    ----------
    V, W, C
        As for `together`.
    n_active : int
        Concepts that a position has at most.
    rounds : int
        Pursuits.
    """
    pursuit = Pursuit.of(W, n_active)
    nearer = torch.linalg.inv(torch.eye(len(C), dtype=torch.float64) + C.double()).float()
    mean, missed = V.mean(1), V.new_zeros(len(V), V.shape[2])
    H = V.new_empty(*V.shape[:2], W.shape[1])
    for _ in range(rounds):
        codes = pursuit.codes((V + missed[:, None]).flatten(0, 1))
        codes.dense(H.view(-1, W.shape[1]))
        missed += ((mean - H.mean(1) @ W.T) @ C - missed) @ nearer
    return H


def _metric(readout: Tensor, means: Tensor) -> Tensor:
    """Return C, scaled by what it sees of the covariance of mean activations."""
    rows = readout.double()
    C = rows.T @ rows
    apart = (means - means.mean(0)).double()
    seen = float((apart @ rows.T).square().sum())
    return (C * (float(apart.square().sum()) / max(seen, 1e-30))).float()


def _learn_W(V: Tensor, H: Tensor, W: Tensor, C: Tensor, power: float) -> Tensor:
    """Return W for fixed H; the mean's part keeps its weight beside shortened rows."""
    n_positions = V.shape[1]
    scale = inverse_lengths(V) ** power if power else V.new_ones(())
    h, v = (H * scale).flatten(0, 1), (V * scale).flatten(0, 1)
    mean_h, mean_v = H.mean(1), V.mean(1)
    share = n_positions * float(h.square().sum() / H.square().sum().clamp_min(1e-30))
    HH, VH = h.T @ h, v.T @ h
    MM, VM = share * mean_h.T @ mean_h, share * mean_v.T @ mean_h
    steepest = [float(torch.linalg.eigvalsh(each)[-1]) for each in (HH, C, MM)]
    step = 1 / max(steepest[0] + steepest[1] * steepest[2], 1e-30)
    X = Y = W
    t = 1.0
    for _ in range(STEPS):
        slope = Y @ HH - VH + C @ (Y @ MM - VM)
        ahead = (Y - step * slope).clamp_min(0)
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        Y = ahead + (t - 1) / t_next * (ahead - X)
        X, t = ahead, t_next
    return X


def _explained(V: Tensor, W: Tensor, active: int | None) -> float:
    """Return the share of ‖V‖², (positions, channels), that W explains."""
    if active is None:
        return 1 - relative_error(W, accumulate(V, encode(V, W, tol=TOL))) ** 2
    pursuit = Pursuit.of(W, active)
    stats = pursuit.stats(V, pursuit.codes(V))
    return 1 - relative_error(W, replace(stats, v_sq=float(squares_of_rows(V).sum()))) ** 2
