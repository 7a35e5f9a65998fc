"""A linear probe: which label an image has, told by the mean of its activations.

Notation: x the mean activation of an image (channels), standardised over the images fitted on;
logits = A x + b by logistic regression, multinomial or, where images have several labels, one for
each of them, folded back to activations as they are.

References
----------
Alain, G. & Bengio, Y. (2016). Understanding intermediate layers using linear classifier probes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from ..models.link import Link

STRENGTHS = tuple(10.0**power for power in (-4, -3, -2, -1, 0, 1))
"""Inverse strengths of the regularisation that are tried, from strong to weak, as scikit-learn's
C."""

N_FOLDS = 5
"""Parts of the images, each predicted once from the others."""

TOLERANCE = 1e-7
"""Largest gradient left: logits are then within 1e-4 of where the solver would end, and so are
those of the same fit elsewhere; with scikit-learn's 1e-4 they were 3e-3 off."""

MAX_STEPS = 2_000
"""Steps of the solver at most."""


@dataclass(frozen=True)
class LinearProbe:
    """What was fitted.

    Attributes
    ----------
    weight, bias : ndarray
        float32 (classes, channels) and (classes,): logits of a mean activation.
    strength : float
        The C chosen.
    is_converged : bool
        Whether the solver came to its end.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    is_converged: bool


def fit_probe(
    pooled: NDArray[np.float32], members: NDArray[np.bool_], seed: int, link: Link
) -> LinearProbe:
    """Fit a linear probe, its regularisation chosen by the likelihood of parts left out.

    Parameters
    ----------
    pooled : ndarray
        float32 (n, channels), the mean activation of each image.
    members : ndarray
        bool (n, classes), which image has which label; of each label at least two.
    seed : int
        Decides the parts.
    link : {'softmax', 'sigmoid'}
        Whether an image has one label, or any number of them.
    """
    scaler = StandardScaler().fit(pooled.astype(np.float64))
    x = scaler.transform(pooled.astype(np.float64))
    kind: type[_OneOf | _EachOf] = _OneOf if link == "softmax" else _EachOf
    strength = _choose(kind, x, members, seed)
    solver = kind(strength, tol=TOLERANCE)
    is_converged = solver.fit(x, members)
    weight, bias = solver.logits()
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    return LinearProbe(weight.astype(np.float32), bias.astype(np.float32), strength, is_converged)


Folds = Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]


class _OneOf:
    """One of several classes: multinomial logistic regression."""

    def __init__(self, strength: float, *, tol: float, warm_start: bool = False) -> None:
        self._solver = LogisticRegression(
            C=strength, max_iter=MAX_STEPS, tol=tol, warm_start=warm_start
        )

    def set(self, strength: float) -> None:
        """Take another inverse strength of the regularisation."""
        self._solver.set_params(C=strength)

    def fit(self, x: NDArray[np.float64], members: NDArray[np.bool_]) -> bool:
        """Fit; return whether it came to its end, which is for the caller to say."""
        _fit(self._solver, x, members.argmax(1))
        return bool(self._solver.n_iter_.max() < MAX_STEPS)

    def loss(self, x: NDArray[np.float64], members: NDArray[np.bool_]) -> float:
        """Return minus the log-likelihood, summed over images."""
        every = np.arange(members.shape[1])
        said = self._solver.predict_proba(x)
        return float(log_loss(members.argmax(1), said, labels=every, normalize=False))

    def logits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weight (classes, channels) and bias (classes,)."""
        weight, bias = self._solver.coef_, self._solver.intercept_
        if len(weight) > 1:
            return weight, bias
        # Of two classes scikit-learn keeps the difference of the logits.
        return np.array([[-0.5], [0.5]]) * weight, np.array([-0.5, 0.5]) * bias

    @staticmethod
    def folds(x: NDArray[np.float64], members: NDArray[np.bool_], seed: int) -> Folds:
        """Yield the images known and left out, in parts with all classes."""
        n_folds = min(N_FOLDS, int(members.sum(0).min()))
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        yield from folds.split(x, members.argmax(1))


class _EachOf:
    """Each of several classes by itself: a logistic regression for each, solved together.

    A network of no hidden layers is just that, and scikit-learn's takes several labels at once;
    its alpha is the inverse of C.
    """

    def __init__(self, strength: float, *, tol: float, warm_start: bool = False) -> None:
        self._solver = MLPClassifier(
            (), solver="lbfgs", alpha=1 / strength, max_iter=MAX_STEPS, max_fun=2 * MAX_STEPS,
            tol=tol, warm_start=warm_start, random_state=0,
        )  # fmt: skip

    def set(self, strength: float) -> None:
        """Take another inverse strength of the regularisation."""
        self._solver.set_params(alpha=1 / strength)

    def fit(self, x: NDArray[np.float64], members: NDArray[np.bool_]) -> bool:
        """Fit; return whether it came to its end."""
        _fit(self._solver, x, members.astype(np.int64))
        return bool(self._solver.n_iter_ < MAX_STEPS)

    def loss(self, x: NDArray[np.float64], members: NDArray[np.bool_]) -> float:
        """Return minus the log-likelihood, summed over images and classes."""
        weight, bias = self.logits()
        signed = np.where(members, 1, -1) * (x @ weight.T + bias)
        return float(np.logaddexp(0, -signed).sum())

    def logits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return weight (classes, channels) and bias (classes,)."""
        return self._solver.coefs_[0].T, self._solver.intercepts_[0]

    @staticmethod
    def folds(x: NDArray[np.float64], members: NDArray[np.bool_], seed: int) -> Folds:
        """Yield the images known and left out."""
        yield from KFold(N_FOLDS, shuffle=True, random_state=seed).split(x)


def _choose(
    kind: type[_OneOf | _EachOf], x: NDArray[np.float64], members: NDArray[np.bool_], seed: int
) -> float:
    """Return the strength under which images left out are likeliest; the strongest of equals."""
    losses = np.zeros(len(STRENGTHS))
    for known, left_out in kind.folds(x, members, seed):
        # From one strength on to the next; a likelihood needs no more digits than scikit-learn's.
        solver = kind(STRENGTHS[0], tol=1e-4, warm_start=True)
        for at, strength in enumerate(STRENGTHS):
            solver.set(strength)
            solver.fit(x[known], members[known])
            losses[at] += solver.loss(x[left_out], members[left_out])
    return STRENGTHS[int(losses.argmin())]


def _fit(
    solver: LogisticRegression | MLPClassifier, x: NDArray[np.float64], y: NDArray[np.int64]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(x, y)
