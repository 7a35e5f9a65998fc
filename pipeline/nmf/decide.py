"""The rule by which the number of concepts is chosen, once `choose` has the evidence.

Notation: V (positions × channels) activations, W (channels × k) concepts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .passes import ENCODE_TOL
from .solve import encode
from .splits import Images

CLEARLY = 0.05  # of the energy: of one set, two shuffles differed by 0.035
ENOUGH = 0.95  # of the energy that the best candidate foretells, see `fewest`
SHARED = 2.0  # images that the median concept stands in, at least
Row = dict[str, float | int | bool]


def decide(rows: Sequence[Row], control: Sequence[Row]) -> tuple[int, bool]:
    """Apply the rule to the evidence.

    Of the candidates near the best (see `near_best`) the largest that passes the control (see
    `passes`) is taken: a concept that some replicates miss can make their mean worse than that of
    fewer concepts, and the spread says so.

    Parameters
    ----------
    rows, control : sequence of dict
        With k, bicv_error, split_stability, of the data and of the shuffled data; the latter at
        least for the candidates near the best.

    Returns
    -------
    k : int
        The choice.
    flagged : bool
        Whether no k was stable.
    """
    errors = {int(row["k"]): _column(rows, int(row["k"]), "bicv_error") for row in rows}
    near = near_best(rows)
    if not near:
        return min(errors), True

    stable = [k for k in near if passes(k, rows, control)]
    best = min(errors, key=lambda k: float(errors[k].mean()))
    return (max(stable), False) if stable else (best, True)


def passes(k: int, rows: Sequence[Row], control: Sequence[Row]) -> bool:
    """Say whether a candidate passes the control.

    It does if in every replicate it leaves clearly less of the held-out energy (the squared error)
    than predicting nothing would, and than concepts of the shuffled data leave of theirs; and if
    its median stability exceeds theirs. Shuffled data set a standard of stability only where their
    concepts clearly predict something: where channels are sparse, fits of shuffled data settle on
    the strongest single channels, reliably and to no purpose.

    Parameters
    ----------
    k : int
        The candidate.
    rows, control : sequence of dict
        As for `decide`.
    """
    errors, chance = (_column(each, k, "bicv_error") for each in (rows, control))
    standard = _column(control, k, "split_stability")[chance**2 < 1 - CLEARLY]
    found = np.median(_column(rows, k, "split_stability"))
    predicts = errors.max() ** 2 < (1 - CLEARLY) * min(1.0, chance.min() ** 2)
    return bool(predicts and (len(standard) == 0 or found > np.median(standard)))


def fewest(rows: Sequence[Row]) -> int:
    """Return the least k that foretells `ENOUGH` of the energy that the best one foretells.

    Of many concepts twice as many foretell a few hundredths more, and are what halves of the images
    agree on less: 0.87 for 32, 0.57 for 128 of photographs of ten classes, for 0.346 and 0.373.

    Parameters
    ----------
    rows : sequence of dict
        With k and bicv_error, one each, of one split.
    """
    foretold = {int(row["k"]): 1 - float(row["bicv_error"]) ** 2 for row in rows}
    most = max(foretold.values())
    return min(k for k, each in foretold.items() if each >= min(most, ENOUGH * most))


def near_best(rows: Sequence[Row]) -> list[int]:
    """Return the candidates within one standard error of the least bi-cross-validated error.

    The standard error is that of the difference to the best k: replicates split images and channels
    alike for all k, and how hard a split is says nothing about k.

    Parameters
    ----------
    rows : sequence of dict
        With k and bicv_error.

    Returns
    -------
    list of int
        In rising order; none where the images were too few to split.
    """
    ks = sorted({int(row["k"]) for row in rows})
    errors = {k: _column(rows, k, "bicv_error") for k in ks}
    if any(np.isnan(error).any() for error in errors.values()):
        return []
    best = min(ks, key=lambda k: float(errors[k].mean()))
    near = []
    for k in ks:
        worse = errors[k] - errors[best]
        if worse.mean() <= (worse.std(ddof=1) / len(worse) ** 0.5 if len(worse) > 1 else 0):
            near.append(k)
    return near


def images_of(V: Tensor, W: Tensor, image_of_position: Images) -> float:
    """Return in how many images the median concept stands.

    The inverse of Simpson's index: 1 / Σ_i s_i² of the shares s_i of a concept's energy in image i.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32.
    W : Tensor
        (channels, k) float32.
    image_of_position : ndarray or Tensor
        (positions,) int64.
    """
    index = torch.unique(torch.as_tensor(image_of_position), return_inverse=True)[1].to(V.device)
    squares = encode(V, W.to(V.device), tol=ENCODE_TOL).double().square()
    energy = squares.new_zeros(int(index.max()) + 1, W.shape[1]).index_add(0, index, squares)
    shares = energy / energy.sum(0).clamp_min(1e-30)
    return float((1 / shares.square().sum(0).clamp_min(1e-30))[energy.sum(0) > 0].median())


def _column(rows: Sequence[Row], k: int, name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows if row["k"] == k], dtype=np.float64)
