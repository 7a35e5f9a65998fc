"""What a source of networks is: it knows names, and loads a network by one of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..images import InputSize
from .network import Network

RANDOM = Path("random")
"""In place of a weights file: weights are drawn, for trials."""


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of images in [0, 1]: what most networks are trained with."""

NORMALISATION = "ImageNet's mean and std are assumed"
"""How what the user is told begins where a network does not say how its images are normalised."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a network.

    Attributes
    ----------
    weights : Path or None
        A weights file; `RANDOM` draws them; None: the source's own.
    image_size : int, (int, int) or None
        Side of the square input, or its height and width, pixels; None: the network's own.
    seed : int
        Of random weights.
    weights_key : str or None
        Under which key of the file the weights are.
    """

    weights: Path | None = None
    image_size: InputSize | None = None
    seed: int = 0
    weights_key: str | None = None

    @property
    def is_filled(self) -> bool:
        """Whether the weights come of a file."""
        return self.weights not in (None, RANDOM)

    @property
    def drawn(self) -> str:
        """How random weights are called."""
        return f"random (seed {self.seed})"


class NetworkSource(Protocol):
    """Where networks come from.

    A plug-in of the group ``concordance.networks`` is one of these. It is asked for what stands
    after its name in the option ``model``.
    """

    def names(self) -> Iterable[str]:
        """List the names it knows, for messages; a source that takes any name lists none."""

    def load(self, name: str, wanted: Wanted) -> Network:
        """Load a network, which is then set to `eval` and freed of gradients.

        Raises
        ------
        UserError
            The name is unknown, the weights are missing or do not fit, or the network cannot be
            made for images of that size.
        """
