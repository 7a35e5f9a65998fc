"""The streaming statistics: all that W needs to know of the data, summed over positions.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, which DESIGN writes V ≈ W H with positions as columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..system.threads import all_threads

ROWS = 2048  # positions a product runs over at once: they stay in cache for the next one
VALUES = 3 * 2**20  # of V at most, 12 MB: of 2,048 channels, twice as many cost a tenth more


def rows_at_once(device: torch.device, n_channels: int) -> int:
    """Give the number of positions a product runs over: accelerators want larger ones."""
    if device.type != "cpu":
        return 16 * ROWS
    return min(ROWS, 1 << max(8, (VALUES // max(1, n_channels)).bit_length() - 1))


def by_concept(W: Tensor) -> Tensor:
    """Give W (channels, k) as the transpose of what is contiguous: work on it goes by concepts.

    Of 14 concepts WᵀW and the columns' lengths took six tenths of the time so.
    """
    return W.T.contiguous().T


@dataclass(frozen=True, eq=False)
class Stats:
    """Sums over positions of a set of activations and their strengths, float64 on the CPU.

    Attributes
    ----------
    HHt : Tensor
        (k, k): Σ_p h_p h_pᵀ.
    VHt : Tensor
        (channels, k): Σ_p v_p h_pᵀ; `by_concept`.
    h_sum : Tensor
        (k,): Σ_p h_p.
    v_sq : float
        ‖V‖².
    n : int
        Number of positions.
    """

    HHt: Tensor
    VHt: Tensor
    h_sum: Tensor
    v_sq: float
    n: int

    def arrays(self) -> dict[str, Tensor]:
        """Give everything as float64 tensors, to be stored; `of_arrays` is the way back."""
        counts = torch.tensor([self.v_sq, self.n], dtype=torch.float64)
        VHt = self.VHt.contiguous()
        return {"HHt": self.HHt, "VHt": VHt, "h_sum": self.h_sum, "counts": counts}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Tensor]) -> Stats:
        """Give the statistics that `arrays` took apart."""
        v_sq, n = arrays["counts"].tolist()
        VHt = by_concept(arrays["VHt"])
        return cls(arrays["HHt"], VHt, arrays["h_sum"], v_sq, int(n))

    def of(self, concepts: Tensor) -> Stats:
        """Give those of some concepts, int64, in their order."""
        return replace(
            self,
            HHt=self.HHt[concepts][:, concepts],
            VHt=by_concept(self.VHt[:, concepts]),
            h_sum=self.h_sum[concepts],
        )

    @property
    def h_sq(self) -> Tensor:
        """(k,): Σ_p h_p², the diagonal of HHt."""
        return self.HHt.diagonal()

    @classmethod
    def zeros(cls, n_channels: int, k: int) -> Stats:
        """Give the statistics of no position at all."""
        f64 = torch.float64
        return cls(
            torch.zeros(k, k, dtype=f64),
            torch.zeros(k, n_channels, dtype=f64).T,
            torch.zeros(k, dtype=f64),
            0.0,
            0,
        )

    def __add__(self, other: Stats) -> Stats:
        """Give the statistics of both sets of positions together."""
        return Stats(
            self.HHt + other.HHt,
            self.VHt + other.VHt,
            self.h_sum + other.h_sum,
            self.v_sq + other.v_sq,
            self.n + other.n,
        )


def accumulate(V: Tensor, H: Tensor) -> Stats:
    """Sum the statistics of some positions.

    Products are float32 over a few thousand positions, their sums float64, so that the result does
    not depend on how the positions were cut into blocks beyond rounding.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32.
    H : Tensor
        (positions, k) float32.

    Returns
    -------
    Stats
        On the CPU, whatever the device of V.
    """
    sums = Sums(V.shape[1], [H.shape[1]], V.device)
    rows = rows_at_once(V.device, V.shape[1])
    for v, h in zip(torch.split(V, rows), torch.split(H, rows), strict=True):
        sums.add(v, h)
        sums.add_norms(v)
    return sums.stats()[0]


class Sums:
    """Running sums of `Stats`, on the device of the data, for several sets of concepts at once."""

    def __init__(self, n_channels: int, widths: Sequence[int], device: torch.device) -> None:
        f64 = torch.float64
        self._widths = list(widths)
        self._HHt = [torch.zeros(k, k, dtype=f64, device=device) for k in widths]
        self._HtV = torch.zeros(sum(widths), n_channels, dtype=f64, device=device)
        self._h_sum = torch.zeros(sum(widths), dtype=f64, device=device)
        self._v_sq = torch.zeros((), dtype=f64, device=device)
        self._n = 0

    def add(self, v: Tensor, h: Tensor) -> None:
        """Add a few thousand positions, all but their ‖V‖²: v (rows, channels), h (rows, Σk).

        Fastest where h is the transpose of what is contiguous.
        """
        for HHt, part in zip(self._HHt, torch.split(h, self._widths, 1), strict=True):
            HHt += part.T @ part
        with all_threads():
            HtV = h.T.to(v.dtype) @ v
        self._HtV += HtV
        self._h_sum += h.sum(dim=0)
        self._n += len(v)

    def add_norms(self, v: Tensor) -> None:
        """Add the ‖V‖² of some positions: NaN or infinite where a value of them is."""
        self._v_sq += torch.linalg.vector_norm(v, dim=1).double().square().sum()

    def stats(self) -> list[Stats]:
        """Give the sums over the positions added, one per set of concepts."""
        v_sq = float(self._v_sq)
        parts = zip(
            self._HHt,
            torch.split(self._HtV.cpu(), self._widths),
            torch.split(self._h_sum.cpu(), self._widths),
            strict=True,
        )
        return [Stats(HHt.cpu(), HtV.T, h_sum, v_sq, self._n) for HHt, HtV, h_sum in parts]


def relative_error(W: Tensor, stats: Stats, gram: Tensor | None = None) -> float:
    """‖V − H Wᵀ‖ / ‖V‖ from the statistics alone; 0 for data that are all zero.

    Parameters
    ----------
    W : Tensor
        (channels, k).
    stats : Stats
        Of V and of any H, converged for W or not.
    gram : Tensor, optional
        (k, k), WᵀW, where it is known: of thousands of concepts it takes longer than all the rest.

    Returns
    -------
    float
        Between 0 and 1 for H converged for W.
    """
    if stats.v_sq == 0:
        return 0.0
    W = W.detach().cpu().double()
    cross = float((W * stats.VHt).sum())
    gram = W.T @ W if gram is None else gram.cpu()
    square = float((gram * stats.HHt).sum())
    return math.sqrt(max(0.0, (stats.v_sq - 2 * cross + square) / stats.v_sq))


def energies(W: Tensor, stats: Stats) -> Tensor:
    """Share of ‖V‖² that each concept explains: ⟨w_j, VHt_j⟩ / ‖V‖².

    Parameters
    ----------
    W : Tensor
        (channels, k).
    stats : Stats
        Of V and of H converged for W.

    Returns
    -------
    Tensor
        (k,) float64; they sum to 1 − relative_error².
    """
    cross = (W.detach().cpu().double() * stats.VHt).sum(dim=0)
    return cross / stats.v_sq if stats.v_sq > 0 else torch.zeros_like(cross)


def context_vectors(stats: Stats) -> Tensor:
    """Strength-weighted mean of the real activations where each concept stands: VHt_j / Σh_j.

    Parameters
    ----------
    stats : Stats
        Of V and of H converged for W.

    Returns
    -------
    Tensor
        (channels, k) float64; zero for a concept that stands nowhere. It does not depend on the
        gauge.
    """
    present = stats.h_sum > 0
    return torch.where(present, stats.VHt / stats.h_sum.where(present, 1.0), 0.0)


def gauge(W: Tensor, stats: Stats) -> tuple[Tensor, Stats, Tensor]:
    """Rescale each concept so that its self-weighted mean strength Σh²/Σh is 1.

    Parameters
    ----------
    W : Tensor
        (channels, k).
    stats : Stats
        Of V and of H converged for W.

    Returns
    -------
    W : Tensor
        (channels, k) of the dtype given: w_j · scale_j.
    stats : Stats
        Those of H / scale.
    scale : Tensor
        (k,) float64: Σh²/Σh as it was; 1 for a concept that stands nowhere.
    """
    present = stats.h_sum > 0
    scale = torch.where(present, stats.h_sq / stats.h_sum.where(present, 1.0), 1.0)
    rescaled = replace(
        stats,
        HHt=stats.HHt / torch.outer(scale, scale),
        VHt=stats.VHt / scale,
        h_sum=stats.h_sum / scale,
    )
    return (W.double() * scale.to(W.device)).to(W.dtype), rescaled, scale
