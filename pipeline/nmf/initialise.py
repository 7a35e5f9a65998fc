"""Where a fit starts: first concepts W from a sample of positions, or from a random generator.

Notation: V (positions × channels) activations, rows in memory; W (channels × k) concepts.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from pipeline.errors import UserError, suggest

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
    check_k(k)
    if method not in INITS:
        raise UserError(
            f"unknown initialisation {method!r}; there are {', '.join(INITS)}. "
            f"{suggest(method, INITS)}".strip()
        )
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(sample.shape[1], k, generator=generator).abs_().to(sample.device)
    if method == "positions":
        W = _positions(sample, k, generator)
    elif method == "nndsvd":
        W = _nndsvd(sample, k)
    else:
        W = random
    return unit_columns(torch.cat([W, random[:, W.shape[1] :]], dim=1))


def check_k(k: int) -> None:
    """Refuse numbers of concepts below 1."""
    if k < 1:
        raise UserError(f"K must be at least 1, got {k}")


def unit_columns(W: Tensor) -> Tensor:
    """Scale the columns of W (channels, k) to unit length; zero columns stay zero."""
    norms = torch.linalg.vector_norm(W, dim=0)
    unit: Tensor = W / norms.where(norms > 0, 1.0)
    return unit


def _positions(sample: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw up to k positions, each in proportion to what those before leave of it, squared.

    The leftover of v is ‖v‖² − ⟨v, u⟩² for the nearest direction u drawn so far: what one concept
    alone would leave unexplained. Of `CANDIDATES` drawn, the one that leaves least is taken.
    """
    norms = torch.linalg.vector_norm(sample, dim=1)
    squares = leftover = norms.square()
    floor = 1e-6 * float(leftover.sum()) / len(sample)
    drawn: list[Tensor] = []
    for at in torch.rand(k, CANDIDATES, generator=generator, dtype=torch.float64):
        leftover = torch.where(leftover > floor, leftover, 0.0)
        cumulated = leftover.double().cumsum(0)
        if not float(cumulated[-1]) > 0:
            break
        points = at.to(sample.device) * cumulated[-1]
        indices = torch.searchsorted(cumulated, points).clamp(max=len(sample) - 1)
        directions = sample[indices] / norms[indices, None]
        alone = squares - (directions @ sample.T).square()
        left = torch.minimum(leftover, alone)
        best = int(left.sum(dim=1).argmin())
        drawn.append(directions[best])
        leftover = left[best]
    return torch.stack(drawn, dim=1) if drawn else sample.new_empty(sample.shape[1], 0)


def _nndsvd(sample: Tensor, k: int) -> Tensor:
    """Give up to k columns: of each singular pair the half, + or −, that weighs more."""
    gram = (sample.T @ sample).double()
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    U = eigenvectors.flip(1)[:, :k].to(sample.dtype)
    rank = int((eigenvalues.flip(0)[:k] > 1e-10 * eigenvalues[-1].clamp(min=1e-300)).sum())
    scores = sample @ U
    columns = []
    for j in range(rank):
        u, s = U[:, j], scores[:, j]
        plus = u.clamp(min=0), s.clamp(min=0)
        minus = (-u).clamp(min=0), (-s).clamp(min=0)
        heavier = max(plus, minus, key=lambda pair: float(pair[0].norm() * pair[1].norm()))
        columns.append(heavier[0])
    return torch.stack(columns, dim=1) if columns else sample.new_empty(sample.shape[1], 0)
