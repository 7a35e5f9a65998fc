"""Colours that a profile describes, brought to sRGB, which networks and screens take them for."""

from __future__ import annotations

import io
from functools import lru_cache

from PIL import Image, ImageCms

MOST_BYTES = 4_000_000
"""Larger profiles are not looked at: those of printers have three million."""

_MODES = ("RGB", "CMYK", "L")


def has_other_colours(image: Image.Image) -> bool:
    """Say whether an image has a profile that is not sRGB's, and can be followed."""
    return _conversion(image) is not None


def to_srgb(image: Image.Image) -> Image.Image:
    """Convert an image by its profile; where it has none, or none that can be read, it stays."""
    conversion = _conversion(image)
    if conversion is None:
        return image
    converted = conversion.apply(image)
    assert isinstance(converted, Image.Image)
    return converted


def _conversion(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    profile = image.info.get("icc_profile")
    if image.mode not in _MODES or not isinstance(profile, bytes) or len(profile) > MOST_BYTES:
        return None
    return _transform(profile, image.mode)


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(given):
            return None
        # Without a cache of the last colour, which threads would share.
        return ImageCms.buildTransform(
            given, ImageCms.createProfile("sRGB"), mode, "RGB", flags=ImageCms.Flags.NOCACHE
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None  # of another colour space, or damaged: the numbers are all there is
