"""Images that are alike: those of a label, and those that hold the same concepts.

Notation: u = the unit vector of √ mean_p h_p, an image's concepts. Levels divide the images more
and more finely: by label where there are labels, then by what they hold (Ward's clustering of u).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .foreground import Groups

IMAGES_EACH = (100, 25, 6)
"""Images in a group of each level, on average."""


@dataclass(frozen=True)
class Kin:
    """Groups of images, level by level.

    Parameters
    ----------
    labels : tuple of str
        The groups of the first level; none where there are fewer than two.
    centres : ndarray
        float32 (groups by concepts, k), u in the middle of each.
    levels : ndarray
        int64 (levels,), how many of these there are in each of the levels by concepts.
    """

    labels: tuple[str, ...]
    centres: NDArray[np.float32]
    levels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.levels.sum() != len(self.centres):
            raise ValueError(f"levels of {self.levels.sum()} groups have {len(self.centres)}")

    def members(self, H: NDArray[np.float32], labels: Groups) -> NDArray[np.float32]:
        """Return how much of an image is of each group.

        Parameters
        ----------
        H : ndarray
            float32 (n, h, w, k).
        labels : sequence of tuple of str
            Of each image.

        Returns
        -------
        ndarray
            float32 (n, groups): 1 for its own at each level, of several labels even shares.
        """
        found = np.zeros((len(H), len(self.labels) + len(self.centres)), np.float32)
        row = {name: index for index, name in enumerate(self.labels)}
        for own, names in zip(found, labels, strict=True):
            places = [row[name] for name in names if name in row]
            own[places] = 1 / max(1, len(places))
        u, first = _unit(H), len(self.labels)
        start = 0
        for n in self.levels:
            near = (u @ self.centres[start : start + n].T).argmax(1)
            found[np.arange(len(H)), first + start + near] = 1
            start += n
        return found


def find_kin(H: NDArray[np.float32], labels: Groups) -> Kin:
    """Group a sample of images.

    Parameters
    ----------
    H : ndarray
        float32 (n, h, w, k).
    labels : sequence of tuple of str
        Of each image; empty where it has none.

    References
    ----------
    Ward, J. H. (1963). Hierarchical grouping to optimize an objective function.
    """
    from scipy.cluster.hierarchy import fcluster, linkage  # takes a fifth of a second

    names = sorted({name for each in labels for name in each})
    u = _unit(H)
    counts = [n for n in (len(H) // each for each in IMAGES_EACH) if n > 1]
    centres: list[NDArray[np.float32]] = []
    if counts:
        merged = linkage(u.astype(np.float64), "ward")
        for n in counts:
            group = fcluster(merged, n, "maxclust")
            centres.append(np.stack([_mean(u[group == each]) for each in np.unique(group)]))
    return Kin(
        tuple(names) if len(names) > 1 else (),
        np.concatenate(centres) if centres else np.zeros((0, H.shape[-1]), np.float32),
        np.array([len(each) for each in centres], np.int64),
    )


def _unit(H: NDArray[np.float32]) -> NDArray[np.float32]:
    u = np.sqrt(np.maximum(H.mean(axis=(1, 2)), 0))
    length = np.linalg.norm(u, axis=1, keepdims=True)
    found: NDArray[np.float32] = (u / np.maximum(length, 1e-12)).astype(np.float32)
    return found


def _mean(u: NDArray[np.float32]) -> NDArray[np.float32]:
    middle = u.mean(0)
    found: NDArray[np.float32] = middle / np.maximum(np.linalg.norm(middle), 1e-12)
    return found.astype(np.float32)
