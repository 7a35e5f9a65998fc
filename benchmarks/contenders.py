"""The factorizations compared, all from one array to W and all of H, and their common judge.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, Frobenius norm.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.decomposition import NMF, MiniBatchNMF
from sklearn.exceptions import ConvergenceWarning

from pipeline import nmf

Array = NDArray[np.float32]
Factors = tuple[Array, Array]

OURS = "pipeline.nmf"
EXACT = 1e-6
"""Relative error of H at which it counts as converged."""

ROWS = 8_192


@dataclass(frozen=True)
class Contender:
    """One way to factorize.

    Attributes
    ----------
    name : str
    run : callable
        From V, k and a seed to W and H.
    max_seeds : int
        With how many seeds it is run at most; those that take minutes get one.
    is_reference : bool
        Whether it is scikit-learn's `NMF`, the better start of which the targets refer to.
    in_quick : bool
        Whether it is fast enough for ``--quick``.
    """

    name: str
    run: Callable[[Array, int, int], Factors]
    max_seeds: int = 99
    is_reference: bool = False
    in_quick: bool = True


@dataclass(frozen=True)
class Outcome:
    """What one contender came to: a value a seed."""

    contender: Contender
    seconds: list[float]
    errors: list[float]
    concepts: list[Array]

    @property
    def error(self) -> float:
        """Median error."""
        return median(self.errors)

    @property
    def time(self) -> float:
        """Median seconds."""
        return median(self.seconds)

    def cosine(self) -> float | None:
        """Return the median matched cosine between the concepts of two seeds."""
        pairs = itertools.combinations([torch.from_numpy(W.copy()) for W in self.concepts], 2)
        cosines = [float(nmf.match(*pair)[1].median()) for pair in pairs]
        return median(cosines) if cosines else None


def _ours(V: Array, k: int, seed: int) -> Factors:
    model = nmf.NMF(n_components=k, random_state=seed)
    H = model.fit_transform(V)
    return model.components_.T, H


def _sklearn(init: str, V: Array, k: int, seed: int) -> Factors:
    """Coordinate descent with its default tolerance; float32 data stay float32 in it."""
    model = NMF(n_components=k, init=init, max_iter=200, random_state=seed)
    return _fitted(model, V)


def _minibatch(init: str, batch_size: int, V: Array, k: int, seed: int) -> Factors:
    model = MiniBatchNMF(n_components=k, init=init, batch_size=batch_size, random_state=seed)
    return _fitted(model, V)


def _fitted(model: NMF | MiniBatchNMF, V: Array) -> Factors:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        H = model.fit_transform(V)
    return model.components_.T, H


CONTENDERS = (
    Contender(OURS, _ours),
    Contender("scikit-learn NMF, nndsvda", partial(_sklearn, "nndsvda"), is_reference=True),
    Contender("scikit-learn NMF, random", partial(_sklearn, "random"), is_reference=True),
    Contender("MiniBatchNMF, nndsvda, 1024", partial(_minibatch, "nndsvda", 1024)),
    Contender(
        "MiniBatchNMF, random, 8192",
        partial(_minibatch, "random", 8192),
        max_seeds=1,
        in_quick=False,
    ),
)


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
