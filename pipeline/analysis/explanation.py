"""What is said of one image: heatmaps, picture, legend, classes; as text and in Jupyter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..classify import Novelty
from ..classify.novelty import EVERY
from ..escape import fitted
from ..system import files
from .display import Shown

UNUSUAL = 95
"""Percentile from which on a region counts as one that no concept explains: one image in twenty."""


@dataclass(frozen=True)
class Explanation:
    """One image against concepts.

    Parameters
    ----------
    heatmaps : ndarray
        float32 (k, height, width), gauge units, at the image's size; NaN where not seen.
    picture : ndarray
        uint8 (height', width', 3): the image beside its composite and legend.
    legend : DataFrame
        A row per concept, strongest contribution first: concept_id, label, prob, max (gauge units),
        contribution (logits, to the class the image is taken for).
    classes : DataFrame
        The image's best classes: class_id, label, prob.
    residual : float
        ‖V − D(W H)‖ / ‖V‖ over the image.
    box : (int, int, int, int)
        Half-open x0, y0, x1, y1 in the image's pixels: the region that the concepts explain least.
    novelty : Novelty or None
        How unusual that is among a run's images; None where the image stands by itself.
    """

    heatmaps: NDArray[np.float32]
    picture: NDArray[np.uint8]
    legend: pd.DataFrame
    classes: pd.DataFrame
    residual: float
    box: tuple[int, int, int, int]
    novelty: Novelty | None = None

    def describe(self) -> str:
        """Write what the network sees, by which concepts, and what they leave unexplained."""
        lines = [] if self.classes.empty else ["the network sees:"]
        lines += [
            f"  {fitted(row.label, 60):<32} {row.prob:5.1%}" for row in self.classes.itertuples()
        ]
        lines += ["the concepts in it:" if self.classes.empty else "by the concepts:"]
        lines += [_line(row) for row in self.legend.itertuples()]
        lines.append(f"not explained by any concept: {self.residual:.1%} of the activations' norm")
        return "\n".join([*lines, *self._describe_novelty()])

    def save(self, path: str | Path) -> None:
        """Write the picture as PNG."""
        picture = Image.fromarray(self.picture)
        files.write_with(Path(path), lambda file: picture.save(file, format="PNG"))

    def _describe_novelty(self) -> list[str]:
        """Say how unusual the image is to the concepts, and where."""
        new = self.novelty
        if new is None:
            return []
        among = "of its class" if new.class_id != EVERY else "of the run"
        x0, y0, x1, y1 = self.box
        region = f"explained least at x {x0} to {x1}, y {y0} to {y1}: {_nth(new.peak)} percentile"
        return [
            f"that is the {_nth(new.residual)} percentile of {new.n} images {among}",
            region + (", no concept explains this region" if new.peak >= UNUSUAL else ""),
        ]

    def _repr_html_(self) -> str:
        """Show picture, classes and legend in Jupyter."""
        shown = Shown(
            "",
            self.picture,
            self.legend,
            more={} if self.classes.empty else {"the network sees": self.classes},
        )
        return shown._repr_html_()


def _line(row: Any) -> str:
    strength = f"strength {row.max:5.2f}"
    if pd.isna(row.contribution):  # the network has no classes
        return f"  {row.concept_id:>3} {strength}"
    label = fitted(row.label, 60)
    return f"  {row.concept_id:>3} {label:<28} {strength}  contribution {row.contribution:+7.3f}"


def _nth(percentile: float) -> str:
    whole = round(percentile)
    endings = {1: "st", 2: "nd", 3: "rd"} if whole % 100 not in (11, 12, 13) else {}
    return f"{whole}{endings.get(whole % 10, 'th')}"
