"""The estimator: scikit-learn's own checks, and agreement with its NMF."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.decomposition import NMF as SklearnNMF
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pipeline import nmf
from pipeline.nmf import NMF


@pytest.fixture(scope="module")
def X() -> NDArray[np.float32]:
    """(3000, 40) of 6 sparse components and a little noise."""
    rng = np.random.default_rng(0)
    W = rng.random((6, 40)) * (rng.random((6, 40)) < 0.3)
    H = rng.random((3000, 6)) * (rng.random((3000, 6)) < 0.4)
    return (H @ W + 0.02 * rng.random((3000, 40))).astype(np.float32)


CHECKS: pytest.MarkDecorator = parametrize_with_checks([NMF(n_components=2, random_state=0)])


@CHECKS
def test_scikit_learn_estimator_checks(estimator: NMF, check: Callable[[NMF], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks themselves warn
        check(estimator)


def test_components_match_scikit_learns(X: NDArray[np.float32]) -> None:
    ours = NMF(6, random_state=0).fit(X)
    theirs = SklearnNMF(6, init="nndsvda", max_iter=500, tol=1e-6).fit(X)
    a, b = (torch.from_numpy(m.components_.T.copy()) for m in (ours, theirs))
    assert float(nmf.match(a, b)[1].min()) > 0.999
    assert ours.reconstruction_err_ <= 1.001 * theirs.reconstruction_err_


@pytest.mark.parametrize("sample_size", [20_000, 500])
def test_reconstruction(X: NDArray[np.float32], sample_size: int) -> None:
    model = NMF(6, sample_size=sample_size, random_state=0)
    H = model.fit_transform(X)
    assert H.dtype == model.components_.dtype == np.float32
    assert np.array_equal(H, model.transform(X))
    residual = float(np.linalg.norm(X - model.inverse_transform(H)))
    assert residual == pytest.approx(model.reconstruction_err_, rel=1e-3)
    assert residual < 0.05 * np.linalg.norm(X)
    assert list(model.get_feature_names_out()) == [f"nmf{j}" for j in range(6)]


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_penalties_mean_what_scikit_learns_do(X: NDArray[np.float32], l1_ratio: float) -> None:
    alpha: dict[str, Any] = {"alpha_W": 5e-4, "alpha_H": 1e-3, "l1_ratio": l1_ratio}
    ours = NMF(6, random_state=0, **alpha).fit(X)
    theirs = SklearnNMF(6, init="nndsvda", max_iter=2000, tol=1e-7, **alpha).fit(X)

    def objective(model: Any) -> float:
        H, W = model.transform(X), model.components_
        value = 0.5 * float(np.linalg.norm(X - H @ W)) ** 2
        for part, weight in ((H, 5e-4 * 40), (W, 1e-3 * 3000)):
            value += weight * l1_ratio * float(part.sum())
            value += weight * (1 - l1_ratio) / 2 * float(np.square(part).sum())
        return value

    assert objective(ours) <= 1.002 * objective(theirs)


def test_l1_makes_strengths_sparser(X: NDArray[np.float32]) -> None:
    plain = NMF(6, random_state=0).fit_transform(X)
    sparse = NMF(6, random_state=0, alpha_W=2e-3, l1_ratio=1.0).fit_transform(X)
    assert (sparse == 0).mean() > (plain == 0).mean()


def test_partial_fit_learns_from_batches(X: NDArray[np.float32]) -> None:
    model = NMF(6, random_state=0)
    for batch in np.array_split(X, 10):
        model.partial_fit(batch)
    residual = np.linalg.norm(X - model.inverse_transform(model.transform(X)))
    best = NMF(6, random_state=0).fit(X).reconstruction_err_
    assert residual < 1.1 * best
    with pytest.raises(ValueError, match="39 features"):
        model.partial_fit(X[:, 1:])


def test_in_a_pipeline_and_cloned(X: NDArray[np.float32]) -> None:
    pipe = make_pipeline(MinMaxScaler(), NMF(4, random_state=0))
    H = pipe.fit_transform(X)
    assert H.shape == (3000, 4)
    assert np.array_equal(clone(pipe).fit_transform(X), H)


def test_random_state_decides(X: NDArray[np.float32]) -> None:
    fits = [NMF(6, sample_size=300, max_iter=1, random_state=s).fit(X) for s in (0, 0, 1)]
    assert np.array_equal(fits[0].components_, fits[1].components_)
    assert not np.array_equal(fits[0].components_, fits[2].components_)


def test_refuses_negative_data_and_use_before_fit(X: NDArray[np.float32]) -> None:
    with pytest.raises(ValueError, match="Negative values in data passed to"):
        NMF(2).fit(-X)
    with pytest.raises(NotFittedError):
        NMF(2).transform(X)
