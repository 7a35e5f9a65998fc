"""The linear probe against scikit-learn's own, on activations that are made up."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline.classify.probe import STRENGTHS, fit_probe


def clouds(n_classes: int, spread: float, n: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Draw classes of known means in 12 channels of very different sizes."""
    rng = np.random.default_rng(3)
    classes = np.arange(n) % n_classes
    means = rng.normal(size=(n_classes, 12))
    x = (means[classes] + spread * rng.normal(size=(n, 12))) * 10.0 ** rng.integers(-2, 3, 12) + 5
    return x.astype(np.float32), classes.astype(np.int64)


def one_of(classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.eye(classes.max() + 1, dtype=np.bool_)[classes]


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_probe_is_scikit_learns_at_the_strength_chosen(n_classes: int) -> None:
    x, classes = clouds(n_classes, 1.5)
    found = fit_probe(x, one_of(classes), 0, "softmax")
    scaler = StandardScaler().fit(x.astype(np.float64))
    other = LogisticRegression(C=found.strength, max_iter=5_000, tol=1e-10)
    other.fit(scaler.transform(x.astype(np.float64)), classes)
    logits = x @ found.weight.T + found.bias
    said = other.predict_proba(scaler.transform(x.astype(np.float64)))
    odds = np.exp(logits - logits.max(1, keepdims=True))
    assert found.weight.shape == (n_classes, 12)
    assert {found.weight.dtype, found.bias.dtype} == {np.dtype(np.float32)}
    assert np.abs(odds / odds.sum(1, keepdims=True) - said).max() < 1e-4
    assert (logits.argmax(1) == other.predict(scaler.transform(x.astype(np.float64)))).all()
    assert found.is_converged


def test_labels_that_go_with_nothing_are_regularised_away() -> None:
    x, classes = clouds(4, 1.0)
    told = fit_probe(x, one_of(classes), 0, "softmax")
    shuffled = np.random.default_rng(0).permutation(classes)
    untold = fit_probe(x, one_of(shuffled), 0, "softmax")
    assert untold.strength == STRENGTHS[0] < told.strength
    assert np.abs(untold.weight * x.std(0)).max() < 0.05


def test_the_same_seed_gives_the_same_probe() -> None:
    x, classes = clouds(3, 2.0)
    first, again = (fit_probe(x, one_of(classes), 7, "softmax") for _ in range(2))
    assert np.array_equal(first.weight, again.weight)
    assert np.array_equal(first.bias, again.bias)


def test_channels_without_any_say_do_no_harm() -> None:
    x, classes = clouds(3, 1.0)
    x[:, 0] = 4.0
    found = fit_probe(x, one_of(classes), 0, "softmax")
    assert np.isfinite(found.weight).all()
    assert (found.weight[:, 0] == 0).all()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_labels_of_which_images_have_several_are_probed_one_by_one(n_classes: int) -> None:
    x, classes = clouds(n_classes, 1.0)
    members = one_of(classes) | (np.random.default_rng(1).random((len(x), n_classes)) < 0.3)
    found = fit_probe(x, members, 0, "sigmoid")
    z = StandardScaler().fit_transform(x.astype(np.float64))
    logits = x @ found.weight.T + found.bias
    for label in range(n_classes):
        other = LogisticRegression(C=found.strength, max_iter=5_000, tol=1e-10)
        said = other.fit(z, members[:, label]).predict_proba(z)[:, 1]
        assert np.abs(1 / (1 + np.exp(-logits[:, label])) - said).max() < 1e-4
    assert found.is_converged
