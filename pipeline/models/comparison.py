"""Trials of a way to run a network: does it find the same classes, and how fast is it?

They run in lanes, several batches at once, as the whole job will.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from ..system.lanes import in_order, lanes
from .cut import Forward

MIN_AGREEMENT = 0.98
"""Share of the probe images on which bfloat16 must find the same top class as float32."""

MIN_PROBE = 50
"""Probe images from which a disagreement is allowed: 2 % of fewer is less than one."""

RACE_ROUNDS = 3
"""Batches by which the speed of a way to run is judged; the fastest counts."""


class Runs(Protocol):
    """A way to run a network on batches."""

    @property
    def batch_size(self) -> int:
        """Most images of a call."""

    @property
    def at_once(self) -> int:
        """Number of batches that lanes run side by side."""

    def __call__(self, images: torch.Tensor) -> Forward:
        """Run the network on uint8 images (batch, 3, size, size)."""


@dataclass(frozen=True)
class Agreement:
    """On how many of `n` images two ways to run a network found the same top class."""

    same: int
    n: int

    @property
    def enough(self) -> bool:
        """Whether the one may stand for the other."""
        needed = MIN_AGREEMENT if self.n >= MIN_PROBE else 1.0
        return self.same >= needed * self.n - 1e-9

    def __str__(self) -> str:
        return f"the top class is the same on {self.same} of {self.n} images"


def agreement_of(found: torch.Tensor, expected: torch.Tensor) -> Agreement:
    """Compare the top classes (n,) that two ways to run a network found."""
    return Agreement(int((found == expected).sum()), len(expected))


def attempt(
    runner: Runs, images: torch.Tensor, tick: Callable[[int], object] = lambda n: None
) -> tuple[torch.Tensor, float]:
    """Return the top class of each image (−1 where not finite), and images per second.

    `tick` is told of so many images more.
    """

    def top(batch: torch.Tensor) -> tuple[torch.Tensor, float]:
        started = time.perf_counter()
        logits = runner(batch).logits
        best = logits.argmax(1) if logits.shape[1] else logits.new_zeros(len(logits)).long()
        found = torch.where(logits.isfinite().all(1), best, -1).cpu()
        return found, (time.perf_counter() - started) / len(batch)

    with lanes(keep_memory=True) as pool:
        results = []
        for result in in_order(pool, top, torch.split(images, runner.batch_size)):
            results.append(result)
            tick(len(result[0]))
    seconds = min(took for _, took in results)
    return torch.cat([found for found, _ in results]), runner.at_once / seconds


def race(batch: torch.Tensor, *runners: Runs) -> list[float]:
    """Return each one's images per second, in turns, so that what else runs here slows all."""
    rounds = [[attempt(runner, batch)[1] for runner in runners] for _ in range(RACE_ROUNDS)]
    return [max(rates) for rates in zip(*rounds, strict=True)]
