"""A sparse autoencoder, the peer of many concepts: TopK, trained on the same activations.

Notation: V (n, channels) activations, z (n, k) codes of which `n_active` are above 0, D (k,
channels) a decoder of unit rows. V ≈ z D + b, z = TopK(ReLU((V − b) E + e)), trained by Adam on
‖V − z D − b‖².

Equations and settings are those of Gao et al., Scaling and Evaluating Sparse Autoencoders (2024):
D starts at activations, E at Dᵀ, b at their mean; codes that were not used for an epoch explain
what is left (AuxK, weight 1/32). Gradients are those of active codes alone, in compiled loops. The
rate is the best of three by two epochs on half of the data, and so is whether positions are brought
to unit length first, as there: what is decoded is then as much longer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

BATCH = 1_024
RATES = (3e-4, 1e-3, 3e-3)
TRIED = 2  # epochs
AUX_WEIGHT, AUX_ACTIVE = 1 / 32, 32


_pool = ThreadPoolExecutor()


def _add_gradients(
    centred: Any, error: Any, which: Any, z: Any, D: Any, scale: Any, sums: tuple[Any, Any, Any]
) -> None:
    """Add z D to the error of each row, and the gradients of its active codes."""
    of_D, of_Et, of_e = sums
    for p in range(len(error)):
        e, v = error[p], centred[p]
        for a in range(which.shape[1]):
            if z[p, a] > 0:
                d = D[which[p, a]]
                for i in range(len(e)):
                    e[i] += z[p, a] * d[i]
        for a in range(which.shape[1]):
            if z[p, a] > 0:
                j = which[p, a]
                d, own = D[j], np.float32(0)
                for i in range(len(e)):
                    own += e[i] * d[i]
                own *= scale
                of_e[j] += own
                weight, row, column = scale * z[p, a], of_D[j], of_Et[j]
                for i in range(len(e)):
                    row[i] += weight * e[i]
                    column[i] += own * v[i]


_compiled: Any = numba.njit(fastmath=True, nogil=True)(_add_gradients)


@dataclass(frozen=True, eq=False)
class Epoch:
    """What is reached after some epochs: seconds since the start, and the autoencoder."""

    n: int
    seconds: float
    model: Autoencoder


class Autoencoder:
    """See the module."""

    def __init__(self, V: Tensor, k: int, n_active: int, seed: int, *, unit: bool = False) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.unit = unit
        V = self.scaled(V)[0]
        rows = torch.randint(len(V), (k,), generator=generator)
        self.b = V.mean(0)
        self.D = normalize(V[rows] - self.b, dim=1)
        self.E, self.e = self.D.T.clone(), torch.zeros(k)
        self.n_active = n_active
        self.unused = torch.zeros(k, dtype=torch.int64)
        self._moments: list[tuple[Tensor, Tensor]] = [
            (torch.zeros_like(p), torch.zeros_like(p)) for p in self._parameters()
        ]
        self._steps = 0

    def _parameters(self) -> tuple[Tensor, ...]:
        return self.D, self.E, self.e, self.b

    def scaled(self, V: Tensor) -> tuple[Tensor, Tensor]:
        """Return V as it is trained on, and what brings that back to V, (n, 1)."""
        lengths = torch.linalg.vector_norm(V, dim=1, keepdim=True).clamp_min(1e-30)
        return (V / lengths, lengths) if self.unit else (V, torch.ones_like(lengths))

    def codes(self, V: Tensor) -> tuple[Tensor, Tensor]:
        """Return which codes are active, int64 (n, n_active), and how strongly, float32."""
        before = torch.addmm(self.e, V - self.b, self.E)
        strongest, which = before.topk(self.n_active, dim=1)
        return which, strongest.clamp_(min=0)

    def energies(self, V: Tensor) -> Tensor:
        """Return Σ z² of each code, float64 (k,)."""
        total = torch.zeros(len(self.D), dtype=torch.float64)
        for part in V.split(8 * BATCH):
            rows, lengths = self.scaled(part)
            which, z = self.codes(rows)
            total.index_add_(0, which.flatten(), (z * lengths).double().square().flatten())
        return total

    def decoded(self, V: Tensor) -> Tensor:
        """Return what takes the place of V, (n, channels)."""
        rows, lengths = self.scaled(V)
        which, z = self.codes(rows)
        dense = torch.zeros(len(V), len(self.D)).scatter_(1, which, z)
        return (dense @ self.D + self.b) * lengths

    def explained(self, V: Tensor) -> float:
        """Return 1 − ‖V − V̂‖² / ‖V‖²."""
        left = total = 0.0
        for part in V.split(8 * BATCH):
            left += float((part - self.decoded(part)).double().square().sum())
            total += float(part.double().square().sum())
        return 1 - left / total

    def step(self, V: Tensor, rate: float) -> None:
        """Descend on a batch."""
        n, k = len(V), len(self.D)
        centred = V - self.b
        before = torch.addmm(self.e, centred, self.E)
        strongest, which = before.topk(self.n_active, dim=1)
        self.unused += n
        self.unused[which[strongest > 0]] = 0
        gradients = torch.zeros_like(self.D), torch.zeros(k, V.shape[1]), torch.zeros(k)
        error = self._descend(centred, -centred, which, strongest, 2 / n, gradients)
        dead = torch.nonzero(self.unused > self._epoch).flatten()
        if len(dead):
            strongest, at = before[:, dead].topk(min(AUX_ACTIVE, len(dead)), dim=1)
            self._descend(centred, error, dead[at], strongest, 2 * AUX_WEIGHT / n, gradients)
        of_D, of_Et, of_e = gradients
        of_b = (2 / n) * error.sum(0) - self.E @ of_e
        self._adam((of_D, of_Et.T, of_e, of_b), rate)
        self.D = normalize(self.D, dim=1)

    def _descend(
        self,
        centred: Tensor,
        base: Tensor,
        which: Tensor,
        strongest: Tensor,
        scale: float,
        gradients: tuple[Tensor, ...],
    ) -> Tensor:
        """Add the gradients of ½ scale ‖base + z D‖², z > 0; give base + z D."""
        n_threads = torch.get_num_threads()
        error, z = base.clone(), strongest.clamp(min=0)

        def of_rows(rows: Tensor) -> list[NDArray[np.float32]]:
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            arrays = [each[part].numpy() for each in (centred, error, which, z)]
            sums = [np.zeros(each.shape, np.float32) for each in gradients]
            _compiled(*arrays, self.D.numpy(), np.float32(scale), tuple(sums))
            return sums

        parts = torch.arange(len(base)).chunk(n_threads)
        for sums in _pool.map(of_rows, parts):
            for gradient, own in zip(gradients, sums, strict=True):
                gradient += torch.from_numpy(own)
        return error

    def _adam(self, gradients: tuple[Tensor, ...], rate: float) -> None:
        self._steps += 1
        for parameter, gradient, (m, v) in zip(
            self._parameters(), gradients, self._moments, strict=True
        ):
            m.lerp_(gradient, 0.1)
            v.lerp_(gradient.square(), 0.001)
            fair = v.div(1 - 0.999**self._steps).sqrt_().add_(1e-8)
            parameter.addcdiv_(m, fair, value=-rate / (1 - 0.9**self._steps))

    _epoch = 0

    def epoch(self, V: Tensor, rate: float, generator: torch.Generator) -> None:
        """Go through all of V once, in random order."""
        self._epoch = len(V)
        for rows in torch.randperm(len(V), generator=generator).split(BATCH):
            self.step(self.scaled(V[rows])[0], rate)


def train(V: Tensor, k: int, n_active: int, n_epochs: int, seed: int = 0) -> Iterator[Epoch]:
    """Train, and give what is reached after each epoch; trying rates is not timed."""
    ways = [(rate, unit) for unit in (False, True) for rate in RATES]
    rate, unit = max(ways, key=lambda way: _tried(V, k, n_active, seed, *way))
    generator = torch.Generator().manual_seed(seed)
    seconds, start = 0.0, time.perf_counter()
    model = Autoencoder(V, k, n_active, seed, unit=unit)
    for n in range(1, n_epochs + 1):
        model.epoch(V, rate, generator)
        seconds += time.perf_counter() - start
        yield Epoch(n, seconds, model)
        start = time.perf_counter()


def _tried(V: Tensor, k: int, n_active: int, seed: int, rate: float, unit: bool) -> float:
    """Return what training on half of the data at a rate explains of the other."""
    part, rest = V[: len(V) // 2], V[len(V) // 2 :][:: max(1, len(V) // 8_000)]
    model = Autoencoder(part, k, n_active, seed, unit=unit)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(TRIED):
        model.epoch(part, rate, generator)
    return model.explained(rest)
