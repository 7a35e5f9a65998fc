"""Does the network take what stands where a concept is for a class, or for a group of classes?

Notation: of an image in which concept j is strong, x = Σ_p h_jp V_p / Σ_p h_jp over the positions
where it is present: its mean activation there; π(x) the head's probabilities on x, tiled; for a
group G of classes its *mass* π_G(x) = Σ_{c in G} π_c(x).

The strongest images are parted by rank. Those of even rank choose a group, those of odd rank test
it, so that the choice among hundreds of groups costs nothing; so is what they are compared with, or
a group would be chosen that happens to be rare there. They are compared with *moved* maps: the same
kind of mean, of the concept's own maps laid on images in which it is not. Other concepts' maps
would not do: a map along a border finds borders wherever it is laid. The nearest in norm count, for
longer activations are surer of whatever they are.

Under the null images and moved maps of like norm change places: the p is of the images' mean mass
among means of such permutations.

A verdict wants more than p: a mass of `LEAST_MASS`, and odds π / (1 − π) of `ODDS_OVER_MOVED` times
those of moved maps. A group of unrelated classes seldom has either. Odds, for of animals, which are
two fifths of ImageNet, moved maps have a quarter, and no mass is five times that.

References
----------
Bentley, J. & Floyd, R. (1987). Programming pearls: a sample of brilliance.
Phipson, B. & Smyth, G. (2010). Permutation p-values should never be zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

N_NEAREST, FEWEST_NEAREST, FEWEST_MOVED = 32, 4, 48
"""Moved maps that an image of a concept is compared with, and how many there must be at least."""

SHARE_NEAREST = 16
"""They are a sixteenth of those there are: among half of them an image of large norm would have all
of its neighbours below, and less could be said of what it has more of."""

N_DRAWS = 4_000

STRATUM = 4
"""Images of neighbouring norms that change places with moved maps of the same norms."""

CHOSEN_MASS, LEAST_MASS, ODDS_OVER_MOVED = 0.25, 0.2, 5.0
"""Mass that a group must have to be chosen, and to hold; and its odds, over those of moved maps."""

ENOUGH = 0.95
"""Of the largest divergence: of groups that say so much the smallest is chosen, for classes that
add next to nothing are none that the concept is taken for."""

LEAST_MOVED = 1e-3
"""Mass of moved maps below which all is alike: a group is not the better for being unheard of."""

FEWEST = 4
"""Images in each half, at least."""


@dataclass(frozen=True)
class Places:
    """Places of one concept, and what the head makes of each.

    Parameters
    ----------
    norms : Tensor
        float32 (m,), of x.
    masses : Tensor
        float32 (m, groups).
    """

    norms: torch.Tensor
    masses: torch.Tensor

    def halves(self) -> tuple[Places, Places]:
        """Return those of even and of odd place."""
        even, odd = (Places(self.norms[at::2], self.masses[at::2]) for at in (0, 1))
        return even, odd


@dataclass(frozen=True)
class Taken:
    """What a concept is taken for.

    Parameters
    ----------
    group : int
        Of the tree; -1 where no group has mass enough to be chosen.
    mass, moved : float
        Mean mass on the tested images, and on moved maps.
    p : float
        1 where there is no group, or too few images.
    """

    group: int
    mass: float
    moved: float
    p: float

    @property
    def is_clear(self) -> bool:
        """Whether the mass itself is enough for a verdict."""
        return bool(stands_out(np.array(self.mass), np.array(self.moved)))


def stands_out(mass: NDArray[np.float64], moved: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which masses are large, and large beside those of moved maps; NaN is neither."""
    odds = mass * (1 - moved) >= ODDS_OVER_MOVED * moved * (1 - mass)
    return np.asarray((mass >= LEAST_MASS) & odds)


NOTHING = Taken(-1, float("nan"), float("nan"), 1.0)


def take(
    own: Places,
    moved: Places,
    sizes: NDArray[np.int64],
    seed: int = 0,
    least: float = CHOSEN_MASS,
) -> Taken:
    """Choose the group that a concept is taken for, and test it.

    Parameters
    ----------
    own : Places
        The concept's strong places, the strongest image first.
    moved : Places
        Its maps moved to images in which it is not.
    sizes : ndarray
        int64 (n,): the first n groups may be chosen, and have so many classes; single classes are
        the first of a tree.
    seed : int
        Of the draws.
    least : float
        Mass that a group must have to be chosen.
    """
    if len(own.norms) < 2 * FEWEST or len(moved.norms) < FEWEST_MOVED:
        return NOTHING
    (first, second), (first_moved, second_moved) = own.halves(), moved.halves()
    n, near = len(sizes), _nearest(first.norms, first_moved.norms)
    chosen = _choose(first.masses[:, :n], first_moved.masses[near][..., :n], sizes, least)
    if chosen < 0:
        return NOTHING
    near = _nearest(second.norms, second_moved.norms)
    mass, others = (each.masses[:, chosen].double().numpy() for each in (second, second_moved))
    used = np.unique(near.numpy())
    norms = (second.norms.numpy(), second_moved.norms.numpy()[used])
    p = permuted(mass, others[used], norms, seed)
    return Taken(chosen, float(mass.mean()), float(others[near.numpy()].mean()), p)


def permuted(
    own: NDArray[np.float64],
    others: NDArray[np.float64],
    norms: tuple[NDArray[Any], NDArray[Any]] | None = None,
    seed: int = 0,
) -> float:
    """Return p of the sum of m values, under permutations with others of like norm.

    Own and others change places within strata of `STRATUM` own values next to each other in norm,
    so that others that are few, and shared by many values, count as what they are.

    Parameters
    ----------
    own, others : ndarray
        float64 (m,), (n,).
    norms : tuple of ndarray, optional
        Floating point, (m,), (n,); all are alike without.
    seed : int
        Of the draws.
    """
    values = np.concatenate([own, others])
    stratum = np.zeros(len(values), np.int64)
    if norms is not None:
        ordered = np.sort(norms[0])
        # Between two own values: an edge on one would put own ones lower in every stratum.
        edges = (ordered[STRATUM::STRATUM] + ordered[STRATUM - 1 : -1 : STRATUM]) / 2
        stratum = np.searchsorted(edges, np.concatenate(norms), side="right")
    random, sums = np.random.default_rng(seed), np.zeros(N_DRAWS)
    for each in np.unique(stratum[: len(own)]):
        rows = stratum == each
        n, pool = int(rows[: len(own)].sum()), values[rows]
        sums += pool[_drawn(random, n, len(pool))].sum(1)
    reached = int((sums >= own.sum() * (1 - 1e-12)).sum())
    return (1 + reached) / (1 + N_DRAWS)


def _drawn(random: np.random.Generator, n: int, of: int) -> NDArray[np.int64]:
    """Draw n of so many without replacement, `N_DRAWS` times: int64 (draws, n); Floyd's way."""
    taken = np.empty((N_DRAWS, n), np.int64)
    for at, last in enumerate(range(of - n, of)):
        drawn = random.integers(0, last + 1, N_DRAWS)
        again = (taken[:, :at] == drawn[:, None]).any(1)
        taken[:, at] = np.where(again, last, drawn)
    return taken


def _nearest(norms: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the rows of `others` that are nearest to each norm, int64 (m, n)."""
    n = min(N_NEAREST, max(FEWEST_NEAREST, len(others) // SHARE_NEAREST))
    return (norms[:, None] - others).abs().topk(n, dim=1, largest=False).indices


def _choose(own: torch.Tensor, moved: torch.Tensor, sizes: NDArray[np.int64], least: float) -> int:
    """Return the smallest group that says next to most, by the divergence of a yes or no.

    Parameters
    ----------
    own, moved : Tensor
        float32 (m, groups), (m, n, groups).
    sizes : ndarray
        int64 (groups,), classes of each.
    least : float
        Mass that it must have.

    Returns
    -------
    int
        -1: none has enough.
    """
    a = own.double().mean(0).clamp(1e-12, 1 - 1e-6)
    b = moved.double().mean((0, 1)).clamp(LEAST_MOVED, 1 - 1e-6)
    may_be = (a >= least) & (a > b)
    if not may_be.any():
        return -1
    divergence = a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()
    says = torch.where(may_be, divergence, -torch.inf).numpy()
    near = np.flatnonzero(says >= ENOUGH * says.max())
    smallest = near[sizes[near] == sizes[near].min()]
    return int(smallest[says[smallest].argmax()])
