"""The memory that decoding takes, told from a file's header, and the budget that threads share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..system.memory import Budget
from . import deep
from .formats import FORMATS, divisor
from .limits import check_header, tile_pixels
from .metered import Metered
from .words import listening

DECODING = Budget()
"""Bytes that all threads decoding images share; see `runs.estimate.bound_decoding`."""

COST, DECODING_FIXED = 10, 32_000_000
"""Bytes a pixel takes while it is decoded and scaled, and an image whatever its size."""

LARGER = {"WEBP": 18, "AVIF": 16, "HEIF": 18, "JPEG2000": 24}
"""The same for formats that take more."""

DEEP = {2: 12, 4: 16, 6: 26, 8: 30}
"""The same for images of more than 8 bits, by the bytes that the values of a pixel have."""

COEFFICIENTS = 6
"""Bytes a pixel's coefficients take in a progressive JPEG, at most."""


def decoding_bytes(contents: bytes | NDArray[np.uint8], *, reduced: bool = False) -> int:
    """Return the most bytes it takes to hold contents, decode them and scale what they show.

    Those that will be refused for their header or their size take no more than they are.
    """
    if not isinstance(contents, bytes):
        return 4 * contents.nbytes
    try:
        with listening(), Image.open(Metered(contents), formats=FORMATS) as image:
            check_header(image)
            cost = LARGER.get(image.format or "", COST)
            if deep.kind_of(image) is not None:
                cost = max(cost, DEEP[deep.bytes_of(image)])
            n_pixels = max(image.width * image.height, tile_pixels(image))
            n_bytes = n_pixels * cost // divisor(image, reduced) ** 2
            if image.info.get("progressive"):  # its coefficients are kept whole
                n_bytes = min(n_pixels * cost, n_bytes + n_pixels * COEFFICIENTS)
            # Some decoders hold the file twice.
            return n_bytes + 2 * len(contents) + DECODING_FIXED
    except MemoryError:
        raise
    except Exception:  # decoding will meet it too, and say what it is
        return len(contents)
