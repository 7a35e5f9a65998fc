"""The factorizations compared, all from one array to W and all of H, and their common judge.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, Frobenius norm.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.decomposition import NMF, MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

from benchmarks import peers
from pipeline import nmf

Array = NDArray[np.float32]
Timed = tuple[float, Array, Array]

OURS = "pipeline.nmf"
EXACT = 1e-6
"""Relative error of H at which it counts as converged."""

ROWS = 8_192


@dataclass(frozen=True, eq=False)
class Case:
    """One array to factorize, in memory and, for peers with packages of their own, as a file."""

    name: str
    V: Array
    file: Path


@dataclass(frozen=True)
class Contender:
    """One way to factorize.

    Attributes
    ----------
    name : str
    run : callable
        From a case, k, a seed and a budget to seconds, W and H.
    budgets : tuple of int
        Passes or iterations at most, rising: the last is what is compared, with every seed; the
        others, with one seed, show how the error falls with time.
    is_reference : bool
        Whether it is scikit-learn's `NMF`, the better start of which the targets refer to.
    in_quick : bool
        Whether it is fast enough for ``--quick``.
    n_seeds : int
        With how many seeds it is run at most: one, where runs take minutes.
    """

    name: str
    run: Callable[[Case, int, int, int], Timed]
    budgets: tuple[int, ...]
    is_reference: bool = False
    in_quick: bool = True
    n_seeds: int = 99


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one contender came to: a value per seed, and a point per smaller budget."""

    contender: Contender
    seconds: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    concepts: list[Array] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Median error."""
        return median(self.errors)

    @property
    def time(self) -> float:
        """Median seconds."""
        return median(self.seconds)

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Seconds and errors, of all budgets, by seconds."""
        return sorted([*self.points, (self.time, self.error)])

    def time_to(self, error: float) -> float | None:
        """Return the seconds of the smallest budget that came to an error, or None."""
        return next((seconds for seconds, reached in self.curve if reached <= error), None)

    def cosine(self) -> float | None:
        """Return the median matched cosine between the concepts of two seeds."""
        pairs = itertools.combinations([torch.from_numpy(W.copy()) for W in self.concepts], 2)
        cosines = [float(nmf.match(*pair)[1].median()) for pair in pairs]
        return median(cosines) if cosines else None

    def take(self, case: Case, k: int, seed: int) -> None:
        """Run once with the whole budget, and judge."""
        took, W, H = self.contender.run(case, k, seed, self.contender.budgets[-1])
        if H.shape != (len(case.V), k):
            raise RuntimeError(f"{self.contender.name} gave H of {H.shape}")
        self.seconds.append(took)
        self.errors.append(true_error(case.V, W))
        self.concepts.append(W)

    def take_points(self, case: Case, k: int) -> None:
        """Run once with each smaller budget, as long as it is used up."""
        for budget in self.contender.budgets[:-1]:
            took, W, _ = self.contender.run(case, k, 0, budget)
            if np.array_equal(W, self.concepts[0]):
                break
            self.points.append((took, true_error(case.V, W)))


def contenders(own_packages: Path | None, device: str = "cpu") -> list[Contender]:
    """List who competes.

    Parameters
    ----------
    own_packages : Path or None
        The peers' folder, where there is one.
    device : str
        What to compute on. On another than ``cpu``, what runs on processors only stays away, but
        for our own, as a measure.
    """
    budgets = (25, 50, 100, 200)
    found = [Contender(OURS, partial(_ours, device), (1, 2, 20))]
    if device == "cpu":
        found += [
            Contender("scikit-learn NMF, nndsvda", partial(_sklearn, "nndsvda"), budgets, True),
            Contender("scikit-learn NMF, random", partial(_sklearn, "random"), budgets, True),
            Contender("MiniBatchNMF, nndsvda, 1024", partial(_minibatch, "nndsvda", 1024), (200,)),
            Contender(
                "MiniBatchNMF, random, 8192",
                partial(_minibatch, "random", 8192),
                (200,),
                in_quick=False,
                n_seeds=1,
            ),
        ]
    else:
        found.append(Contender(f"{OURS} on the processor", partial(_ours, "cpu"), (1, 2, 20)))
    if own_packages is not None:
        for name, way in (("torchnmf, MU", "torchnmf"), ("Overcomplete, HALS", "overcomplete")):
            run = partial(_peer, way, own_packages, device)
            quick = way != "torchnmf"  # it takes longer than all others together
            found.append(Contender(name, run, budgets, in_quick=quick, n_seeds=1))
    return found


def _ours(device: str, case: Case, k: int, seed: int, budget: int) -> Timed:
    options: dict[str, Any] = {"random_state": seed, "max_iter": budget, "device": device}
    return _fitted(nmf.NMF(n_components=k, **options), case.V)


def _sklearn(init: str, case: Case, k: int, seed: int, budget: int) -> Timed:
    """Coordinate descent with its default tolerance; float32 data stay float32 in it."""
    return _fitted(NMF(n_components=k, init=init, max_iter=budget, random_state=seed), case.V)


def _minibatch(init: str, batch_size: int, case: Case, k: int, seed: int, budget: int) -> Timed:
    given = {"n_components": k, "init": init, "batch_size": batch_size, "max_iter": budget}
    return _fitted(MiniBatchNMF(**given, random_state=seed), case.V)


def _peer(way: str, folder: Path, device: str, case: Case, k: int, seed: int, budget: int) -> Timed:
    return peers.run(way, folder, case.file, k, seed, budget, device)


def _fitted(model: nmf.NMF | NMF | MiniBatchNMF, V: Array) -> Timed:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        start = time.perf_counter()
        H = model.fit_transform(V)
    return time.perf_counter() - start, model.components_.T, H


def true_error(V: Array, W: Array) -> float:
    """‖V − H Wᵀ‖ / ‖V‖ in float64, with H converged for W by the same solver for everyone.

    Parameters
    ----------
    V : ndarray
        (positions, channels) float32.
    W : ndarray
        (channels, k).

    Returns
    -------
    float
        Between 0 and 1.
    """
    concepts = torch.tensor(np.asarray(W, dtype=np.float32))
    square = total = 0.0
    for start in range(0, len(V), ROWS):
        v = torch.from_numpy(V[start : start + ROWS])
        H = nmf.encode(v, concepts, tol=EXACT)
        exact = v.double()
        square += float((exact - H.double() @ concepts.double().T).square().sum())
        total += float(exact.square().sum())
    return float(np.sqrt(square / total))


def deviation(V: Array, W: Array, H: Array, n: int = 500) -> float:
    """‖H − H*‖ / ‖H*‖ over `n` positions, H* by scipy's active-set solver in float64."""
    rows = np.random.default_rng(0).choice(len(V), min(n, len(V)), replace=False)
    exact = np.stack([nnls(W.astype(np.float64), V[row].astype(np.float64))[0] for row in rows])
    return float(np.linalg.norm(H[rows] - exact) / np.linalg.norm(exact))
