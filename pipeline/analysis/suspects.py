"""What nobody told the network to learn: a run's concepts that mislead it, measured and ranked.

The score of a suspect is what taking it out gives back at least, as a share of all images looked at
(`pipeline.classify.harm`), times how unlike the object of its images' labels it is,

    1 − (1 − spread) (1 − background) (1 − fixed)

spread is the share of its presence that labels do not account for, background the share of its
strength outside the co-localized objects, fixed how alike its places in the frame are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..classify import Answers, top_classes
from ..classify.harm import LEVEL, Harm, harm
from ..classify.removals import Removals, remove_each
from ..localize import Foreground
from ..runs.workspace import Workspace
from ..store import Suspects, read_suspects
from .objects import groups_of
from .samples import Images, RunSamples, true_classes

N_IMAGES = {"pool_linear": 4_096, "linear_relu_pool": 1_024, "general": 128}
"""Images looked at, by kind of head: every pair of image and concept costs an answer."""

ALIKE = 0.5
"""Suspects that share so much of the images of either are parts of one, and are taken out together:
a mark three cells wide falls into some five of 32 concepts."""

N_PUSHED, LEAST_PUSHED = 5, 0.1
"""Classes and labels named, and the least share of what the first of them has."""

NO_CLASSES = "the network has no classes: there is nothing that a concept could mislead"
NO_LABELS = (
    "no label of the dataset is a class of the network, so whether an answer is wrong is not known;"
    " say which class each label is where they are only called otherwise"
)
EARLIER = "an earlier version, which did not look for suspects, classified this run"
NOTHING = "of no concept is it beyond chance that taking it out brings the labels' classes back"


def find_suspects(sample: RunSamples, foreground: Foreground) -> Suspects:
    """Take concepts out of real activations and see which were in the way of the labels.

    Parameters
    ----------
    sample : RunSamples
        Of the run.
    foreground : Foreground
        What is object in its images.
    """
    workspace = sample.workspace
    if not workspace.cut.n_classes:
        return Suspects([], 0, 0, NO_CLASSES)
    alone = np.eye(workspace.bank.k, dtype=np.bool_)
    first = _see(sample, foreground, alone, np.ones(workspace.bank.k, np.bool_))
    if first is None:
        return Suspects([], 0, 0, NO_LABELS)
    found = first.harm()
    suspected = (found.q <= LEVEL) & (found.gain > 0)
    together = alone | (alike(first.held) & suspected & suspected[:, None])
    seen, others = first, (together != alone).any(1)
    if others.any():
        again = _see(sample, foreground, together, others)
        assert again is not None
        seen = replace(first, removals=first.removals.but(again.removals, others))
    rows = _rows(workspace, seen, np.flatnonzero(suspected), together)
    n_labels = len(set(seen.label.tolist()))
    return Suspects(rows, len(seen.held), n_labels, "" if rows else NOTHING)


def alike(held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which concepts stand in the same images, bool (k, k): `ALIKE` of those of either."""
    counts = held.astype(np.float64)
    both = counts.T @ counts
    either = both.diagonal()[:, None] + both.diagonal() - both
    same: NDArray[np.bool_] = (both >= ALIKE * either) & (both > 0)
    return same


def suspects_of(workspace: Workspace) -> Suspects:
    """Read what was found of a run's suspects; of runs of earlier versions it is nothing."""
    path = workspace.whole("classes", workspace.suspects_path.name)
    if not path.exists():
        return Suspects([], 0, 0, EARLIER)
    return read_suspects(path, workspace.bank.k, workspace.cut.n_classes)


@dataclass
class _Places:
    """Sums of where each concept stands, over images that hold it; see `shares`."""

    n: NDArray[np.int64]
    maps: NDArray[np.float64]
    squares: NDArray[np.float64]
    outside: NDArray[np.float64]

    @staticmethod
    def of(n_positions: int, k: int) -> _Places:
        """Begin with no image."""
        nothing = np.zeros(k)
        return _Places(np.zeros(k, np.int64), np.zeros((k, n_positions)), nothing, nothing)

    def add(
        self, H: NDArray[np.float32], held: NDArray[np.bool_], is_object: NDArray[np.bool_]
    ) -> None:
        """Add images, H (n, h, w, k), bool (n, k) and (n, h, w)."""
        flat = H.reshape(len(H), -1, H.shape[-1]).astype(np.float64)
        share = flat / np.maximum(flat.sum(1, keepdims=True), 1e-12) * held[:, None, :]
        off = ~is_object.reshape(len(H), -1, 1)
        self.n = self.n + held.sum(0)
        self.maps = self.maps + share.sum(0).T
        self.squares = self.squares + np.square(share).sum((0, 1))
        self.outside = self.outside + (share * off).sum((0, 1))

    def shares(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return background and fixed, float64 (k,) each in [0, 1].

        Of maps m_i that sum to 1, less an even map, fixed is the mean of ⟨m_i, m_j⟩ over pairs of
        images over the mean of ‖m_i‖²: 1 where all are alike, 0 where they have nothing in common.
        """
        n, even = np.maximum(self.n, 1), 1.0 / self.maps.shape[1]
        own = self.squares - self.n * even
        both = np.square(self.maps).sum(1) - np.square(self.n) * even
        pairs = (both - own) / np.maximum(n - 1, 1)
        fixed = np.where((self.n > 1) & (own > 1e-9), pairs / np.maximum(own, 1e-9), 0.0)
        return self.outside / n, np.clip(fixed, 0, 1)


@dataclass(frozen=True)
class _Seen:
    """What was seen of n images whose labels have classes."""

    held: NDArray[np.bool_]
    right: NDArray[np.bool_]
    label: NDArray[np.int64]
    names: list[str]
    removals: Removals
    places: _Places

    def harm(self) -> Harm:
        """Judge what taking each concept out did."""
        return harm(self.removals, self.held, self.right, self.label)


def _see(
    sample: RunSamples,
    foreground: Foreground,
    together: NDArray[np.bool_],
    asked: NDArray[np.bool_],
) -> _Seen | None:
    """Look at the images, and take out each concept that is asked about."""
    workspace, bank = sample.workspace, sample.workspace.bank
    places = _Places.of(len(workspace.grid.centres_y) * len(workspace.grid.centres_x), bank.k)
    parts: list[tuple[NDArray[np.bool_], NDArray[np.bool_], Removals, list[str]]] = []
    answers = Answers(workspace.cut, bank)
    for images in sample.read(sample.image_ids(N_IMAGES[workspace.cut.head_kind])):
        chosen = np.flatnonzero((true_classes(workspace, images.image_id) >= 0).any(1))
        if len(chosen):
            some = _some(images, chosen)
            own = answers if some.prefix is None else replace(answers, prefix=some.prefix)
            parts.append(_look(workspace, foreground, some, own, together, asked, places))
    if not parts:
        return None
    labels = [label for *_, named in parts for label in named]
    names = sorted(set(labels))
    at = {name: index for index, name in enumerate(names)}
    removals = Removals.join([part[2] for part in parts], [len(part[0]) for part in parts])
    held, right = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
    return _Seen(held, right, np.array([at[each] for each in labels]), names, removals, places)


def _some(images: Images, rows: NDArray[np.int64]) -> Images:
    at = torch.from_numpy(rows)
    prefix = None if images.prefix is None else images.prefix[at]
    return Images(images.image_id[rows], images.V[at], images.logits[at], prefix)


def _look(
    workspace: Workspace,
    foreground: Foreground,
    images: Images,
    answers: Answers,
    together: NDArray[np.bool_],
    asked: NDArray[np.bool_],
    places: _Places,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Removals, list[str]]:
    """Return which image holds what, which are right, what removals do, and their labels."""
    bank, classes = workspace.bank, true_classes(workspace, images.image_id)
    H = bank.strengths(images.V)
    strengths = H.numpy()
    held = strengths.max(axis=(1, 2)) >= bank.thresholds
    top = top_classes(images.logits.numpy())
    groups = groups_of(workspace, images.image_id, top)
    places.add(strengths, held, foreground.maps(strengths, groups) >= foreground.threshold)
    removals = remove_each(answers, images.V, H, held & asked, classes, together)
    labels = workspace.listing.labels[workspace.listing.places(images.image_id)]
    right = (top[:, None] == classes).any(1)
    return held, right, removals, [", ".join(each) for each in labels]


def _rows(
    workspace: Workspace,
    seen: _Seen,
    suspects: NDArray[np.int64],
    together: NDArray[np.bool_],
) -> list[dict[str, Any]]:
    found = seen.harm()
    background, fixed = seen.places.shares()
    spread = unlabelled(seen.held, seen.label)
    unlike = 1 - (1 - spread) * (1 - background) * (1 - fixed)
    score = found.at_least * unlike
    rows = []
    for concept in suspects[np.argsort(-score[suspects], kind="stable")].tolist():
        mine = seen.removals.concept == concept
        labels = seen.label[seen.removals.image[mine]]
        from_labels = np.bincount(labels, seen.removals.gain[mine], minlength=len(seen.names))
        without = float(found.accuracy_without[concept])
        rows.append(
            {
                "concept_id": concept,
                "with_concepts": [
                    int(i) for i in np.flatnonzero(together[concept]) if i != concept
                ],
                "score": float(score[concept]),
                "to": _most(seen.removals.drops[concept]),
                "labels": [seen.names[each] for each in _most(from_labels.astype(np.float64))],
                "n_images": int(found.n[concept]),
                "n_labels": len(set(labels.tolist())),
                "accuracy_with": float(found.accuracy_with[concept]),
                "accuracy_without": None if np.isnan(without) else without,
                "accuracy_ablated": float(found.accuracy_ablated[concept]),
                "q_value": float(found.q[concept]),
                "gain": float(found.gain[concept]),
                "repaired": int(found.repaired[concept]),
                "broken": int(found.broken[concept]),
                "spread": float(spread[concept]),
                "background": float(background[concept]),
                "fixed": float(fixed[concept]),
                "place": place_of(seen.places.maps[concept], workspace, float(fixed[concept])),
            }
        )
    return rows


def unlabelled(held: NDArray[np.bool_], label: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of each concept's presence that labels do not account for, float64 (k,).

    It is the variance of presence within labels over all of it, both without bias (1 − adjusted
    R²), at most 1; 1 where no label has a second image, for labels say nothing then.
    """
    sizes = np.bincount(label)
    sizes, number = sizes[sizes > 0], np.unique(label, return_inverse=True)[1]
    n, n_free = len(label), len(label) - len(sizes)
    if n_free <= 0 or n < 2:
        return np.ones(held.shape[1])
    means = np.stack([np.bincount(number, each) for each in held.T.astype(np.float64)]) / sizes
    within = (held.mean(0) - (means**2 * sizes).sum(1) / n) * n / n_free
    whole = held.mean(0) * (1 - held.mean(0)) * n / (n - 1)
    share: NDArray[np.float64] = np.where(whole > 0, within / np.maximum(whole, 1e-12), 1.0)
    return np.clip(share, 0, 1)


FIXED = 0.25
"""From so alike on places are said to be one."""


def place_of(maps: NDArray[np.float64], workspace: Workspace, fixed: float) -> str:
    """Say where in the frame a concept stands: ``at the top left``; empty where it is anywhere.

    Parameters
    ----------
    maps : ndarray
        float64 (h · w,), its maps summed.
    workspace : Workspace
    fixed : float
        How alike they are.
    """
    if fixed < FIXED or not maps.sum():
        return ""
    h, w = len(workspace.grid.centres_y), len(workspace.grid.centres_x)
    grid = maps.reshape(h, w) / maps.sum()
    y = float(grid.sum(1) @ ((np.arange(h) + 0.5) / h))
    x = float(grid.sum(0) @ ((np.arange(w) + 0.5) / w))
    down = "top" if y < 0.4 else "bottom" if y > 0.6 else ""
    across = "left" if x < 0.4 else "right" if x > 0.6 else ""
    words = " ".join(each for each in (down, across) if each)
    return f"at the {words or 'centre'}"


def _most(values: NDArray[np.float64]) -> list[int]:
    """Return the places of the largest values, those that are something beside the first."""
    best = np.argsort(-values, kind="stable")[:N_PUSHED]
    return [int(each) for each in best if values[each] > max(0.0, LEAST_PUSHED * values[best[0]])]
