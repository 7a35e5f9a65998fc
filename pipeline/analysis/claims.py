"""What each concept of a run is taken for: claims of a class and of a group, and their evidence.

Two tests must hold at once: of the network (`pipeline.classify.verdict`), and of the dataset: more
of the tested images are of the claimed classes than chance would have it (hypergeometric), by their
labels, or where no label is a class by the network's own answer to the whole image. The larger p
counts, and Benjamini-Hochberg over concepts makes it q. Nor are the strongest images enough: those
of any direction are often of one class, whose activations are long. Of all images that hold the
concept so many must be of the claimed classes that the odds are `LEAST_ODDS` times those of all
images, and `OVER_CHANNELS` times what nearly all strong channels of the layer reach by themselves
for these classes: with ten classes a channel has odds of 2.5 for one of them, and what is fitted to
shuffled channels, which is next to single ones, of up to 5.4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import threshold

from ..classify import benjamini_hochberg, top_classes, verdict
from ..classify.class_tree import MOST_CLASSES, MOST_ROWS, ClassTree, class_tree
from ..classify.kinds import LEAST_ODDS
from ..classify.verdict import CHOSEN_MASS, FEWEST_MOVED, Taken
from ..localize import Foreground
from ..models.architecture import head_rows
from ..models.link import probabilities
from ..store import Claims
from .samples import AT_ONCE, RunSamples, true_classes
from .strongest import N_ELSEWHERE, Elsewhere, Places, find_places, look_elsewhere, move

N_STRONGEST, FEWER = 48, 12
"""Images of a concept that are looked at, the strongest; and at least, where the head is slow."""

N_PASSES = 1_500
"""Places that a slow head is asked about in all, about."""

MOVED_IN_ALL, LEAST_MOVED, SPARE = 131_072, 128, 2
"""Moved maps of all concepts that the head is asked about, of more than 128 of them; of one, at
least; and how many are made of which those are taken whose norms are alike."""

N_CHANNELS, SHARE_HELD = 128, 0.02
"""Channels that odds are compared with, those of most energy; each is held where it is as strong as
at this share of all positions."""

OVER_CHANNELS, NEARLY_ALL = 2.0, 0.95
"""Odds of a concept over those that this share of the channels reach at most."""

FEWEST_HOLDERS = 8
"""Images that hold it, among those looked at, from which on their odds are asked for."""

N_LOGITS = 1_024
"""Images whose logits say which classes are alike, where no weights do."""

UNHEARD = 1e-9
"""Probability below which a class counts for nothing: what is as small as floating point goes
differs with the flags of the thread that computes it."""

Score: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""From vectors, float32 (n, channels), decoded, to logits, float32 (n, classes)."""


@dataclass(frozen=True)
class Found:
    """What the concepts are taken for.

    Attributes
    ----------
    single, group : Claims
    inside : ndarray
        float64 (k,), share of a concept's strength on objects.
    """

    single: Claims
    group: Claims
    inside: NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What the claims are judged by.

    Attributes
    ----------
    k, n_classes : int
    places : Places
        Where each concept is strongest.
    own : Tensor
        float32 (places, classes), the head's probabilities there.
    elsewhere : Elsewhere
        Images that maps are moved to.
    channels : ndarray
        bool (images elsewhere, channels compared with): which hold which.
    score : callable
        The head on vectors: probabilities, float32 (n, classes).
    n_moved : int
        Moved maps of a concept that the head is asked about.
    tree : ClassTree
    known : KnownClasses
    seed : int
    """

    k: int
    n_classes: int
    places: Places
    own: torch.Tensor
    elsewhere: Elsewhere
    channels: NDArray[np.bool_]
    score: Score
    n_moved: int
    tree: ClassTree
    known: KnownClasses
    seed: int

    @staticmethod
    def of(sample: RunSamples, foreground: Foreground, score: Score) -> Evidence:
        """Gather what the claims of a run's concepts are judged by.

        Parameters
        ----------
        sample : RunSamples
            Of a run whose heatmaps are there.
        foreground : Foreground
            What is object in its images.
        score : callable
            The head on vectors, tiled.
        """
        workspace = sample.workspace
        k, cut, seed = workspace.bank.k, workspace.cut, workspace.config.seed
        is_slow = cut.linear is None
        n = min(N_STRONGEST, max(FEWER, N_PASSES // k)) if is_slow else N_STRONGEST
        places = find_places(sample, foreground, n)

        def ask(vectors: torch.Tensor) -> torch.Tensor:
            return threshold(probabilities(score(vectors), cut.link), UNHEARD, 0.0)

        own, elsewhere = ask(places.vectors), look_elsewhere(sample)
        return Evidence(
            k,
            cut.n_classes,
            places,
            own,
            elsewhere,
            _held_channels(elsewhere.V),
            ask,
            FEWEST_MOVED if is_slow else min(N_ELSEWHERE, max(LEAST_MOVED, MOVED_IN_ALL // k)),
            _tree(sample, own),
            KnownClasses.of(sample),
            seed,
        )

    def claims(self) -> Found:
        """Judge them: one class, and a group of any size, of each concept."""
        inside = [self.places.inside[self.places.concept == each] for each in range(self.k)]
        sizes = self.tree.sizes
        either = (sizes[sizes == 1], sizes)
        moved = move(self.places, self.elsewhere, range(self.k), self.seed, self._most)
        taken = [self._take(at, vectors, either) for at, (_, vectors) in enumerate(moved)]
        single, group = (self._claims(each) for each in zip(*taken, strict=True))
        means = [float(each.mean()) if len(each) else np.nan for each in inside]
        return Found(single, group, np.array(means))

    def take(
        self, concept: int, sizes: Sequence[NDArray[np.int64]], least: float = CHOSEN_MASS
    ) -> tuple[Taken, ...]:
        """Ask what one concept is taken for, of the first groups of the tree, by their sizes."""
        one = range(concept, concept + 1)
        ((_, vectors),) = move(self.places, self.elsewhere, one, self.seed, self._most)
        return self._take(concept, vectors, sizes, least)

    @property
    def _most(self) -> int | None:
        """Moved maps of a concept that are made; None: all."""
        return None if self.k * N_ELSEWHERE <= MOVED_IN_ALL else SPARE * self.n_moved

    def _take(
        self,
        concept: int,
        vectors: torch.Tensor,
        sizes: Sequence[NDArray[np.int64]],
        least: float = CHOSEN_MASS,
    ) -> tuple[Taken, ...]:
        """Ask it, given the vectors of its moved maps."""
        rows = torch.from_numpy(self.places.concept == concept)
        norms = self.places.vectors[rows].norm(dim=1)
        own = verdict.Places(norms, self.tree.masses(self.own[rows]))
        vectors = vectors[_alike(norms, vectors.norm(dim=1), self.n_moved)]
        if not len(vectors) or not len(norms):
            return (verdict.NOTHING,) * len(sizes)
        masses = self.tree.masses(self.score(vectors))
        moved = verdict.Places(vectors.norm(dim=1), masses)
        return tuple(verdict.take(own, moved, each, self.seed, least) for each in sizes)

    def _claims(self, taken: Sequence[Taken]) -> Claims:
        """Put the outcomes of all concepts side by side."""
        classes = np.full((self.k, MOST_CLASSES), -1, dtype=np.int32)
        agreed, odds = np.full((2, self.k), np.nan)
        agreed_p = np.ones(self.k)
        for concept, each in enumerate(taken):
            if each.group < 0:
                continue
            members, rows = self.tree.groups[each.group], self.places.concept == concept
            said = self.own[torch.from_numpy(rows)][:, torch.from_numpy(members)].mean(0).numpy()
            classes[concept, : len(members)] = members[np.argsort(-said, kind="stable")]
            tested = self.places.image[rows & (self.places.rank % 2 == 1)]
            agreed[concept], agreed_p[concept] = self.known.agree(tested, members)
            holds, images = self.elsewhere.holds[:, concept, None], self.elsewhere.image
            odds[concept] = self.known.odds_ratios(holds, images, members)[0]
            by_chance = self.known.odds_ratios(self.channels, images, members)
            least = OVER_CHANNELS * _quantile(by_chance, NEARLY_ALL)
            if odds[concept] < max(LEAST_ODDS, least):
                agreed_p[concept] = 1.0
        most = max(1, int((classes >= 0).sum(1).max(initial=1)))
        p = np.array([each.p for each in taken])
        return Claims(
            classes=classes[:, :most],
            mass=np.array([each.mass for each in taken]),
            moved=np.array([each.moved for each in taken]),
            p=p,
            agreed=agreed,
            agreed_p=agreed_p,
            q=benjamini_hochberg(np.maximum(p, agreed_p)),
            odds=odds,
        )


def _alike(norms: torch.Tensor, others: torch.Tensor, n: int) -> torch.Tensor:
    """Return the n rows of `others` that are nearest to any of some norms, int64."""
    if not len(norms) or len(others) <= n:
        return torch.arange(len(others))
    apart = np.abs(others.numpy()[:, None] - norms.numpy())
    order = apart.argsort(axis=0, kind="stable").ravel()  # the nearest of each norm first
    first = np.unique(order, return_index=True)[1]
    return torch.from_numpy(order[np.sort(first)][:n])


def _held_channels(V: torch.Tensor) -> NDArray[np.bool_]:
    """Say which images hold which of the layer's strongest channels, each taken for a concept.

    Parameters
    ----------
    V : Tensor
        float16 (n, positions, channels).
    """
    energy = sum((part.float().square().sum((0, 1)) for part in V.split(AT_ONCE)), torch.zeros(()))
    strongest = energy.argsort(descending=True, stable=True)[:N_CHANNELS]
    values = V[:, :, strongest].float()
    n_held = max(1, int(SHARE_HELD * values.shape[0] * values.shape[1]))
    least = values.flatten(0, 1).topk(n_held, dim=0).values[-1]
    return np.asarray((values.amax(1) >= least).numpy())


def _quantile(odds: NDArray[np.float64], share: float) -> float:
    known = odds[~np.isnan(odds)]
    return float(np.quantile(known, share)) if len(known) else 0.0


def _tree(sample: RunSamples, own: torch.Tensor) -> ClassTree:
    """Join the classes by the last layer's weights, or where it is another by what logits do.

    Of more classes than a tree holds those count that the head says most of at strong places.
    """
    workspace = sample.workspace
    n_classes = workspace.cut.n_classes
    kept = own.sum(0).argsort(descending=True, stable=True)[:MOST_ROWS].tolist()
    if workspace.cut.linear is not None:
        rows = workspace.cut.linear[0]
    elif (weights := head_rows(workspace.network.module, n_classes)) is not None:
        rows = weights
    else:
        logits = [each.logits for each in sample.read(sample.image_ids(N_LOGITS))]
        rows = torch.cat(logits).T
    return class_tree(rows.detach().float().cpu().numpy(), kept)


@dataclass(frozen=True)
class KnownClasses:
    """Which images are known to be of which classes.

    Attributes
    ----------
    image : ndarray
        int64 (n,), image ids, rising.
    classes : ndarray
        int64 (n, most), -1 where there is no more.
    """

    image: NDArray[np.int64]
    classes: NDArray[np.int64]

    @staticmethod
    def of(sample: RunSamples) -> KnownClasses:
        """Take the labels that are classes, or what the network says of the images."""
        workspace = sample.workspace
        distinct = np.sort(np.fromiter(workspace.distinct_ids, np.int64))
        classes = true_classes(workspace, distinct)
        is_known = (classes >= 0).any(1)
        if is_known.any():
            return KnownClasses(distinct[is_known], classes[is_known])
        parts = workspace.heatmaps.iterate(["image_id", "logits"], workspace.distinct_ids)
        found = [(each["image_id"], top_classes(each["logits"])) for each in parts]
        image, top = (np.concatenate(each) for each in zip(*found, strict=True))
        order = image.argsort()
        return KnownClasses(image[order], top[order][:, None])

    def odds_ratios(
        self, holds: NDArray[np.bool_], images: NDArray[np.int64], classes: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the odds of holders to be of these classes, over those of all images.

        Parameters
        ----------
        holds : ndarray
            bool (n, m): which images hold which of several things.
        images : ndarray
            int64 (n,), ids of these images.
        classes : ndarray
            int64, those claimed.

        Returns
        -------
        ndarray
            float64 (m,). NaN where holders are too few to tell. Where all of them are of these
            classes, half an image counts as of another.
        """
        is_known = np.isin(images, self.image)
        rows = np.searchsorted(self.image, images[is_known])
        among = np.asarray(np.isin(self.classes[rows], classes).any(1))
        held = holds[is_known]
        n, n_holders, right = among.sum(), held.sum(0), held[among].sum(0)
        expected = n / max(1, len(among) - n)
        if not expected:
            return np.where(n_holders < FEWEST_HOLDERS, np.nan, 0.0)
        odds = right / np.maximum(0.5, n_holders - right) / expected
        return np.where(n_holders < FEWEST_HOLDERS, np.nan, odds)

    def agree(self, tested: NDArray[np.int64], classes: NDArray[np.int64]) -> tuple[float, float]:
        """Return the share of tested images of these classes, and the p of so many or more."""
        among = np.asarray(np.isin(self.classes, classes).any(1))
        mine = np.isin(self.image, tested)
        n, n_mine = int(mine.sum()), int((among & mine).sum())
        if not n:
            return np.nan, 1.0
        from scipy.stats import hypergeom  # takes half a second

        return n_mine / n, float(hypergeom.sf(n_mine - 1, len(among), among.sum(), n))
