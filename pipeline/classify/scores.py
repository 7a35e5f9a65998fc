"""The head's answer to single vectors in activation space.

Notation: W channels × k; a vector is *tiled*: put at every position of the layer's grid.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ..models import Cut
from ..nmf import Transform

BATCH = 64


NO_CLASS = -1
"""In place of a class, where the network has none."""


def top_classes(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the class of the largest logit, int64 (n,); `NO_CLASS` of a network without classes.

    Parameters
    ----------
    logits : ndarray
        (n, classes).
    """
    if logits.shape[1] == 0:
        return np.full(len(logits), NO_CLASS, dtype=np.int64)
    top: NDArray[np.int64] = logits.argmax(1)
    return top


@torch.inference_mode()
def score_vectors(
    cut: Cut,
    vectors: torch.Tensor,
    prefix: torch.Tensor | None = None,
    tick: Callable[[int], object] = lambda n: None,
) -> torch.Tensor:
    """Run the head on vectors, each tiled to the layer's grid.

    Parameters
    ----------
    cut : Cut
        The network cut at the layer.
    vectors : Tensor
        float32 (n, channels), decoded: what the layer itself could give.
    prefix : Tensor, optional
        float32 (prefix tokens, channels) to stand beside the positions.
    tick : callable
        Told of so many vectors more that went through a head other than pool and linear.

    Returns
    -------
    Tensor
        float32 (n, classes), logits.
    """
    if cut.linear is not None:
        # Every position is alike, so the mean over positions is the answer at one.
        weight, bias = cut.linear
        logits = vectors @ weight.T + bias
        return logits.relu() if cut.head_kind == "linear_relu_pool" else logits
    parts = []
    for batch in vectors.split(BATCH):
        tiled = batch[:, None, None, :].expand(-1, cut.height, cut.width, -1)
        tokens = None if prefix is None else prefix.expand(len(batch), -1, -1)
        parts.append(cut.head(tiled.contiguous(), tokens))
        tick(len(batch))
    return torch.cat(parts)


def unit_logits(weight: torch.Tensor, transform: Transform, W: torch.Tensor) -> torch.Tensor:
    """Tell what a unit of each concept adds to each logit: ⟨head_c, L w_j⟩, float32 (classes, k).

    Parameters
    ----------
    weight : Tensor
        float32 (classes, channels), the head's linear map.
    transform : Transform
        The bank's; its linear part L is used.
    W : Tensor
        float32 (channels after the transform, k).
    """
    return weight @ transform.linear(W.T).T
