"""The engine with scikit-learn's surface, for arrays in memory.

Notation: scikit-learn writes X ≈ W H with samples as rows. Its X is our V (positions × channels),
its W, what `transform` gives, our H (positions × k), its H, `components_`, our Wᵀ (k × channels).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from ..errors import UserError
from ..system.threads import one_thread
from .data import ArrayBlocks, extremes, squares_of_rows, to_device
from .descent import Descent, Fit, Penalty
from .draw import representatives
from .engine import TOL, fit, sample_size
from .passes import sweep
from .sampling import fit_sample
from .solve import encode
from .stats import Stats, relative_error

Array = NDArray[np.float32]


class NMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Non-negative matrix factorization at the speed of a few products with the data.

    Parameters
    ----------
    n_components : int
        Number of components.
    init : {'positions', 'nndsvd', 'random'}
        See `pipeline.nmf.initialise`.
    sample_size : int, optional
        Rows drawn to find the components on before all rows are passed over; where there are not
        more, no passes are needed. None: 12,000, and 800 for each of more than 15 components.
    tol : float
        Passes end once another step would change the relative error by less than this share of
        itself.
    max_iter : int
        Passes over all rows at most.
    alpha_W, alpha_H : float
        Penalties of what `transform` gives and of `components_`, scaled as scikit-learn's; 'same':
        as alpha_W.
    l1_ratio : float
        Share of the penalties that is l1 rather than l2, 0 to 1.
    random_state : int, RandomState or None
        Decides the rows drawn and the start.
    device : str
        Torch device to compute on.

    Attributes
    ----------
    components_ : ndarray
        (n_components, n_features) float32.
    reconstruction_err_ : float
        Frobenius norm of the residual over the rows fitted on.
    n_iter_ : int
        Steps and passes made.
    n_components_, n_features_in_ : int
        As fitted.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((100, 8)) @ np.random.default_rng(1).random((8, 20))
    >>> model = NMF(n_components=8, random_state=0)
    >>> model.fit_transform(X).shape, model.components_.shape
    ((100, 8), (8, 20))
    """

    def __init__(
        self,
        n_components: int = 8,
        *,
        init: str = "positions",
        sample_size: int | None = None,
        tol: float = TOL,
        max_iter: int = 10,
        alpha_W: float = 0.0,
        alpha_H: float | Literal["same"] = "same",
        l1_ratio: float = 0.0,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.sample_size = sample_size
        self.tol = tol
        self.max_iter = max_iter
        self.alpha_W = alpha_W
        self.alpha_H = alpha_H
        self.l1_ratio = l1_ratio
        self.random_state = random_state
        self.device = device

    def fit(self, X: ArrayLike, y: None = None) -> NMF:
        """Find the components of X (n_samples, n_features), non-negative."""
        self._fit(X)
        return self

    def fit_transform(self, X: ArrayLike, y: None = None) -> Array:
        """Find the components of X and give its strengths (n_samples, n_components)."""
        H, V = self._fit(X, keep=True)
        return (self._encode(V) if H is None else H).cpu().numpy()

    def transform(self, X: ArrayLike) -> Array:
        """Give the strengths (n_samples, n_components) of the fixed components in X."""
        check_is_fitted(self)
        return self._encode(self._data(X, reset=False)).cpu().numpy()

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Give the data (n_samples, n_features) that strengths X (n_samples, n_components) mean."""
        check_is_fitted(self)
        data: Array = np.asarray(X, dtype=np.float32) @ self.components_
        return data

    def partial_fit(self, X: ArrayLike, y: None = None) -> NMF:
        """Take in one more batch: what earlier batches taught is kept as statistics.

        The first batch is fitted to convergence. Later ones are encoded with the components at
        hand, their statistics are added to those of all before, and the components descend.
        """
        first = not hasattr(self, "components_")
        V = self._data(X, reset=first)
        if first:
            self._keep(self._factorize(V))
            return self
        W = torch.from_numpy(self.components_.T.copy()).to(V.device)
        penalty = self._penalty(V, self._stats.n + len(V))
        stats = self._stats + sweep([V], W)
        descent = Descent(W, tol=0, max_steps=2, phase="batch", penalty=penalty)
        descent.tell(stats)
        self._keep(Fit(descent.point.cpu(), stats, relative_error(W, stats), []))
        return self

    def _fit(self, X: ArrayLike, keep: bool = False) -> tuple[Tensor | None, Tensor]:
        """Fit; give the strengths, where they are to be kept and passes were made, and the data."""
        V = self._data(X, reset=True)
        H = V.new_empty(len(V), self.n_components) if keep and self._is_large(V) else None
        self._keep(self._factorize(V, H))
        return H, V

    def _factorize(self, V: Tensor, H: Tensor | None = None) -> Fit:
        if self.max_iter < 1 or (self.sample_size is not None and self.sample_size < 1):
            raise UserError(
                f"max_iter and sample_size must be at least 1, got {self.max_iter} and "
                f"{self.sample_size}"
            )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        k, penalty = self.n_components, self._penalty(V, len(V))
        start: dict[str, Any] = {"seed": seed, "init": self.init, "penalty": penalty}
        if not self._is_large(V):
            return fit_sample(V, k, **start)
        squares = squares_of_rows(V)
        sample = representatives(V, self._sample_size(), penalty, seed, squares)
        passes: dict[str, Any] = {"tol": self.tol, "max_passes": self.max_iter}
        with one_thread():
            passes["v_sq"] = float(squares.sum())
        return fit(ArrayBlocks(V), sample, k, H=H, **passes, **start)

    def _sample_size(self) -> int:
        return sample_size(self.n_components) if self.sample_size is None else self.sample_size

    def _is_large(self, V: Tensor) -> bool:
        return len(V) > self._sample_size()

    def _encode(self, V: Tensor) -> Tensor:
        W = torch.from_numpy(self.components_.T.copy()).to(V.device)
        penalty = self._penalty(V, 0)
        return encode(V, W, l1=penalty.l1_H, l2=penalty.l2_H)

    def _penalty(self, V: Tensor, n_samples: int) -> Penalty:
        """Scale the penalties as scikit-learn does: of strengths by features, and conversely."""
        alpha_H = self.alpha_W if self.alpha_H == "same" else self.alpha_H
        of_strengths = self.alpha_W * V.shape[1]
        of_components = alpha_H * n_samples
        return Penalty(
            l1_W=of_components * self.l1_ratio,
            l2_W=of_components * (1 - self.l1_ratio),
            l1_H=of_strengths * self.l1_ratio,
            l2_H=of_strengths * (1 - self.l1_ratio),
        )

    def _keep(self, found: Fit) -> None:
        self.components_ = np.ascontiguousarray(found.W.T.numpy())
        self.n_components_ = self._n_features_out = len(self.components_)
        self.reconstruction_err_ = found.error * found.stats.v_sq**0.5
        self.n_iter_ = max(1, len(found.history))
        self._stats: Stats = found.stats

    def _data(self, X: ArrayLike, reset: bool) -> Tensor:
        """Check X as scikit-learn does and bring it to float32 on the device."""
        how: dict[str, Any] = {"dtype": np.float32, "order": "C"}
        checked = validate_data(self, X, reset=reset, ensure_all_finite=False, **how)
        V = to_device(torch.from_numpy(checked), self.device)
        low, high = extremes(V)  # a third of the time of its own
        if not (low >= 0 and high < np.inf):
            validate_data(self, X, reset=False, ensure_non_negative=True, **how)
        return V

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
