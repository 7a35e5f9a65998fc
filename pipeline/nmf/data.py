"""Where the engine takes its data from: blocks of positions, gone through once per pass.

Notation: V (positions × channels) activations, rows in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import UserError
from ..system.threads import side_by_side
from .stats import rows_at_once

CHUNK = 32_768  # positions an in-memory array gives at once: 64 MB at 512 channels
PINNED = 2**23  # values a pinned buffer holds, 32 MB


class Blocks(Protocol):
    """A data source: one iteration is one pass over all positions.

    Every iteration yields the same (rows, channels) blocks in the same order, float32 or float16,
    already transformed, non-negative and finite.
    """

    @property
    def n_positions(self) -> int:
        """Number of positions of a pass."""

    @property
    def n_channels(self) -> int:
        """Number of channels."""

    def __iter__(self) -> Iterator[Tensor]:
        """Go through the blocks of one pass."""


@dataclass(frozen=True, eq=False)
class ArrayBlocks:
    """An array in memory, V (positions, channels) float32, as a data source."""

    V: Tensor

    @property
    def n_positions(self) -> int:
        """Number of positions."""
        return len(self.V)

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.V.shape[1]

    def __iter__(self) -> Iterator[Tensor]:
        """Go through the array in chunks of `CHUNK` positions."""
        return iter(torch.split(self.V, CHUNK))


def to_device(V: Tensor, device: str) -> Tensor:
    """Give V (positions, channels) on a device.

    To a graphics card it goes through pinned memory: 692 MB took 14 ms to an H200, the first time
    in a process, which allocates that memory, 33 to 70 ms; `Tensor.to` took 102 ms each time.
    """
    if torch.device(device).type != "cuda":
        return V.to(device)
    there = torch.empty(V.shape, dtype=V.dtype, device=device)
    rows = max(1, PINNED // max(1, V.shape[1]))
    with torch.cuda.device(device):
        buffers = [torch.empty(rows, V.shape[1], dtype=V.dtype, pin_memory=True) for _ in range(3)]
        copied = [torch.cuda.Event() for _ in buffers]
        for i, (part, target) in enumerate(zip(V.split(rows), there.split(rows), strict=True)):
            buffer, event = buffers[i % 3][: len(part)], copied[i % 3]
            event.synchronize()  # its last content is there
            buffer.copy_(part)
            target.copy_(buffer, non_blocking=True)
            event.record()
        torch.cuda.current_stream().synchronize()
    return there


def check(V: Tensor, what: str) -> None:
    """Refuse data that cannot be factorized.

    Parameters
    ----------
    V : Tensor
        Should be (positions, channels), float32, finite and non-negative.
    what : str
        What the data are, to begin the sentence with.

    Raises
    ------
    UserError
        One sentence with the first violation and its numbers.
    """
    if V.ndim != 2 or V.numel() == 0:
        raise UserError(f"{what}: expected positions × channels, at least one each, got {shape(V)}")
    if V.dtype != torch.float32:
        raise UserError(f"{what}: expected float32 values, got {V.dtype}; convert them first")
    low, high = extremes(V)
    if not (low >= 0 and high < float("inf")):
        raise UserError(f"{what}: {violation(V)}")


def extremes(V: Tensor) -> tuple[float, float]:
    """Give the least and the greatest value of V (positions, channels); NaN where one is."""
    rows = rows_at_once(V.device, V.shape[1])
    ends = side_by_side(lambda span: torch.aminmax(V[span]), V, rows)
    lows, highs = (torch.stack(each) for each in zip(*ends, strict=True))
    return float(lows.amin()), float(highs.amax())


def squares_of_rows(V: Tensor) -> Tensor:
    """Give ‖v‖² of each position of V (positions, channels), float64."""
    squares = torch.empty(len(V), dtype=torch.float64, device=V.device)

    def of_span(span: slice) -> None:
        norms = torch.linalg.vector_norm(V[span], dim=1, dtype=torch.float32)
        squares[span] = norms.double().square_()

    side_by_side(of_span, V, rows_at_once(V.device, V.shape[1]))
    return squares


def violation(V: Tensor) -> str:
    """Say how many positions of V (positions, channels) are not finite, or else negative."""
    bad = ~torch.isfinite(V).all(dim=1)
    if bad.any():
        first = int(torch.nonzero(bad)[0])
        return (
            f"{int(bad.sum())} of {len(V)} positions hold NaN or infinite activations (the first "
            f"is position {first}); check the weights and the precision of the network"
        )
    return (
        f"{int((V < 0).any(dim=1).sum())} of {len(V)} positions hold negative activations "
        f"(minimum {float(V.min()):.4g}); transform them first, for example with 'split'"
    )


def shape(V: Tensor) -> str:
    """Write a shape as '12 × 3'."""
    return " × ".join(map(str, V.shape)) or "a single number"
