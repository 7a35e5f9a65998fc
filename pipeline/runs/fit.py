"""The one way concepts are fitted to stored activations: for runs, analysis and benchmarks.

Notation: V (positions × channels) transformed activations, W (channels × k) concepts, H (positions
× k) strengths; V ≈ H Wᵀ. A sample of V chooses k and gives the consensus of several seeds; from
there W is fitted to all positions of the fit images, and its gauge fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Never

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from .. import nmf
from ..config import K_AUTO, K_FURTHER, K_TREE, ks_of
from ..errors import UserError, option
from ..store import (
    PositionBlocks,
    ShardStore,
    UnfinishedFit,
    sample_by_energy,
    sample_positions,
    whole_images,
)
from ..system.progress import bar, say
from .active import active_of

N_SAMPLE = 20_000
"""Positions on which thresholds and the floor are measured."""

N_EVIDENCE = 8_000
"""Of these, the first so many give the evidence for k and for stability: dozens of fits."""

N_TAUGHT = 40_000
"""Positions of whole images that concepts learn from what the network says of them."""

MAX_PASSES = 10
"""Passes over all positions at most; two or three are usual."""

MAX_PASSES_SPARSE = 2
"""The same where a position has few concepts: a third explains 0.0013 of held-out energy more, and
the tree brings one of its own."""


@dataclass(frozen=True)
class FitData:
    """What a fit reads, and how.

    Attributes
    ----------
    activations : ShardStore
    fit_ids : frozenset of int
        The images W is fitted to.
    seed : int
        Decides samples, splits and starts.
    transform : str
        As the option of that name.
    weights : mapping of int to float, optional
        A factor for the rows of each image.
    device : str
        What computes.
    sample : callable, optional
        Gives the images from which so many positions are drawn; by default the first ones, where
        the order of the shards is random.
    readout : Tensor, optional
        float32 (classes, channels): concepts are brought near what it reads of the means of images;
        see `nmf.teach`.
    power : float
        Of their lengths that positions are shortened by, for W; see `nmf.shortened`.
    active : int, "auto" or "none"
        As the option of that name.
    """

    activations: ShardStore
    fit_ids: frozenset[int]
    seed: int = 0
    transform: str = "auto"
    weights: Mapping[int, float] | None = None
    device: str = "cpu"
    sample: Callable[[int], frozenset[int]] | None = None
    readout: torch.Tensor | None = None
    power: float = 0.0
    active: int | Literal["auto", "none"] = "auto"

    @property
    def is_as_stored(self) -> bool:
        """Whether W is fitted to rows as they are stored."""
        return self.weights is None and self.readout is None and not self.power

    def drawn_from(self, n: int) -> frozenset[int]:
        """Return the images from which n positions are drawn."""
        return self.fit_ids if self.sample is None else self.sample(n)

    def blocks(self, transform: nmf.Transform) -> PositionBlocks:
        """Return the positions of the fit images, as they are."""
        return PositionBlocks(self.activations, self.fit_ids, transform)

    def fitted(self, transform: nmf.Transform) -> PositionBlocks:
        """Return the same as W is fitted to them."""
        return replace(self.blocks(transform), weights=self.weights, power=self.power)


@dataclass(frozen=True, eq=False)
class Concepts:
    """What a fit found, concepts by falling energy.

    Attributes
    ----------
    W, context : Tensor
        float32 (channels after the transform, k), gauge-fixed.
    energies : Tensor
        float64 (k,).
    transform : Transform
    tree : Tree
        Fewer concepts of these.
    nodes : ndarray or None
        int64 (k,), what each of them is in the tree that they were taken from.
    sample : Tensor
        float32 (≤ `N_SAMPLE`, or as many as many concepts need, channels), transformed.
    owner : ndarray
        int64, the image each of these positions is of.
    choice : KChoice
        The number of concepts and its evidence.
    power : float
        Of their lengths that positions were shortened by.
    active : int or None
        Concepts that a position has at most.
    error : float
        Relative error on the fit images, ‖V − W H‖ / ‖V‖.
    n_passes, n_reseeded, n_dead : int
        How the fit went.
    """

    W: torch.Tensor
    context: torch.Tensor
    energies: torch.Tensor
    transform: nmf.Transform
    tree: nmf.Tree
    nodes: NDArray[np.int64] | None
    sample: torch.Tensor
    owner: NDArray[np.int64]
    choice: nmf.KChoice
    power: float
    active: int | None
    error: float
    n_passes: int
    n_reseeded: int
    n_dead: int


def fit_concepts(
    data: FitData,
    ks: Sequence[int] | Literal["auto", "tree"] = "auto",
    unfinished: UnfinishedFit | None = None,
    taken: nmf.TreeCut | None = None,
) -> Concepts:
    """Choose k and fit concepts to stored activations.

    Parameters
    ----------
    data : FitData
    ks : sequence of int, "auto" or "tree"
        Numbers of concepts to choose from; `K_AUTO` and `K_FURTHER`, as far as the data hold them,
        or the largest of `K_TREE` that they do.
    unfinished : UnfinishedFit, optional
        Keeps what was found so far, and goes on from there.
    taken : TreeCut, optional
        Concepts to take in place of a fit; the evidence is for their number.
    """
    is_tree = ks == "tree"
    if ks == "tree":
        ks = (k_tree(data),)
    asked = ks_of(ks) if isinstance(ks, str) else tuple(ks)
    active = active_of(data.active, asked)
    n = N_SAMPLE if active is None else max(N_SAMPLE, nmf.sparse_sample_size(max(asked)))
    drawn, owner = sample_positions(data.activations, data.drawn_from(n), n, data.seed)
    if not drawn.any():
        raise UserError(
            "all activations of the layer are zero: there is nothing to find; take another"
            f" {option('layer')}, or see to the weights"
        )
    transform = nmf.choose_transform(data.transform, _minimum(data, drawn))
    if data.transform == "auto":
        say(f"factorize  {transform.kind} (auto): {nmf.why_transform(transform.kind, drawn)}")
    V = transform.forward(drawn)
    say(f"factorize  sample: {len(V):,} positions × {V.shape[1]} channels ({transform.kind})")
    ks, further = k_auto(V) if ks == "auto" else (asked, ())
    if is_tree:
        say(f"factorize  {ks[0]} concepts (tree), of {len(data.fit_ids)} images")
    if active is not None:
        data = replace(data, power=nmf.power_of(active))
    elif data.readout is not None:
        is_better = nmf.better_at_unit_length(V.to(data.device), owner, max(ks))
        data = replace(data, power=float(is_better))
    choice = None if unfinished is None else unfinished.choice
    if choice is None:
        choice = (
            _choose_k(data, V[:N_EVIDENCE], owner[:N_EVIDENCE], ks, further)
            if active is None
            else _judge(data, V, owner, ks[0], active)
        )
        if unfinished is not None:
            unfinished.choose(choice)
    if choice.n_beyond:
        most = max(int(row["k"]) for row in choice.rows)
        say(
            f"factorize  no more than {most} concepts are weighed: of {len(data.fit_ids)} images,"
            f" most of more would stand in a single one; {option('k')} takes any number"
        )
    blocks = data.blocks(transform)
    if taken is None:
        fitted = _fit(data.fitted(transform), data, choice, active, unfinished)
        start = _taught(data, transform, fitted.W, active)
    else:
        fitted, start = _measured(blocks, taken.W.to(data.device), active), taken.W
    if n_dead := int(fitted.dead.sum()):
        say(f"factorize  {n_dead} of {choice.k} concepts stand nowhere: the data hold no more")
    by_tree = replace(data, power=0.0) if active is not None else data
    rows = _weighted(by_tree, V[: nmf.TREE_SAMPLE], owner[: nmf.TREE_SAMPLE])
    W, above = nmf.grow(
        by_tree.fitted(transform), rows, start.to(data.device), active, fixed=taken is not None
    )
    is_measured = data.is_as_stored and torch.equal(W, fitted.W.to(W.device))
    stats = fitted.stats if is_measured else measure(blocks, W, active)
    W, stats, _ = nmf.gauge(W.cpu(), stats)
    energies = nmf.energies(W, stats)
    order = torch.argsort(energies, descending=True, stable=True)
    W = W[:, order].float().contiguous()
    if above:
        above = (replace(above[0], parents=above[0].parents[order.numpy()]), *above[1:])
    return Concepts(
        W=W,
        tree=nmf.make_tree(rows, W.to(data.device), active, above),
        nodes=None if taken is None else taken.nodes[order.numpy()],
        context=nmf.context_vectors(stats)[:, order].float().contiguous(),
        energies=energies[order].double(),
        transform=transform,
        sample=V,
        owner=owner,
        choice=choice,
        power=data.power,
        active=active,
        error=math.sqrt(max(0.0, 1 - float(energies.sum()))),
        n_passes=fitted.n_passes,
        n_reseeded=fitted.reseeded,
        n_dead=n_dead,
    )


def _taught(
    data: FitData, transform: nmf.Transform, W: torch.Tensor, active: int | None
) -> torch.Tensor:
    """Bring concepts near what the readout reads, where there is one."""
    if data.readout is None:
        return W
    ids = data.drawn_from(N_TAUGHT)
    blocks = PositionBlocks(data.activations, ids, transform, data.weights)
    V = whole_images(blocks, N_TAUGHT)
    taught = nmf.teach(V, W.cpu(), transform.pull(data.readout), power=data.power, active=active)
    say(
        f"factorize  faithful: {taught.n_turns} turns on {len(V):,} images, for"
        f" {max(0.0, taught.given):.1%} of the explained energy"
        f"{' of positions of unit length' if data.power == 1 else ''}"
    )
    return taught.W


def measure_reappearance(data: FitData, found: Concepts) -> nmf.Reappearance:
    """Say how sure concepts are, by fits on disjoint halves of the images of their sample."""
    share = len(np.unique(found.owner)) / (2 * len(data.fit_ids))
    if found.active is not None:  # such fits were made to judge all of them
        return nmf.reappearance(found.W, found.choice.halves, share)
    say(f"factorize  {nmf.N_REPLICATES} fits on halves of the images, to see what comes back")
    data = replace(data, power=found.power)
    V = _weighted(data, found.sample, found.owner).to(data.device)
    halved = nmf.replicates(V, found.owner, found.choice.k, data.seed)
    return nmf.reappearance(found.W, halved, share)


def k_tree(data: FitData) -> int:
    """Return the number of leaves under ``K=tree``: of more, most would stand in a single image."""
    most = max(1, len(data.fit_ids))
    return max((k for k in K_TREE if k <= most), default=most)


def k_auto(V: torch.Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the numbers of concepts that ``K=auto`` weighs, those that the data can hold, and
    larger ones to go on to."""
    most = min(V.shape) // 2
    few, many = (tuple(k for k in ks if k <= most) for ks in (K_AUTO, K_FURTHER))
    return few or (1,), many


def measure(blocks: PositionBlocks, W: torch.Tensor, active: int | None = None) -> nmf.Stats:
    """Encode all positions with W fixed, on the device of W, and sum their statistics.

    What `shift` leaves below the fit set's minimum is negative, and counts as it is.
    """
    return nmf.sweep(blocks, W, tol=nmf.H_TOL, signed=True, active=active)


def _measured(blocks: PositionBlocks, W: torch.Tensor, active: int | None) -> nmf.Fit:
    """Give concepts that are taken as they are the form of a fit."""
    stats = measure(blocks, W, active)
    return nmf.Fit(W, stats, nmf.relative_error(W, stats), [], 0)


def _minimum(data: FitData, sample: torch.Tensor) -> torch.Tensor:
    """Return each channel's least activation: in the sample or, for `shift`, in all fit images."""
    least = sample.amin(0)
    if data.transform != "shift":
        return least
    for arrays in data.activations.iterate(["V"], data.fit_ids):
        if len(arrays["V"]):
            part = torch.from_numpy(arrays["V"]).flatten(0, 2).amin(0)
            least = torch.minimum(least, part.float())
    return least


def _judge(
    data: FitData, V: torch.Tensor, owner: NDArray[np.int64], k: int, active: int
) -> nmf.KChoice:
    """Say how stable so many concepts are that a position has few of them."""
    V = _weighted(data, V, owner)
    with bar("halves", 1.0, "fits") as shown:
        progress = partial(_show_work, shown)
        return nmf.judge_sparse(
            V.to(data.device), owner, k, active, seed=data.seed, progress=progress
        )


def _choose_k(
    data: FitData,
    V: torch.Tensor,
    owner: NDArray[np.int64],
    ks: Sequence[int],
    further: Sequence[int],
) -> nmf.KChoice:
    V = _weighted(data, V, owner)
    with bar("choose k", 1.0, "concepts") as shown:
        progress = partial(_show_work, shown)
        return nmf.choose_k(
            V.to(data.device), owner, ks, further=further, seed=data.seed, progress=progress
        )


def _show_work(shown: tqdm[Never], work: nmf.Work) -> None:
    shown.total = work.total
    shown.set_postfix_str(work.now, refresh=False)
    shown.update(work.done - shown.n)


def _weighted(data: FitData, V: torch.Tensor, owner: NDArray[np.int64]) -> torch.Tensor:
    """Bring sampled rows to what W is fitted to: see `FitData.fitted`."""
    V = nmf.shortened(V, data.power)
    if data.weights is None:
        return V
    factors = [data.weights[image_id] for image_id in owner.tolist()]
    return V * torch.tensor(factors)[:, None]


def _fit(
    blocks: PositionBlocks,
    data: FitData,
    choice: nmf.KChoice,
    active: int | None,
    unfinished: UnfinishedFit | None,
) -> nmf.Fit:
    """Fit from the consensus of the choice's replicates, where a killed fit had got to."""
    n = nmf.sample_size(choice.k) if active is None else nmf.sparse_sample_size(choice.k)
    sample = sample_by_energy(replace(blocks, image_ids=data.drawn_from(n)), n, data.seed)
    most = MAX_PASSES if active is None else MAX_PASSES_SPARSE
    with bar("factorize", most, "passes") as shown:
        return nmf.fit(
            blocks,
            sample.to(data.device),
            choice.k,
            seed=data.seed,
            W0=choice.W if choice.W.shape[1] else None,
            max_passes=most,
            active=active,
            progress=lambda phase, step, error: _show(shown, phase, error),
            checkpoint=unfinished,
        )


def _show(shown: tqdm[Never], phase: str, error: float) -> None:
    shown.set_postfix_str(f"{phase}, relative error {error:.4f}", refresh=False)
    shown.update(phase == "pass")
