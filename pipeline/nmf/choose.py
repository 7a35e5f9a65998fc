"""Choose the number of concepts by evidence from held-out images, and say how stable concepts are.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ. Every split is by image: positions of one image are alike.

The error on held-out positions with H refitted falls for ever with k, and concepts of two seeds
agree even where there is nothing to find. So k is judged by two things that noise cannot feign:
the bi-cross-validated error (Owen and Perry, Annals of Applied Statistics 3, 2009: held-out images,
H from half of the channels, the error on the other half) and the agreement of fits on disjoint
halves of the images, each against the same for data whose channels were shuffled independently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import UserError
from pipeline.nmf.consensus import consensus
from pipeline.nmf.data import check
from pipeline.nmf.denormals import flush_denormals
from pipeline.nmf.descent import Fit
from pipeline.nmf.evaluate import gram, match, svd_errors
from pipeline.nmf.passes import ENCODE_TOL, block_stats
from pipeline.nmf.sampling import Start, fit_sample, fit_samples
from pipeline.nmf.solve import Encoder
from pipeline.nmf.splits import Images, Split, bi_cv_errors, halves, shuffle_channels
from pipeline.nmf.stats import relative_error

TOL = 3e-5  # of the relative error a step: a tenth of the differences between neighbouring k
HALVINGS = 3  # of the channels; the median of them forgives one that cuts a narrow concept in two
Row = dict[str, float | int | bool]


@dataclass(frozen=True, eq=False)
class KChoice:
    """A number of concepts and the evidence for it.

    Attributes
    ----------
    k : int
        The choice.
    flagged : bool
        No stable k: no candidate within one standard error of the best passed the control, and the
        choice is the least bi-cross-validated error alone.
    rows : list of dict
        One a candidate and replicate: k, seed, error, heldout_error, bicv_error, seed_stability,
        split_stability, svd_error, chosen; NaN where the images were too few to split.
    control : list of dict
        One a candidate and replicate, of the shuffled data: k, seed, bicv_error, split_stability.
    W : Tensor
        (channels, k) float32, unit columns: the consensus of the replicates at the chosen k, to
        start a fit from.
    """

    k: int
    flagged: bool
    rows: list[Row]
    control: list[Row]
    W: Tensor


def choose_k(
    V: Tensor,
    image_of_position: Images,
    ks: Sequence[int],
    *,
    seed: int = 0,
    n_replicates: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> KChoice:
    """Choose the number of concepts.

    The largest k within one standard error of the least bi-cross-validated error that passes the
    control (see `decide`); if there is none, the least error, flagged.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32, non-negative: a sample, several positions of many images.
    image_of_position : ndarray or Tensor
        (positions,) int64: which image each position is from.
    ks : sequence of int
        Candidates; a single one is chosen whatever its evidence, flagged if it is not stable.
    seed : int
        Decides all splits and starts.
    n_replicates : int
        Fits on all of the sample, and splits into halves, for each candidate.
    progress : callable, optional
        Called with (candidates done, candidates).

    Returns
    -------
    KChoice
        Deterministic for one thread count.

    Raises
    ------
    UserError
        If there is no candidate, one is below 1, or the data cannot be factorized.
    """
    ks = sorted(set(ks))
    if not ks or ks[0] < 1:
        raise UserError(f"K needs numbers of at least 1 to choose from, got {list(ks)}")
    flush_denormals()
    check(V, "the sample to choose K on")
    splits = [halves(image_of_position, seed + r) for r in range(n_replicates)]
    shuffled = shuffle_channels(V, seed)
    floors = svd_errors(gram([V]), ks)
    rows: list[Row] = []
    control: list[Row] = []
    replicates: dict[int, list[Tensor]] = {}
    for done, (k, floor) in enumerate(zip(ks, floors, strict=True)):
        starts = [Start(k, seed + r) for r in range(n_replicates)]
        whole = fit_samples(V, starts, tol=TOL)
        replicates[k] = [fit.W for fit in sorted(whole, key=lambda fit: fit.error)]
        rows += [row | {"svd_error": floor} for row in _evidence(V, whole, splits, seed)]
        control += [_halves_apart(shuffled, split, k, seed + r) for r, split in enumerate(splits)]
        if progress is not None:
            progress(done + 1, len(ks))
    k, flagged = decide(rows, control)
    rows = [row | {"chosen": row["k"] == k} for row in rows]
    return KChoice(k, flagged, rows, control, consensus(replicates[k], seed))


def decide(rows: Sequence[Row], control: Sequence[Row]) -> tuple[int, bool]:
    """Apply the rule to the evidence.

    The standard error is that of the difference to the best k: replicates split images and channels
    alike for all k, and how hard a split is says nothing about k.

    A candidate passes the control if every replicate's bi-cross-validated error lies below each
    one of the shuffled data's, and below 1, the error of predicting nothing; and if its median
    stability exceeds theirs. Shuffled data set a standard of stability only where their concepts
    predict something: where channels are sparse, fits of shuffled data settle on the strongest
    single channels, reliably and to no purpose.

    Parameters
    ----------
    rows, control : sequence of dict
        With k, bicv_error, split_stability, of the data and of the shuffled data.

    Returns
    -------
    k : int
        The choice.
    flagged : bool
        Whether no k was stable.
    """
    ks = sorted({int(row["k"]) for row in rows})
    errors = {k: _column(rows, k, "bicv_error") for k in ks}
    if any(np.isnan(error).any() for error in errors.values()):
        return ks[0], True
    best = min(ks, key=lambda k: float(errors[k].mean()))

    def within(k: int) -> bool:
        worse = errors[k] - errors[best]
        return bool(
            worse.mean() <= (worse.std(ddof=1) / len(worse) ** 0.5 if len(worse) > 1 else 0)
        )

    def passes(k: int) -> bool:
        chance = _column(control, k, "bicv_error")
        standard = _column(control, k, "split_stability")[chance < 1]
        found = np.median(_column(rows, k, "split_stability"))
        predicts = errors[k].max() < min(1.0, chance.min())
        return bool(predicts and (len(standard) == 0 or found > np.median(standard)))

    stable = [k for k in ks if within(k) and passes(k)]
    return (max(stable), False) if stable else (best, True)


def stability(
    V: Tensor,
    image_of_position: Images,
    W: Tensor,
    *,
    seed: int = 0,
    n_replicates: int = 3,
) -> NDArray[np.float64]:
    """Say for each concept how well it is found again on either half of the images.

    Parameters
    ----------
    V : Tensor
        (positions, channels) float32, non-negative: a sample.
    image_of_position : ndarray or Tensor
        (positions,) int64.
    W : Tensor
        (channels, k): the concepts asked about.
    seed : int
        Decides splits and starts.
    n_replicates : int
        Splits to average over.

    Returns
    -------
    ndarray
        (k,) float64 from 0 to 1: cosine between the concept's partners in the fits on the two
        halves; NaN where the images cannot be split.
    """
    found = []
    for r in range(n_replicates):
        split = halves(image_of_position, seed + r)
        if split is None:
            return np.full(W.shape[1], np.nan)
        pair = [fit_sample(V[half], W.shape[1], seed=seed + r, tol=TOL).W for half in split]
        a, b = (half[:, match(W, half)[0]] for half in pair)
        found.append(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))
    return torch.stack(found).mean(0).numpy().astype(np.float64)


def _evidence(
    V: Tensor, whole: Sequence[Fit], splits: Sequence[Split | None], seed: int
) -> list[Row]:
    """Give the rows of one k from its fits on everything, all but its floor and the choice."""
    rows: list[Row] = []
    for r, split in enumerate(splits):
        others = [fit.W for i, fit in enumerate(whole) if i != r]
        again = [_median(match(whole[r].W, other)[1]) for other in others]
        row: Row = {
            "error": whole[r].error,
            "seed_stability": float(np.mean(again)) if again else float("nan"),
        }
        rows.append(_halves_apart(V, split, whole[r].W.shape[1], seed + r) | row)
    return rows


def _halves_apart(V: Tensor, split: Split | None, k: int, seed: int) -> Row:
    """Fit both halves and judge each by the other: a row without the fit on everything."""
    names = ("heldout_error", "bicv_error", "split_stability")
    if split is None:
        return {"k": k, "seed": seed} | dict.fromkeys(names, float("nan"))
    parts = [V[half] for half in split]
    fits = [fit_sample(part, k, seed=seed, tol=TOL).W.to(V.device) for part in parts]
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(V.shape[1], generator=generator) for _ in range(HALVINGS)]
    halvings = [order < V.shape[1] // 2 for order in orders]
    heldout, bicv = [], []
    for W, other in zip(fits, reversed(parts), strict=True):
        (stats,) = block_stats(other, [Encoder.of(W, tol=ENCODE_TOL)], 0)
        heldout.append(relative_error(W, stats))
        bicv.append(np.median(bi_cv_errors(other, W, halvings)))
    measured = (float(np.mean(heldout)), float(np.mean(bicv)), _median(match(*fits)[1]))
    return {"k": k, "seed": seed} | dict(zip(names, measured, strict=True))


def _column(rows: Sequence[Row], k: int, name: str) -> NDArray[np.float64]:
    return np.array([row[name] for row in rows if row["k"] == k], dtype=np.float64)


def _median(cosines: Tensor) -> float:
    return float(np.median(cosines.numpy()))
