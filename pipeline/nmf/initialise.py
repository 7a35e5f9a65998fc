"""Where a fit starts: first concepts W from a sample of positions, or from a random generator.

Notation: V (positions × channels) activations, rows in memory; W (channels × k) concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import UserError, suggest
from ..system.threads import all_threads, check_stop

Init = Literal["positions", "nndsvd", "random"]
CANDIDATES = 8  # for each concept; more gain nothing
INITS: tuple[str, ...] = get_args(Init)


def initialise(sample: Tensor, k: int, method: str = "positions", seed: int = 0) -> Tensor:
    """Give first concepts, unit vectors.

    Parameters
    ----------
    sample : Tensor
        (positions, channels) float32, non-negative.
    k : int
        Number of concepts.
    method : {'positions', 'nndsvd', 'random'}
        'positions': activations of k positions that differ in direction, drawn as greedy k-means++
        draws its centres (Arthur and Vassilvitskii, SODA 2007). 'nndsvd': non-negative parts of the
        singular vectors (Boutsidis and Gallopoulos, Pattern Recognition 41, 2008); does not depend
        on the seed. 'random': absolute values of Gaussian numbers, independent of the data.
    seed : int
        Decides every draw.

    Returns
    -------
    Tensor
        (channels, k) float32, on the device of the sample. With fewer distinct positions, or a
        smaller rank, than k the last columns are random.

    Raises
    ------
    UserError
        If the method is unknown or k is below 1.
    """
    (W,) = initialise_each(sample, k, method, [seed])
    return W


def initialise_each(sample: Tensor, k: int, method: str, seeds: Sequence[int]) -> list[Tensor]:
    """Give first concepts for several seeds, drawn in the same products; see `initialise`."""
    check_k(k)
    if method not in INITS:
        raise UserError(
            f"unknown initialisation {method!r}; there are {', '.join(INITS)}. "
            f"{suggest(method, INITS)}".strip()
        )
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    n_channels = sample.shape[1]
    random = torch.stack([torch.randn(n_channels, k, generator=each) for each in generators])
    W = random.abs_().to(sample.device)
    if method == "positions":
        shape = (k, CANDIDATES)
        at = [torch.rand(shape, generator=each, dtype=torch.float64) for each in generators]
        drawn, found = _positions(sample, torch.stack(at).to(sample.device))
        W = torch.where(found[:, None], drawn, W)
    elif method == "nndsvd":
        columns = _nndsvd(sample, k)
        W[:, :, : columns.shape[1]] = columns
    return [unit_columns(each) for each in W]


def check_k(k: int) -> None:
    """Refuse numbers of concepts below 1."""
    if k < 1:
        raise UserError(f"K must be at least 1, got {k}")


def unit_columns(W: Tensor) -> Tensor:
    """Scale the columns of W (channels, k) to unit length; zero columns stay zero."""
    norms = torch.linalg.vector_norm(W, dim=0)
    unit: Tensor = W / norms.where(norms > 0, 1.0)
    return unit


def _positions(sample: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Draw positions, each in proportion to what those before leave of it, squared.

    The leftover of v is ‖v‖² − ⟨v, u⟩² for the nearest direction u drawn so far: what one concept
    alone would leave unexplained. Of several drawn, the one that leaves least is taken.

    Parameters
    ----------
    sample : Tensor
        (positions, channels).
    at : Tensor
        (starts, k, candidates) float64, 0 to 1: random numbers.

    Returns
    -------
    drawn : Tensor
        (starts, channels, k): unit vectors.
    found : Tensor
        (starts, k) bool: where there are any; those before leave nothing otherwise.
    """
    n_starts, k, n_candidates = at.shape
    norms = torch.linalg.vector_norm(sample, dim=1)
    squares = norms.square()
    floor = 1e-6 * float(squares.sum()) / len(sample)
    leftover = squares.expand(n_starts, -1)
    drawn = sample.new_zeros(n_starts, k, sample.shape[1])
    found = torch.zeros(n_starts, k, dtype=torch.bool, device=sample.device)
    each = torch.arange(n_starts, device=sample.device)
    for j in range(k):
        check_stop()
        leftover = torch.where(leftover > floor, leftover, 0.0)
        cumulated = leftover.double().cumsum(1)
        total = cumulated[:, -1:]
        found[:, j] = total[:, 0] > 0
        points = torch.searchsorted(cumulated, at[:, j] * total).clamp_(max=len(sample) - 1)
        directions = sample[points] / norms[points].clamp(min=floor**0.5)[:, :, None]
        with all_threads():
            cosines = directions.flatten(0, 1) @ sample.T
        alone = squares - cosines.square_().view(n_starts, n_candidates, -1)
        left = torch.minimum(leftover[:, None], alone)
        best = left.sum(dim=2).argmin(dim=1)
        drawn[:, j] = directions[each, best]
        leftover = left[each, best]
    return drawn.transpose(1, 2), found


@all_threads()
def _nndsvd(sample: Tensor, k: int) -> Tensor:
    """Give up to k columns: of each singular pair the half, + or −, that weighs more."""
    gram = (sample.T @ sample).double()
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    U = eigenvectors.flip(1)[:, :k].to(sample.dtype)
    rank = int((eigenvalues.flip(0)[:k] > 1e-10 * eigenvalues[-1].clamp(min=1e-300)).sum())
    scores = sample @ U
    columns = []
    for j in range(rank):
        check_stop()
        u, s = U[:, j], scores[:, j]
        plus = u.clamp(min=0), s.clamp(min=0)
        minus = (-u).clamp(min=0), (-s).clamp(min=0)
        heavier = max(plus, minus, key=lambda pair: float(pair[0].norm() * pair[1].norm()))
        columns.append(heavier[0])
    return torch.stack(columns, dim=1) if columns else sample.new_empty(sample.shape[1], 0)
