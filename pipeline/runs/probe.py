"""The probe of a run: a head fitted on the dataset's labels, from activations that are stored.

Fitted on the images of the split ``fit`` that have a label, copies left out; measured on those of
``heldout``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..errors import UserError, option
from ..store import Probe
from ..system.progress import say
from .workspace import Workspace

LEAST_OF_LABEL = 5
"""Images to fit on that a label needs: one for each part of the cross-validation."""

MOST_IMAGES = 20_000
"""Images fitted on at most, the first in working order, which are a random sample: of 2,048
channels they take 1 GB."""

AT_ONCE = 32
"""Images held in float32 at once."""


def split_labels(labels: pd.Series) -> tuple[list[str], list[str]]:
    """Return the labels of so many images that they are classes, sorted, and the others.

    Parameters
    ----------
    labels : Series
        Of tuple of str, those of each image.
    """
    counts = labels.explode().value_counts()
    kept = sorted(map(str, counts.index[counts >= LEAST_OF_LABEL]))
    return kept, sorted(map(str, counts.index[counts < LEAST_OF_LABEL]))


def tell_left(labels: list[str]) -> None:
    """Say which labels are no classes of the probe."""
    if labels:
        named = ", ".join(map(repr, labels[:3])) + (", …" if len(labels) > 3 else "")
        say(
            f"probe      labels left out, with fewer than {LEAST_OF_LABEL} images to fit on:"
            f" {len(labels)} ({named})"
        )


def make_probe(workspace: Workspace) -> Probe:
    """Fit the run's probe to what is stored, and measure it on held-out images.

    Raises
    ------
    UserError
        Of the images that could be read, too few have labels.
    """
    frame = workspace.images[["image_id", "labels", "split"]].set_index("image_id")
    fit = frame[(frame["split"] == "fit") & frame["labels"].map(bool)].head(MOST_IMAGES)
    labels, left = split_labels(fit["labels"])
    if len(labels) < 2:
        raise UserError(
            f"{option('head', 'probe')} needs at least two labels of {LEAST_OF_LABEL} images to fit"
            f" on: of the {len(fit)} with a label that could be read and are no copies,"
            f" {len(labels)} labels have so many"
        )
    tell_left(left)
    has_none = frozenset(labels).isdisjoint
    fit = fit[~fit["labels"].map(has_none)]
    heldout = frame[(frame["split"] == "heldout") & ~frame["labels"].map(has_none)]
    pooled, members = _pooled(workspace, fit, labels)
    from ..classify.probe import fit_probe  # loads scikit-learn, which takes a second

    found = fit_probe(pooled, members, workspace.config.seed, workspace.record.link)
    if not found.is_converged:
        say("probe      the fit had not come to its end when it was stopped")
    pooled, members = _pooled(workspace, heldout, labels)
    n = len(members)
    right = members[np.arange(n), (pooled @ found.weight.T + found.bias).argmax(1)]
    return Probe(
        layer=workspace.config.layer,
        labels=tuple(labels),
        weight=found.weight,
        bias=found.bias,
        strength=found.strength,
        accuracy=float(right.mean()) if n else math.nan,
        chance=float(members.mean(0).max()) if n else math.nan,
        n_fit=len(fit),
        n_heldout=n,
    )


def describe(probe: Probe) -> str:
    """Say how good a probe is, in one line."""
    said = f"{len(probe.labels)} labels, fitted on {probe.n_fit:,} images"
    if not probe.n_heldout:
        return f"{said}; no held-out image tells how good it is"
    return (
        f"{said}, right on {probe.accuracy:.1%} of {probe.n_heldout:,} held-out images (the most"
        f" frequent label: {probe.chance:.1%})"
    )


def _pooled(
    workspace: Workspace, frame: pd.DataFrame, labels: list[str]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the mean activations (n, channels) of images in working order, and which have which
    of the labels, (n, labels)."""
    rows = [np.zeros((0, workspace.record.layer.channels), np.float32)]
    image_ids = [np.zeros(0, np.int64)]
    for some, V in _read(workspace, frame.index):
        image_ids.append(some)
        rows.append(V.mean(dim=(1, 2)).numpy())
    found = frame["labels"].loc[np.concatenate(image_ids)]
    members = np.array([[label in each for label in labels] for each in found], dtype=np.bool_)
    return np.concatenate(rows), members.reshape(len(found), len(labels))


def _read(
    workspace: Workspace, image_ids: Iterable[int]
) -> Iterator[tuple[NDArray[np.int64], torch.Tensor]]:
    wanted = frozenset(map(int, image_ids))
    for arrays in workspace.activations.iterate(["V", "image_id"], wanted):
        for start in range(0, len(arrays["image_id"]), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            yield arrays["image_id"][some], torch.from_numpy(arrays["V"][some]).float()
