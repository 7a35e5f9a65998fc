"""A linear probe: which label an image has, told by the mean of its activations.

Notation: x the mean activation of an image (channels), standardised over the images fitted on;
logits = A x + b by multinomial logistic regression, folded back to activations as they are.

References
----------
Alain, G. & Bengio, Y. (2016). Understanding intermediate layers using linear classifier probes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

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


def fit_probe(pooled: NDArray[np.float32], classes: NDArray[np.int64], seed: int) -> LinearProbe:
    """Fit a linear probe, its regularisation chosen by the likelihood of parts left out.

    Parameters
    ----------
    pooled : ndarray
        float32 (n, channels), the mean activation of each image.
    classes : ndarray
        int64 (n,), 0 to classes − 1, each at least twice.
    seed : int
        Decides the parts.
    """
    scaler = StandardScaler().fit(pooled.astype(np.float64))
    x = scaler.transform(pooled.astype(np.float64))
    strength = _choose(x, classes, seed)
    fitted = _solver(strength, tol=TOLERANCE)
    is_converged = _fit(fitted, x, classes)
    weight, bias = fitted.coef_, fitted.intercept_
    if len(weight) == 1:  # of two classes scikit-learn keeps the difference of the logits
        weight, bias = np.array([[-0.5], [0.5]]) * weight, np.array([-0.5, 0.5]) * bias
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    return LinearProbe(weight.astype(np.float32), bias.astype(np.float32), strength, is_converged)


def _choose(x: NDArray[np.float64], classes: NDArray[np.int64], seed: int) -> float:
    """Return the strength under which images left out are likeliest; the strongest of equals."""
    every = np.unique(classes)
    n_folds = min(N_FOLDS, int(np.bincount(classes)[every].min()))
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    losses = np.zeros(len(STRENGTHS))
    for known, left_out in folds.split(x, classes):
        # From one strength on to the next; a likelihood needs no more digits than scikit-learn's.
        solver = _solver(STRENGTHS[0], tol=1e-4, warm_start=True)
        for at, strength in enumerate(STRENGTHS):
            _fit(solver.set_params(C=strength), x[known], classes[known])
            said = solver.predict_proba(x[left_out])
            losses[at] += log_loss(classes[left_out], said, labels=every, normalize=False)
    return STRENGTHS[int(losses.argmin())]


def _solver(strength: float, *, tol: float, warm_start: bool = False) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=MAX_STEPS, tol=tol, warm_start=warm_start)


def _fit(solver: LogisticRegression, x: NDArray[np.float64], classes: NDArray[np.int64]) -> bool:
    """Fit a solver; return whether it came to its end, which is for the caller to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solver.fit(x, classes)
    return bool(solver.n_iter_.max() < MAX_STEPS)
