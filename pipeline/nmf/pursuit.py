"""Few of many concepts explain a position: non-negative pursuit on the Gram matrix.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, at most `n_active` strengths of a position above 0.

One product V W, and then work that grows with the active concepts, not with k². Concepts are taken
up a few at a time, those that correlate most with what is left, and all strengths are found anew
each time: `kernels.pursue` on processors, `batched.pursue` on accelerators. No position depends on
the others.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..system.threads import check_stop, side_by_side
from . import batched
from .data import violation
from .initialise import unit_columns
from .stats import Stats, Sums, rows_at_once

WIDTH = 16  # k is filled up to a multiple of it with concepts that are zero
CACHED = 2**20  # numbers, 4 MB: of V and V W in cache encoding took 1.19 products, of twice 1.85
FORBIDDEN = -1e30  # correlation of a concept that is not to be taken, whatever else is
SUMMED = 8_192  # positions whose sums are float32, at most, before they are added in float64


@dataclass(frozen=True, eq=False)
class Codes:
    """The few strengths of positions.

    Attributes
    ----------
    concepts : Tensor
        int32 (positions, n_active); 0 where the strength is 0.
    strengths : Tensor
        float32 (positions, n_active), non-negative.
    """

    concepts: Tensor
    strengths: Tensor

    def __getitem__(self, part: slice) -> Codes:
        """Give those of some positions."""
        return Codes(self.concepts[part], self.strengths[part])

    def dense(self, out: Tensor) -> Tensor:
        """Write them to H, float32 (positions, k), and return it."""
        # Where a position has fewer, concept 0 gets a strength of 0 more.
        return out.zero_().scatter_add_(1, self.concepts.long(), self.strengths)


@dataclass(frozen=True, eq=False)
class Pursuit:
    """What is computed from W once, to find the few concepts of any position.

    Attributes
    ----------
    unit : Tensor
        float32 (channels, k rounded up to `WIDTH`): W with unit columns, then zeros.
    gram : Tensor
        float32, of as many rows and columns: unitᵀ unit; its diagonal is 1, or 0 of zeros.
    lengths : Tensor
        float32 (k,): those of the columns of W; 1 where they are 0.
    n_active : int
        Concepts that a position has at most.
    """

    unit: Tensor
    gram: Tensor
    lengths: Tensor
    n_active: int

    @classmethod
    def of(cls, W: Tensor, n_active: int, gram: Tensor | None = None) -> Pursuit:
        """Prepare to find concepts W (channels, k), on their device.

        `gram` is WᵀW of unit columns, where it is known.
        """
        k, W = W.shape[1], W.float()
        lengths = torch.linalg.vector_norm(W, dim=0)
        if not math.isfinite(float(lengths.sum())):
            raise UserError("cannot encode: the concepts hold NaN or infinite values")
        room = -k % WIDTH
        unit = torch.nn.functional.pad(unit_columns(W), (0, room)).contiguous()
        filled = unit.T @ unit if gram is None else torch.nn.functional.pad(gram, (0, room) * 2)
        gram = filled.contiguous()
        gram.diagonal().copy_((unit.square().sum(0) > 0).float())
        return cls(unit, gram, lengths.where(lengths > 0, 1.0), min(n_active, k))

    @property
    def shape(self) -> tuple[int, int]:
        """Channels, and k."""
        return self.unit.shape[0], len(self.lengths)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.unit.device

    def to(self, device: torch.device) -> Pursuit:
        """Give the same on a device."""
        if self.device == device:
            return self
        unit, gram, lengths = (each.to(device) for each in (self.unit, self.gram, self.lengths))
        return Pursuit(unit, gram, lengths, self.n_active)

    def codes(self, V: Tensor, allowed: Tensor | None = None) -> Codes:
        """Find the few concepts of V (positions, channels), float32 or float16.

        Or bfloat16, where rounding does not matter: it is multiplied as it is.
        Products run over blocks of one size, the last one filled up with zeros: a position's codes
        are the same bits whatever others it comes with. Where `allowed`, bool (positions, k), is
        given, a position has none but those.
        """
        room = (len(V), self.n_active)
        concepts = torch.zeros(room, dtype=torch.int32, device=V.device)
        codes = Codes(concepts, torch.zeros(room, device=V.device))
        rows = _rows(V.device, V.shape[1] + self.unit.shape[1])
        dtype = V.dtype if V.dtype == torch.bfloat16 else torch.float32
        unit = self.unit.to(dtype)

        def of_span(span: slice) -> None:
            filled = V.new_zeros(rows, V.shape[1], dtype=dtype)
            product = filled.new_empty(rows, unit.shape[1])
            b = product.float()
            for start in range(span.start, span.stop, rows):
                check_stop()
                part = slice(start, min(start + rows, span.stop))
                n = part.stop - start
                v = V[part]
                if n < rows or v.dtype != dtype:
                    filled[:n], filled[n:] = v, 0
                    v = filled
                torch.mm(v, unit, out=product)
                if product is not b:
                    b.copy_(product)
                if not math.isfinite(float(b.sum())):  # compiled loops take that for granted
                    raise UserError(f"cannot encode: {violation(V[part])}")
                if allowed is not None:
                    b[:n, : allowed.shape[1]].masked_fill_(~allowed[part], FORBIDDEN)
                self._pursue(b[:n], codes[part])

        side_by_side(of_span, V, rows)
        codes.strengths.div_(self.lengths[codes.concepts.long()])
        return codes

    def stats(self, V: Tensor, codes: Codes) -> Stats:
        """Sum the statistics of V and its codes, all but ‖V‖², which is left 0."""
        of_part = self._sparse_sums if V.device.type == "cpu" else self._dense_sums

        def of_span(span: slice) -> Stats:
            total = Stats.zeros(*self.shape)
            for start in range(span.start, span.stop, SUMMED):
                check_stop()
                part = slice(start, min(start + SUMMED, span.stop))
                total = total + of_part(V[part].float(), codes[part])
            return total

        found = side_by_side(of_span, V, rows_at_once(V.device, V.shape[1]))
        return functools.reduce(operator.add, found)

    def _pursue(self, b: Tensor, codes: Codes) -> None:
        """Write the codes of positions whose correlations are b; strengths of unit concepts."""
        if b.device.type == "cpu":
            from .kernels import pursue  # numba takes longer to import than all the rest

            concepts, strengths = codes.concepts.numpy(), codes.strengths.numpy()
            pursue(b.numpy(), self.gram.numpy(), self.n_active, concepts, strengths)
        else:
            found, h = batched.pursue(b, self.gram, self.n_active)
            codes.concepts.copy_(found)
            codes.strengths.copy_(h)

    def _sparse_sums(self, V: Tensor, codes: Codes) -> Stats:
        from .kernels import add_up

        channels, k = self.shape
        HtV, HHt = np.zeros((k, channels), np.float32), np.zeros((k, k), np.float32)
        h_sum = np.zeros(k, np.float32)
        concepts, strengths = codes.concepts.numpy(), codes.strengths.numpy()
        add_up(V.contiguous().numpy(), concepts, strengths, HtV, HHt, h_sum)
        HHt_, HtV_, sums = (torch.from_numpy(each).double() for each in (HHt, HtV, h_sum))
        return Stats(HHt_, HtV_.T, sums, 0.0, len(V))

    def _dense_sums(self, V: Tensor, codes: Codes) -> Stats:
        channels, k = self.shape
        sums = Sums(channels, [k], V.device)
        sums.add(V, codes.dense(V.new_empty(len(V), k)))
        return sums.stats()[0]


def _rows(device: torch.device, n_numbers: int) -> int:
    """Give the positions a product runs over: with their correlations they stay in cache."""
    if device.type != "cpu":
        return rows_at_once(device, n_numbers)
    return 1 << max(6, min(11, (CACHED // n_numbers).bit_length() - 1))
