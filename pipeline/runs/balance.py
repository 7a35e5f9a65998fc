"""How much each image counts in a fit: ``BALANCE``."""

from __future__ import annotations

import math
from collections import defaultdict

from ..errors import UserError, option
from .workspace import Workspace


def image_weights(workspace: Workspace) -> dict[int, float] | None:
    """Return a factor for the rows of each image, as ``BALANCE`` says; None: all alike.

    Under ``image`` every image has the same share of ‖V‖², under ``class`` every label; an image of
    several belongs to the rarest of them, where its energy counts for most. Factors
    are square roots of weights, for the error is quadratic.
    """
    balance, frame = workspace.config.balance, workspace.listing.frame
    if balance == "none":
        return None
    if balance == "class" and frame["label"].isna().any():
        raise UserError(
            f"{option('balance', 'class')} needs a label for every image;"
            f" use {option('balance', 'image')}"
        )
    counts = frame["labels"].explode().value_counts().to_dict()
    rarest = [
        min(each, key=lambda label: (counts[label], label), default="") for each in frame["labels"]
    ]
    label_of = dict(zip(frame["image_id"].tolist(), rarest, strict=True))
    group_of: dict[int, object] = {}
    energy: dict[object, float] = defaultdict(float)
    for arrays in workspace.activations.iterate(["image_id", "norm"], workspace.ids("fit")):
        for image_id, norm in zip(
            arrays["image_id"].tolist(), arrays["norm"].tolist(), strict=True
        ):
            group_of[image_id] = label_of[image_id] if balance == "class" else image_id
            energy[group_of[image_id]] += norm * norm
    share = sum(energy.values()) / max(1, len(energy))
    factor = {group: math.sqrt(share / sum_) if sum_ else 0.0 for group, sum_ in energy.items()}
    return {image_id: factor[group] for image_id, group in group_of.items()}
