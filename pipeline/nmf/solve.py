"""Non-negative least squares: the strengths H of fixed concepts W.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, G = WᵀW, B = V W.

Each position's h ≥ 0 minimises ½ hᵀGh − bᵀh. With h = y + |y| and slack Gh − b = ρ (|y| − y), both
non-negative and never positive together, the optimum is the fixed point of

    y = (ρI + G)⁻¹ b + (ρI + G)⁻¹ (ρI − G) |y|

(modulus iteration: van Bokhoven 1981; Bai, Numer. Linear Algebra Appl. 17, 2010). |·| does not
stretch, and the matrix shrinks by q = (√κ − 1) / (√κ + 1) for ρ = √(λ_min λ_max), κ = λ_max / λ_min
of G. So the error falls by q per iteration whatever the data: the number of iterations follows from
W and the tolerance alone, no position depends on the others of its block, and an iteration is one
k × k product. (ρI + G)⁻¹ b = V W (ρI + G)⁻¹ costs nothing beyond the product V W.

Blocks are computed as columns, (k × rows): products with few columns are slow on CPUs (k = 10 took
four to five times as long as with as few rows, measured on AVX-512 with MKL).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..system.threads import all_threads, check_stop, one_thread, side_by_side
from .data import violation
from .pursuit import Pursuit
from .stats import rows_at_once

AGAIN = 0.1  # by how much iterations from a known end shorten the way to the next
MAX_ITERATIONS = 400  # reach 1e-3 for κ up to 9,000; networks' concepts have κ of 3 to 100
H_TOL = 1e-3  # of H that users see
FEW = 256  # positions per block at least: of so few, each takes 1.2 to 1.5 times as long already


@dataclass(frozen=True, eq=False)
class Encoder:
    """What `encode` computes from W once: V ↦ H is then two products per block and k × k ones.

    Attributes
    ----------
    lift : Tensor
        (channels, k): W D (ρI + G)⁻¹, D making the columns of W unit vectors; the transpose of what
        is contiguous.
    offset : Tensor
        (k,): the part of (ρI + G)⁻¹ b that does not depend on V (an l1 penalty).
    fold : Tensor
        (k, k): (ρI + G)⁻¹ (ρI − G) = 2ρ (ρI + G)⁻¹ − I.
    scale : Tensor
        (k,): 2 D, from y₊ to h; 0 for a concept that is zero.
    n_iterations : int
        How often the fixed point is applied.
    n_again : int
        The same where it starts from the end for slightly other concepts, see `Ends`.
    """

    lift: Tensor
    offset: Tensor
    fold: Tensor
    scale: Tensor
    n_iterations: int
    n_again: int

    @classmethod
    def of(cls, W: Tensor, *, tol: float = H_TOL, l1: float = 0.0, l2: float = 0.0) -> Encoder:
        """Prepare to encode with concepts W, on their device.

        Parameters
        ----------
        W : Tensor
            (channels, k) float32, non-negative or signed.
        tol : float
            Bound of the relative error of H, ‖H − H*‖ / ‖H*‖.
        l1, l2 : float
            Penalties l1 Σh + ½ l2 Σh² added to ½ ‖V − H Wᵀ‖².
        """
        # On the CPU: of so few concepts, an accelerator would have each operation waited for. Small
        # operations are numpy's, which take less than torch's; products and eigenvectors are not,
        # for numpy's BLAS has threads of its own that wait on cores others want.
        concepts = W.detach().cpu()
        wide = concepts.double()
        gram = (wide.T @ wide).numpy()
        norms = np.sqrt(gram.diagonal())
        if not math.isfinite(norms.sum()):
            raise UserError("cannot encode: the concepts hold NaN or infinite values")
        present = norms > 0
        D = np.divide(1.0, norms, out=np.zeros_like(norms), where=present)
        # A concept that is zero gets the row of the identity: its strength solves h = 0.
        G = gram * np.outer(D, D) + np.diag(np.where(present, l2 * D * D, 1.0))
        eigenvalues, U = torch.linalg.eigh(torch.from_numpy(G))
        ridge, rho, n_iterations = _rate(eigenvalues, tol)
        inverse = ((U / (eigenvalues + (ridge + rho))) @ U.T).numpy()
        offset, lift, fold, scale = (
            torch.from_numpy(each.astype(np.float32))
            for each in (-l1 * D @ inverse, inverse * D, 2 * rho * inverse - np.eye(len(D)), 2 * D)
        )
        return cls(
            lift=(lift @ concepts.T).T,
            offset=offset,
            fold=fold,
            scale=scale,
            n_iterations=n_iterations,
            n_again=math.ceil(n_iterations * math.log(AGAIN) / math.log(tol / 4)),
        ).to(W.device)

    @property
    def shape(self) -> tuple[int, int]:
        """Channels, and k."""
        return self.lift.shape[0], self.lift.shape[1]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.lift.device

    def to(self, device: torch.device) -> Encoder:
        """Give the same on a device."""
        if self.lift.device == device:
            return self
        parts = (self.lift, self.offset, self.fold, self.scale)
        # In one go: each copy would wait for the device.
        flat = torch.cat([part.flatten() for part in parts]).to(device)
        there = torch.split(flat, [part.numel() for part in parts])
        lift, offset, fold, scale = (a.view(b.shape) for a, b in zip(there, parts, strict=True))
        return replace(self, lift=lift, offset=offset, fold=fold, scale=scale)

    def solve(self, constant: Tensor, Y: Tensor, H: Tensor, *, again: bool = False) -> Tensor:
        """Apply the fixed point to (k, rows) `constant`; Y and H are memory, H holds the result.

        Y holds y at the end, and, to start `again` from there, at the beginning.
        """
        if not again:
            Y.copy_(constant)
        for _ in range(self.n_again if again else self.n_iterations):
            torch.abs(Y, out=H)
            torch.addmm(constant, self.fold.T, H, out=Y)
        torch.clamp(Y, min=0, out=H)
        return H.mul_(self.scale[:, None])


@dataclass(eq=False)
class Ends:
    """Where the fixed points of positions ended for some concepts; those for the next are near.

    Steps of a fit move concepts less and less: the way left shrinks with them, and a few iterations
    per step are as good as many from nothing.

    Attributes
    ----------
    Y : Tensor
        (blocks, k, rows) float32: of blocks of few enough positions to give every thread some; of
        few positions one block, the products of which every thread takes part in.
    known : bool
        Whether they are there yet.
    """

    Y: Tensor
    known: bool = False

    @property
    def rows(self) -> int:
        """Positions per block."""
        return self.Y.shape[2]

    @classmethod
    def room(cls, V: Tensor, k: int) -> Ends:
        """Make room for the ends of the positions of V (positions, channels)."""
        rows = rows_at_once(V.device, V.shape[1])
        if len(V) <= 2 * rows:  # threads of our own gain nothing on so few
            rows = len(V)
        elif V.device.type == "cpu":  # as many blocks for each thread
            with one_thread() as n_threads:
                n_blocks = n_threads * math.ceil(len(V) / (n_threads * rows))
            rows = max(FEW, math.ceil(len(V) / n_blocks))
        return cls(torch.empty(-(-len(V) // rows), k, rows, device=V.device))

    def since(self, start: int) -> Ends:
        """Give those of the positions from `start` on, which begins a block."""
        return Ends(self.Y[start // self.rows :], self.known)


def strengths(
    encoders: Sequence[Encoder],
    V: Tensor,
    block: int | None = None,
    ends: Sequence[Ends] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through V block by block, for several sets of concepts at once.

    Parameters
    ----------
    encoders : sequence of Encoder
        One per set of concepts; V meets them in one product.
    V : Tensor
        (positions, channels) float32, on the device of the encoders; float16, raised to float32
        block by block; or bfloat16 where rounding does not matter, multiplied as it is.
    block : int, optional
        Positions computed at once, by default as many as for the `ends`, or `rows_at_once`; the
        last ones are padded to as many with zeros.
    ends : sequence of Ends, optional
        One per encoder, of the same positions: to start from where they are known, and to keep.

    Yields
    ------
    v : Tensor
        (rows, channels): the next rows of V, float32 or bfloat16.
    h : Tensor
        (rows, Σk): their strengths, set beside set; the transpose of what is contiguous. Both in
        memory that the next block overwrites.
    """
    block = block or (ends[0].rows if ends else rows_at_once(V.device, V.shape[1]))
    dtype = torch.float32 if V.dtype == torch.float16 else V.dtype
    lift = torch.cat([encoder.lift.T for encoder in encoders]).to(dtype)
    offset = torch.cat([encoder.offset for encoder in encoders])[:, None]
    widths = [len(encoder.fold) for encoder in encoders]
    constant, H, room = (offset.new_empty(len(offset), block) for _ in range(3))
    constants, results, own = (torch.split(each, widths) for each in (constant, H, room))
    raised = offset.new_empty(block, V.shape[1], dtype=dtype)  # new memory per block costs as much
    for index, part in enumerate(torch.split(V, block)):
        check_stop()
        whole = v = part
        if dtype != V.dtype or len(v) < block:
            whole, v = raised, raised[: len(part)]
            v.copy_(part)
            raised[len(part) :] = 0
        with all_threads():
            if dtype == offset.dtype:
                torch.addmm(offset, lift, whole.T, out=constant)
            else:
                torch.add(lift @ whole.T, offset, out=constant)
        for i, encoder in enumerate(encoders):
            again = ends is not None and ends[i].known
            Y = own[i] if ends is None else ends[i].Y[index]
            encoder.solve(constants[i], Y, results[i], again=again)
        yield v, H[:, : len(v)].T


def encode(
    V: Tensor,
    W: Tensor,
    *,
    tol: float = H_TOL,
    block: int | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    out: Tensor | None = None,
    active: int | None = None,
) -> Tensor:
    """Find how strongly fixed concepts are present: the H ≥ 0 that minimises ‖V − H Wᵀ‖.

    Positions go through in blocks of one size, the last one zero-padded, so that a position's
    strengths are the same bits whatever other positions it comes with.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32 or float16; may be negative.
    W : Tensor
        (channels, k) float32.
    tol : float
        Bound of ‖H − H*‖ / ‖H*‖, H* the exact optimum, strengths counted in unit concepts; what is
        reached on activations of networks is 100 times better. Of nearly dependent concepts
        (κ > 9,000) only the objective converges.
    block : int, optional
        Positions per block, see `rows_at_once`; changing it changes the last bits of H.
    l1, l2 : float
        Penalties l1 Σh + ½ l2 Σh² added to ½ ‖V − H Wᵀ‖².
    out : Tensor, optional
        (positions, k) float32 to write to.
    active : int, optional
        Concepts that a position has at most: found by `pursuit`, without penalties.

    Returns
    -------
    Tensor
        (positions, k) float32, non-negative, on the device of V.
    """
    if active is not None:
        room = torch.empty(len(V), W.shape[1], device=V.device) if out is None else out
        return Pursuit.of(W, active).codes(V).dense(room)
    encoder = Encoder.of(W, tol=tol, l1=l1, l2=l2)
    H = torch.empty(len(V), W.shape[1], device=V.device) if out is None else out

    def of_span(span: slice) -> None:
        start = span.start
        for v, h in strengths([encoder], V[span], block):
            H[start : start + len(v)] = h
            start += len(v)

    side_by_side(of_span, V, block or rows_at_once(V.device, V.shape[1]))
    if not math.isfinite(float(H.sum())):
        raise UserError(f"cannot encode: {violation(V)}")
    return H


def _rate(eigenvalues: Tensor, tol: float) -> tuple[float, float, int]:
    """Choose ridge, ρ and the number of iterations for the (ascending) eigenvalues of G.

    ‖H − H*‖ ≤ 2 ‖y − y*‖ ≤ 2 qⁿ ‖y*‖, and ‖y*‖ is of the size of ‖H*‖: n with qⁿ = tol / 4. Where
    that needs more than MAX_ITERATIONS, a ridge brings κ down to what they can do; it costs less
    than 1e-4 ‖V‖² of the objective, and H is ill-determined there in the first place.
    """
    goal = math.log(tol / 4)
    q_most = math.exp(goal / MAX_ITERATIONS)
    kappa_most = ((1 + q_most) / (1 - q_most)) ** 2
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    ridge = max(0.0, (high - kappa_most * low) / (kappa_most - 1))
    low, high = low + ridge, high + ridge
    rho = math.sqrt(low * high)
    q = (math.sqrt(high) - math.sqrt(low)) / (math.sqrt(high) + math.sqrt(low))
    n_iterations = math.ceil(goal / math.log(q)) if q > math.exp(goal) else 1
    return ridge, rho, min(n_iterations, MAX_ITERATIONS)
