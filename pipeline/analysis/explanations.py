"""One image explained by several numbers of concepts, to see what few merge and many split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..pictures.composites import below_each_other
from ..system import files
from .display import Shown
from .explanation import Explanation


@dataclass(frozen=True)
class Explanations:
    """One image, explained by itself with several numbers of concepts.

    Parameters
    ----------
    by_k : dict of int to Explanation
        In the order asked for.
    """

    by_k: dict[int, Explanation]

    @property
    def picture(self) -> NDArray[np.uint8]:
        """The pictures below each other, uint8 (height, width, 3), each under its number."""
        return below_each_other([(_title(k, found), found.picture) for k, found in self.items()])

    def items(self) -> list[tuple[int, Explanation]]:
        """List numbers and explanations."""
        return [*self.by_k.items()]

    def describe(self) -> str:
        """Write what each number of concepts says."""
        return "\n\n".join(f"{_title(k, found)}\n{found.describe()}" for k, found in self.items())

    def save(self, path: str | Path) -> None:
        """Write the picture as PNG."""
        picture = Image.fromarray(self.picture)
        files.write_with(Path(path), lambda file: picture.save(file, format="PNG"))

    def _repr_html_(self) -> str:
        """Show the picture, and the legend of each, in Jupyter."""
        (_, first), *rest = self.items()
        more = {_title(k, found): found.legend for k, found in rest}
        return Shown("", self.picture, first.legend, more=more)._repr_html_()


def _title(k: int, found: Explanation) -> str:
    left = f"{found.residual:.0%} of the activations' norm unexplained"
    return f"{k} concept{'s' if k > 1 else ''}, {left}"
