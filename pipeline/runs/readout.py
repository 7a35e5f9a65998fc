"""What a head reads of an image's mean activation, as a linear map: for ``OBJECTIVE=faithful``.

Heads that are linear in it are read as they are; of others the ridge regression of their logits on
the means of the images that concepts are fitted to stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ..models.head import Linear
from ..store import Probe
from .workspace import Workspace

MOST_IMAGES = 4_096
"""Images of a regression at most, the first in working order, which are a random sample."""

STRENGTHS = np.logspace(-4, 1, 6)
"""Ridges to choose from, by leaving out one image at a time, relative to the mean eigenvalue."""


def readout(workspace: Workspace, probe: Probe | None = None) -> torch.Tensor | None:
    """Return the linear map of a run's objective; None where it is energy alone.

    Parameters
    ----------
    workspace : Workspace
    probe : Probe, optional
        That of ``HEAD=probe``, where it is not written yet.

    Returns
    -------
    Tensor or None
        float32 (classes, channels). Under softmax rows are centred over the classes, for what is
        added to all logits changes nothing.
    """
    config = workspace.config
    if config.objective == "energy":
        return None
    if config.head == "probe":
        rows = torch.from_numpy((probe or workspace.probe).weight)
    else:
        linear: Linear | None = workspace.cut.linear
        rows = _regressed(workspace) if linear is None else linear[0].detach().cpu().float()
    return rows - rows.mean(0) if workspace.record.link == "softmax" else rows


def _regressed(workspace: Workspace) -> torch.Tensor:
    """Return the ridge regression of logits on mean activations."""
    means, logits = (np.concatenate(each) for each in zip(*_means(workspace), strict=True))
    if len(means) < 3:
        return torch.zeros(logits.shape[1], means.shape[1])
    from sklearn.linear_model import RidgeCV  # loads scikit-learn, which takes a second

    scale = float(np.square(means - means.mean(0)).sum() / len(means[0])) or 1.0
    fitted = RidgeCV(alphas=STRENGTHS * scale).fit(means, logits)
    return torch.from_numpy(np.atleast_2d(fitted.coef_)).float()


def _means(workspace: Workspace) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield mean activations and logits of some images to fit on."""
    n = 0
    for arrays in workspace.activations.iterate(["V", "logits"], workspace.ids("fit")):
        yield (
            arrays["V"].mean((1, 2), dtype=np.float64),
            arrays["logits"].astype(np.float64),
        )
        n += len(arrays["V"])
        if n >= MOST_IMAGES:
            return
