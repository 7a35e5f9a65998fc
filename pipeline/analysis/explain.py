"""One image explained: its heatmaps, the composite picture with legend, its class contributions.

Against a run's fixed concepts, or by itself, as Deep Feature Factorization was first shown: V of
the one image (positions × channels) factorized into H (positions × k) and W (channels × k).

References
----------
Collins, E., Achanta, R. & Süsstrunk, S. (2018). Deep Feature Factorization for Concept Discovery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage

from .. import nmf
from ..classify import (
    Quantiles,
    contributions,
    novelty,
    score_vectors,
    top_classes,
    unexplained,
)
from ..errors import UserError, option
from ..escape import visible
from ..images import Grid, network_input, upsample
from ..images.geometry import Resize
from ..localize import presence_thresholds
from ..models import Cut
from ..models.link import top as top_of
from ..pictures.composites import composite, concept_colours, side_by_side, with_legend
from ..store import Bank
from .explanation import Explanation

N_CATEGORIES = 2
"""Categories named for each concept in the legend."""

N_STARTS = 8
"""Random starts of the factorization of one image, beside NNDSVD."""

TO_THE_END: dict[str, Any] = {"tol": 1e-6, "max_passes": 200, "sample_tol": 1e-6}
"""One image's few positions are factorized until nothing moves: a pass over them costs nothing."""

N_CLASSES = 5
"""Classes of the image that are listed."""


@dataclass(frozen=True)
class Labels:
    """What each concept is called, if anything (k); what the head says of it: names (k lists),
    probabilities (k lists)."""

    called: list[str | None]
    names: list[list[str]]
    probabilities: list[list[float]]


def explain_by(
    cut: Cut,
    bank: Bank,
    labels: Labels,
    class_names: tuple[str, ...],
    image: NDArray[np.uint8],
    resize: Resize = "squash",
    usual: Quantiles | None = None,
) -> Explanation:
    """Explain an image by concepts that are given.

    Parameters
    ----------
    cut : Cut
        The network, cut at the bank's layer.
    bank : Bank
        The concepts.
    labels : Labels
        What the head calls them.
    class_names : tuple of str
        Names of the network's classes.
    image : ndarray
        uint8 (height, width, 3), RGB.
    resize : {'squash', 'crop', 'pad'}
        How the image reaches the network.
    usual : Quantiles, optional
        How much the concepts usually leave unexplained.
    """
    size = cut.network.image_size
    square, affine = network_input(image, size, resize, cut.network.scaling)
    forward = cut.forward(square[None])
    H, residual = bank.encode(forward.V)
    split = contributions(cut, bank, forward.V, H, forward.logits, forward.prefix)[0].numpy()
    maps = np.ascontiguousarray(H[0].permute(2, 0, 1).numpy())
    grid = Grid(*cut.centres, image_size=size)
    heatmaps = upsample(maps, grid, affine, (image.shape[1], image.shape[0]))
    peaks = maps.max(axis=(1, 2))
    legend = _legend(labels, peaks, split, bank.thresholds)
    best, likely = top_of(forward.logits, cut.link, min(N_CLASSES, len(class_names)))
    top = int(top_classes(forward.logits.numpy())[0])
    whole, left = unexplained(forward.V, residual)
    raised = upsample(left.numpy(), grid, affine, (image.shape[1], image.shape[0]))[0]
    return Explanation(
        heatmaps=heatmaps,
        picture=picture_of(image, heatmaps, legend["concept_id"].tolist(), labels),
        legend=legend,
        classes=pd.DataFrame(
            {
                "class_id": best[0].tolist(),
                "label": [class_names[index] for index in best[0].tolist()],
                "prob": likely[0].tolist(),
            }
        ),
        residual=float(whole[0]),
        box=_box_of_peak(np.nan_to_num(raised)),
        novelty=None if usual is None else novelty(usual, float(whole[0]), float(left.max()), top),
    )


def explain_alone(
    cut: Cut,
    class_names: tuple[str, ...],
    image: NDArray[np.uint8],
    k: int = 5,
    resize: Resize = "squash",
    seed: int = 0,
    top: int = N_CATEGORIES,
) -> Explanation:
    """Factorize one image by itself and explain it by the concepts found.

    Raises
    ------
    UserError
        `k` is larger than the layer's positions or channels allow, or `top` than the classes.
    """
    if not min(1, len(class_names)) <= top <= len(class_names):
        raise UserError(
            f"{option('top', top)} is not possible: the network has {len(class_names)} classes"
        )
    square, _ = network_input(image, cut.network.image_size, resize, cut.network.scaling)
    forward = cut.forward(square[None])
    if exponents := cut.find_exponents(forward):
        cut.rescale(exponents)
        forward = cut.forward(square[None])
    V = forward.V.reshape(-1, forward.V.shape[-1])
    if not V.any():
        raise UserError(f"all activations of layer {cut.layer} are zero: there is nothing to find")
    if k > min(V.shape):
        raise UserError(
            f"{option('k', k)} is more than one image allows: layer {cut.layer} has"
            f" {V.shape[0]} positions of {V.shape[1]} channels"
        )
    transform = nmf.choose_transform("auto", V)
    bank = fit_bank(transform.forward(V), transform, cut.layer, k, seed)
    if forward.prefix is not None:
        bank = replace(bank, prefix=forward.prefix[0].numpy())
    labels = label_vectors(cut, bank, class_names, top)
    return explain_by(cut, bank, labels, class_names, image, resize)


def fit_bank(V: torch.Tensor, transform: nmf.Transform, layer: str, k: int, seed: int) -> Bank:
    """Factorize positions that fit in memory (float32, transformed) into a bank.

    One image has few positions and many local optima: of several starts the best is kept.
    """
    start = partial(nmf.fit, nmf.ArrayBlocks(V), V, k, **TO_THE_END)
    fits = [start(init="nndsvd"), *(start(seed=seed + each) for each in range(N_STARTS))]
    fitted = min(fits, key=lambda found: found.error)
    W, stats, _ = nmf.gauge(fitted.W, fitted.stats)
    thresholds = presence_thresholds(nmf.encode(V, W.float()).numpy())
    return Bank(
        layer=layer,
        seed=seed,
        transform=transform,
        W=W.float().numpy(),
        context=nmf.context_vectors(stats).float().numpy(),
        thresholds=thresholds.values,
        threshold_reasons=thresholds.reasons,
        energies=nmf.energies(W, stats).numpy(),
        stability=np.full(k, np.nan),
        error=fitted.error,
        heldout_error=math.nan,
        svd_error=nmf.svd_error(V, k),
        k_is_stable=False,
    )


def label_vectors(
    cut: Cut, bank: Bank, class_names: tuple[str, ...], top: int = N_CATEGORIES
) -> Labels:
    """Ask the head what it calls each concept's context vector; nothing is tested here."""
    prefix = None if bank.prefix is None else torch.from_numpy(bank.prefix)
    logits = score_vectors(cut, bank.transform.decode(torch.from_numpy(bank.context.T)), prefix)
    best, likely = top_of(logits, cut.link, min(top, len(class_names)))
    names = [[class_names[index] for index in row] for row in best.tolist()]
    return Labels([None] * bank.k, names, likely.tolist())


def picture_of(
    image: NDArray[np.uint8], heatmaps: NDArray[np.float32], shown: list[int], labels: Labels
) -> NDArray[np.uint8]:
    """Put an image beside its composite and the legend of the concepts in `shown`.

    Parameters
    ----------
    image, heatmaps : ndarray
        uint8 (height, width, 3) and float32 (k, height, width), gauge units; NaN where not seen.
    shown : list of int
        Concepts to colour, in the order of the legend.
    labels : Labels
        What the head calls all of them.

    Returns
    -------
    ndarray
        uint8 (height', width', 3).
    """
    colours = concept_colours(len(heatmaps))
    tinted = composite(image, np.nan_to_num(heatmaps[shown]), colours[shown])
    entries = [(_text(labels, concept), colours[concept]) for concept in shown]
    return side_by_side(image, with_legend(tinted, entries))


def _box_of_peak(left: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Return the box of the connected region around the peak, half way down to the mean."""
    level = (left.max() + left.mean()) / 2
    regions, _ = ndimage.label(left >= level)
    around = regions == regions.flat[left.argmax()]
    rows, columns = (np.flatnonzero(around.any(axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _legend(
    labels: Labels,
    peaks: NDArray[np.float32],
    split: NDArray[np.float32],
    thresholds: NDArray[np.float32],
) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "concept_id": np.arange(len(peaks)),
            "label": [names[0] if names else None for names in labels.names],
            "prob": [values[0] if values else math.nan for values in labels.probabilities],
            "max": peaks,
            "contribution": split,
        }
    )
    order = ["contribution", "concept_id"]
    return frame[peaks >= thresholds].sort_values(order, ascending=[False, True], ignore_index=True)


def _text(labels: Labels, concept: int) -> str:
    if (name := labels.called[concept]) is not None:
        return "\n".join([visible(name), f"concept {concept}"])
    lines = [
        f"{visible(name)}  {value:.2f}"  # one line, whatever is in it
        for name, value in zip(labels.names[concept], labels.probabilities[concept], strict=True)
    ]
    return "\n".join(lines or [f"concept {concept}"])
