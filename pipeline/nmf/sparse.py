"""Fit concepts by the thousand to a sample, of which each position has few.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0, at most `n_active` strengths of a position > 0.

W starts at positions drawn by energy. Steps find H by pursuit, at first of one concept a position,
then of two, four and so on: what one concept alone explains is well determined, and the next ones
find what it leaves. Each step descends in W for this H, from HHt and VHt (HALS). What hardly any
position needs, or what is nearly another concept, starts anew from what is explained worst.

Who fits shortens positions before, by a power of their length (`lengths`, `power_of`): of 1,024
concepts of MobileNetV2, fitted to ten classes, the energy explained of other images was, by it,

| active | 0 | ¼ | ⅓ | ½ | 1 |
|---|---|---|---|---|---|
| 16 | 0.532 | 0.536 | 0.537 | 0.540 | 0.545 |
| 32 | 0.567 | 0.576 | 0.578 | 0.584 | 0.599 |

and of SqueezeNet, most of whose positions are next to nothing, 0.909, 0.909 (½), 0.907 (1). But
the more positions count alike the less of a concept's energy stands where its parent in a tree
does: 0.904, 0.903, 0.900, 0.889, 0.88 of 512 concepts under 128, 16 active.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ..system.threads import all_threads, check_stop, one_thread
from .apart import kept_apart, renew, twins
from .data import check, squares_of_rows
from .descent import Progress, Record
from .hals import hals
from .initialise import check_k, unit_columns
from .merge import joined, pair_losses
from .pursuit import Codes, Pursuit
from .sampling import coarse
from .stats import Stats, relative_error

DENSE = 128  # concepts, at most, of which positions have as many as explain most
N_ACTIVE = 16  # concepts of a position of more of them
SHORTENED = 64  # concepts of a position from which on all positions count alike, see `power_of`
SAMPLE_EACH = 24  # positions per concept
LEAST_SAMPLE = 24_000  # positions: of fewer, rare concepts stand at too few
LAST = 6, 32  # steps with all concepts that a position may have: least and most, see `n_last`
BEGUN = 0.5  # of the sample, on which strengths rise: on all of it concepts explain 0.001 less
SWEEPS = 1  # of HALS per step: of two, ends are no better
FEW = 3  # positions that a concept stands at, at least
MOVED = 0.2  # share of the concepts that are moved, by joining pairs, in a step at most
MOST_MOVED = 32  # so moved in a step, however many concepts there are
REPAIRS = 4  # steps more, at most, while a concept is dead or double
SUPPORT = 0.1  # of what is left of a position: what of it counts for a new direction
CONTENDERS = 4_096  # positions among which the worst explained are sought


@dataclass(frozen=True, eq=False)
class SparseFit:
    """Concepts fitted to a sample.

    Attributes
    ----------
    W : Tensor
        (channels, k) float32, unit columns, on the device of the sample.
    history : list of (phase, step, error)
        Every step; phase is 'sample'.
    reseeded : int
        How often a concept was started anew.
    """

    W: Tensor
    history: list[Record]
    reseeded: int


def sparse_sample_size(k: int) -> int:
    """Give the number of positions, drawn by energy, on which to find k concepts."""
    return max(LEAST_SAMPLE, SAMPLE_EACH * k)


def active_of(active: int | Literal["auto", "none"], k: int) -> int | None:
    """Give how many concepts a position has at most; None: as many as explain most.

    What is `auto` leaves few concepts dense, and gives more of them `N_ACTIVE`.
    """
    if active == "none" or (active == "auto" and k <= DENSE):
        return None
    return N_ACTIVE if active == "auto" else min(active, k)


def power_of(active: int) -> float:
    """Give the power of their length that positions are best shortened by.

    A quarter of 16 concepts a position, a half of 32: the more there are, the more is left for what
    short positions have.
    """
    return min(1.0, active / SHORTENED)


def fit_sparse_sample(
    sample: Tensor,
    k: int,
    n_active: int,
    *,
    seed: int = 0,
    W0: Tensor | None = None,
    n_full: int | None = None,
    progress: Progress | None = None,
) -> SparseFit:
    """Fit concepts to a sample in memory.

    Parameters
    ----------
    sample : Tensor
        (positions, channels) float32, non-negative: drawn by energy, see `draw`.
    k : int
        Number of concepts.
    n_active : int
        Concepts that a position has at most.
    seed : int
        Decides where concepts start.
    W0 : Tensor, optional
        (channels, k): concepts to start from instead; all steps are then with `n_active`.
    n_full : int, optional
        Steps with `n_active`; `n_last` of k by default.
    progress : callable, optional
        Called with (phase, step, relative error) after each step.

    Raises
    ------
    UserError
        k is below 1, or the sample cannot be factorized.
    """
    check_k(k)
    check(sample, "the sample to factorize")
    generator = torch.Generator().manual_seed(seed)
    W = _drawn(sample, k, generator) if W0 is None else unit_columns(W0.float().to(sample.device))
    rising = _rising(n_active) if W0 is None else []
    rough = coarse(sample)
    begun = sample[: max(k, int(len(sample) * BEGUN))]
    begun_sq, sample_sq = (float(squares_of_rows(each).sum()) for each in (begun, sample))
    history: list[Record] = []
    n_reseeded, n_all = 0, len(rising) + (n_last(k) if n_full is None else n_full)
    gram = W.T @ W
    for step in range(n_all + REPAIRS):
        check_stop()
        is_rising = step < len(rising)
        rows, v_sq = (begun, begun_sq) if is_rising else (sample, sample_sq)
        pursuit = Pursuit.of(W, rising[step] if is_rising else n_active, gram)
        codes = pursuit.codes(rough[: len(rows)])
        stats = replace(pursuit.stats(rows, codes), v_sq=v_sq)
        history.append(("sample", step, relative_error(W, stats, gram)))
        if progress is not None:
            progress(*history[-1])
        before, W = W, _descended(W, stats)
        if step >= n_all - 1:
            W = kept_apart(W, before, stats.h_sq)
        gram = W.T @ W
        poor = _poor(gram, codes).tolist()
        if step >= n_all - 1 and not poor:
            break
        if step < n_all + REPAIRS - 1:
            most = min(MOST_MOVED, math.ceil(MOVED * k)) if step < n_all - 1 else 0
            W, anew, joint = _moved(rows, W, gram, codes, stats, poor, most, seed + step)
            renew(gram, W, torch.tensor(anew + joint, dtype=torch.int64, device=W.device))
            n_reseeded += len(anew)
    return SparseFit(W, history, n_reseeded)


def _descended(W: Tensor, stats: Stats) -> Tensor:
    """Descend in W for the H behind the statistics; give unit columns."""
    with one_thread():
        moved = hals(W.T.cpu().contiguous(), stats.HHt.float(), stats.VHt.T.float(), SWEEPS)
        return unit_columns(moved.T).contiguous().to(W.device)


def n_steps(n_active: int, n_full: int) -> int:
    """Give the number of steps of a fit from positions, so many of them with `n_active`."""
    return len(_rising(n_active)) + n_full


def n_last(k: int) -> int:
    """Give the number of steps with all concepts that a position may have.

    Steps cost as k and more: there are 6 of 1,024 concepts or more, 17 of 512, and 32 of up to 335.
    Of 60 planted concepts, four sets, 51 to 57 came back after 6 to 8, 56 to 60 after 16, all
    after 32.
    """
    least, most = LAST
    return max(least, min(most, math.ceil(least * math.sqrt((1_024 / k) ** 3))))


def _rising(n_active: int) -> list[int]:
    """Give 1, 2, 4, … below the number of concepts that a position may have."""
    return [1 << power for power in range((n_active - 1).bit_length())]


def _drawn(sample: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Give directions of k positions, at random; with fewer, of random numbers too."""
    order = torch.randperm(len(sample), generator=generator)[:k].to(sample.device)
    drawn = sample[order].T
    if drawn.shape[1] < k:
        random = torch.randn(len(drawn), k - drawn.shape[1], generator=generator).abs_()
        drawn = torch.cat([drawn, random.to(drawn)], dim=1)
    return unit_columns(drawn).contiguous()


def _poor(gram: Tensor, codes: Codes) -> Tensor:
    """Give the concepts that hardly any position has, or that are nearly one that more have."""
    k = len(gram)
    counts = torch.bincount(codes.concepts[codes.strengths > 0].long(), minlength=k)
    is_poor = counts < FEW
    is_poor[twins(gram, counts)[1]] = True
    order = counts.argsort(descending=True, stable=True)
    poor: Tensor = order[is_poor[order]]
    return poor


def _moved(
    sample: Tensor,
    W: Tensor,
    gram: Tensor,
    codes: Codes,
    stats: Stats,
    poor: list[int],
    n_pairs: int,
    seed: int,
) -> tuple[Tensor, list[int], list[int]]:
    """Move concepts to what positions leave unexplained; give W, which, and which took them in.

    Those that are poor, and one of the two of each of so many pairs whose merger loses less than
    another concept would gain: between two concepts that share what one could do and something that
    none does lies a rise of the error, which descent does not climb.
    """
    directions, gains = _missing(sample, W, codes, len(poor) + n_pairs, seed)
    pairs = _cheap_pairs(gram, stats, set(poor), n_pairs)
    W, anew, joint = W.clone(), list[int](), list[int]()
    for at, (direction, gain) in enumerate(zip(directions.T, gains, strict=True)):
        if at < len(poor):
            W[:, poor[at]] = direction
            anew.append(poor[at])
        elif at - len(poor) < len(pairs):
            loss, a, b = pairs[at - len(poor)]
            if gain <= loss:
                break
            W[:, a], W[:, b] = joined(W, stats, a, b), direction
            anew.append(b)
            joint.append(a)
    return W, anew, joint


@all_threads()
def _cheap_pairs(
    gram: Tensor, stats: Stats, taken: set[int], most: int
) -> list[tuple[float, int, int]]:
    """Give the pairs whose mergers lose least, no concept in two of them, with their losses."""
    losses = pair_losses(gram, stats)
    least, partner = losses.min(1), losses.argmin(1)
    pairs: list[tuple[float, int, int]] = []
    for a in least.argsort(kind="stable").tolist():
        b = int(partner[a])
        if len(pairs) < most and a not in taken and b not in taken:
            pairs.append((float(least[a]), a, b))
            taken = taken | {a, b}
    return pairs


@all_threads()
def _missing(
    sample: Tensor, W: Tensor, codes: Codes, n: int, seed: int
) -> tuple[Tensor, list[float]]:
    """Give directions of what is unexplained, and the energy that a concept of each would gain.

    Both by falling gain. Positions count of whose remainder a direction explains `SUPPORT`, but not
    those that directions are of: of noise, that is all there is to gain.
    """
    generator = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(sample), generator=generator)[:CONTENDERS].to(sample.device)
    concepts, strengths = codes.concepts[some], codes.strengths[some]
    rows = W.T.contiguous()
    left = sample[some] - embedding_bag(concepts, rows, per_sample_weights=strengths, mode="sum")
    squares = left.square().sum(1)
    above = left.clamp(min=0)
    weights = above.square().sum(1).double().cpu()
    n = min(n, int((weights > 0).sum()))
    if n == 0:
        return W[:, :0], []
    drawn = torch.multinomial(weights, n, generator=generator).to(left.device)
    directions = unit_columns(above[drawn].T)
    along, nearest = (left @ directions).max(1)
    alike = along.clamp(min=0).square_()
    alike[(alike < SUPPORT * squares).scatter(0, drawn, True)] = 0
    gains = alike.new_zeros(n).index_add_(0, nearest, alike)
    gains *= len(sample) / len(some)
    order = gains.argsort(descending=True, stable=True)
    return directions[:, order], gains[order].tolist()
