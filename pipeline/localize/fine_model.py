"""What tells object from background on the finest grid there is: features, groups, evidence.

Without finer layers that grid is the concepts' own, and their strengths are the only features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .finer import FineForeground, fit_fine
from .foreground import Groups
from .kin import Kin, find_kin
from .whiten import Whitening, fit_whitening

N_DIRECTIONS, N_CONCEPTS = 64, 32
"""Directions of the layers' channels and of the concepts' strengths that are looked at. With 32 of
the former J was as high on horses, and 0.004 to 0.008 lower on photographs of everything; of more
than 32 concepts the strongest directions bound the cost."""

HALO = np.float32(0.3)
"""Taken off the evidence where there are finer layers: else too much is object, of photographs and
of the rendered sample; without finer layers it is not. See METHODS."""


@dataclass(frozen=True)
class FineModel:
    """Evidence for object from finer layers and concepts.

    Parameters
    ----------
    layers, concepts : Whitening
        Of the layers' channels, whitened, and of the root of the concepts' strengths, where a
        direction counts as much as concepts are alike: whitened, noise among them did harm.
    kin : Kin
        Groups of images.
    foreground : FineForeground
        Of the features, whitened layers first.
    """

    layers: Whitening
    concepts: Whitening
    kin: Kin
    foreground: FineForeground

    def __post_init__(self) -> None:
        n_groups = len(self.kin.labels) + len(self.kin.centres)
        n_features = self.layers.basis.shape[1] + self.concepts.basis.shape[1]
        if self.foreground.weights.shape != (1 + n_groups, n_features):
            raise ValueError(
                f"weights of {n_features} features and {n_groups} groups are"
                f" {self.foreground.weights.shape}"
            )

    def evidence(
        self,
        maps: NDArray[np.float32],
        raised: NDArray[np.float32],
        H: NDArray[np.float32],
        labels: Groups,
    ) -> NDArray[np.float32]:
        """Return evidence of images, float32 (n, h, w): 0 parts, in standard deviations.

        Parameters
        ----------
        maps : ndarray
            float32 (n, h, w, channels) of the finer layers, perhaps none.
        raised : ndarray
            float32 (n, h, w, k), strengths of concepts on the same grid.
        H : ndarray
            float32 (n, h', w', k), the same as found.
        labels : sequence of tuple of str
            Of each image; empty where it has none.
        """
        members = self.kin.members(H, labels)
        features = _features(self.layers, self.concepts, maps, raised)
        found = self.foreground.evidence(features, members)
        return found - HALO if self.layers.basis.shape[1] else found


def whitening_of_layers(maps: NDArray[np.float32]) -> Whitening:
    """Learn the directions of the layers that are looked at, of maps (n, h, w, channels)."""
    return fit_whitening(maps, N_DIRECTIONS)


def fit_fine_model(
    layers: Whitening,
    Z: NDArray[np.float32],
    raised: NDArray[np.float32],
    H: NDArray[np.float32],
    labels: Groups,
    start: NDArray[np.float32],
) -> FineModel | None:
    """Learn what is object.

    Parameters
    ----------
    layers : Whitening
        How Z was made.
    Z : ndarray
        float32 (n, h, w, directions), whitened layers.
    raised, H, labels
        As for `FineModel.evidence`.
    start : ndarray
        float32 (n, h, w), the concepts' foreground strength at the same cells.

    Returns
    -------
    FineModel or None
        None where what was learned no longer goes with what the concepts say.
    """
    root = np.sqrt(raised)
    concepts = fit_whitening(root, N_CONCEPTS, even=False)
    kin = find_kin(H, labels)
    features = np.concatenate([Z, concepts.apply(root)], axis=-1)
    foreground = fit_fine(features, start, kin.members(H, labels))
    return None if foreground is None else FineModel(layers, concepts, kin, foreground)


def _features(
    layers: Whitening,
    concepts: Whitening,
    maps: NDArray[np.float32],
    raised: NDArray[np.float32],
) -> NDArray[np.float32]:
    return np.concatenate([layers.apply(maps), concepts.apply(np.sqrt(raised))], axis=-1)
