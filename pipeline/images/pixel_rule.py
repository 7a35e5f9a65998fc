"""How pixels are read where there are several ways to: damaged files, values of many bits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..errors import option
from .limits import DecodeError

_HARMLESS = re.compile(r"^EXIF|Adobe color transform|JFIF revision|Invalid SOS parameters")
"""What decoders say of files whose pixels are all there."""


def is_harmful(words: str) -> bool:
    """Say whether pixels may be wrong where a decoder says so."""
    return not _HARMLESS.search(words)


@dataclass(frozen=True)
class PixelRule:
    """How pixels are read where there are several ways to.

    Attributes
    ----------
    on_damage : {'reject', 'keep'}
        What becomes of an image whose decoder met damage, and went on.
    ranges : mapping of str to (float, float)
        Of a dataset, see `pipeline.images.deep`; None: each image has its own range.
    """

    on_damage: Literal["reject", "keep"] = "reject"
    ranges: Mapping[str, tuple[float, float]] | None = None

    def range_of(self, kind: str) -> tuple[float, float] | None:
        """Return the range of a kind of values; None: the image's own.

        Raises
        ------
        DecodeError
            The dataset has a range for other kinds alone.
        """
        if self.ranges is None:
            return None
        if kind not in self.ranges:
            raise DecodeError(
                f"{kind} values, which none of the images looked at before the work had:"
                f" {option('levels')} says which are black and white"
            )
        return self.ranges[kind]


RULE = PixelRule()
"""That of an image that belongs to no run."""
