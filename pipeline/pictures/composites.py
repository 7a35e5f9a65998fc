"""Pictures of concepts on images: composite with legend, single overlays, spotlight crops.

Every function is pure: arrays in, arrays out. Images are uint8 (height, width, 3), RGB; heatmaps
are float32 at the image's size in gauge units, where 1 is "as strong as this concept typically is
where it is present". The scale is the dataset's, never the image's: an absent concept looks absent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .colours import concept_colours
from .typeset import Style, clean, draw, width_of, wrap

__all__ = [
    "below_each_other",
    "composite",
    "concept_colours",
    "overlay",
    "side_by_side",
    "spotlight",
    "with_legend",
]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Entry = tuple[str, npt.ArrayLike]

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_PAPER = (255, 255, 255)
_MUTED = (96, 96, 104)


def composite(image: Bytes, heatmaps: Floats, colours: Bytes, *, weight: float = 0.6) -> Bytes:
    """Colour an image by its concepts: the strongest one wins a pixel, intensity by its heatmap.

    The colours follow the picture's own light and shade, so that texture stays readable under a
    strong tint. Where no concept is present the image is left as it is.

    Parameters
    ----------
    image : numpy.ndarray
        uint8 (height, width, 3), RGB.
    heatmaps : numpy.ndarray
        float32 (k, height, width), gauge units; clipped to 0..1 for intensity. NaN (not seen) is
        drawn as absent.
    colours : numpy.ndarray
        uint8 (k, 3), RGB.
    weight : float
        Share of the colour, 0..1, where a concept is at strength 1 or above.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width, 3).

    Notes
    -----
    After ``show_factorization_on_image`` of pytorch-grad-cam, with two differences: heatmaps are
    compared on the dataset's scale instead of each image's, and absent is transparent, not black.
    """
    if len(heatmaps) == 0:
        return image.copy()
    seen = np.nan_to_num(heatmaps)
    winner = seen.argmax(axis=0)
    strength = np.take_along_axis(seen, winner[None], axis=0)[0]
    return _tint(image, colours.astype(np.float32)[winner], strength, weight)


def overlay(image: Bytes, heatmap: Floats, colour: npt.ArrayLike, *, weight: float = 0.6) -> Bytes:
    """Colour an image by one concept; parameters as for `composite`, `heatmap` (height, width)."""
    return _tint(image, np.asarray(colour, np.float32), heatmap, weight)


def spotlight(image: Bytes, heatmap: Floats, *, dark: float = 0.72) -> Bytes:
    """Dim and grey an image where a concept is weak, so that the concept stands in the light.

    Parameters
    ----------
    image, heatmap
        uint8 (height, width, 3) and float32 (height, width), gauge units.
    dark : float
        How far, 0..1, the picture is dimmed where the concept is absent.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width, 3).
    """
    share = np.nan_to_num(heatmap).clip(0.0, 1.0)
    light = np.rint(255.0 * share * share * (3.0 - 2.0 * share)).astype(np.uint8)
    bright = Image.fromarray(np.ascontiguousarray(image))
    dim = bright.convert("L").point([round(level * (1.0 - dark)) for level in range(256)])
    return np.asarray(Image.composite(bright, dim.convert("RGB"), Image.fromarray(light)))


def with_legend(picture: Bytes, entries: Sequence[Entry]) -> Bytes:
    """Set a legend beside a picture: one entry per concept, its colour and lines of text.

    Parameters
    ----------
    picture : numpy.ndarray
        uint8 (height, width, 3), RGB.
    entries : sequence of (str, colour)
        Text, whose first line is set stronger than the others (separated by newlines; any
        unicode), and an RGB colour of values 0..255. Long lines are wrapped, then elided; entries
        for which the panel has no room become "and n more".

    Returns
    -------
    numpy.ndarray
        uint8 (height, width + legend width, 3). The picture is scaled up where it is too small
        for a readable legend.
    """
    if not entries:
        return picture.copy()
    canvas = Image.fromarray(picture)
    least = max(360, 24 * min(len(entries), 20))
    if canvas.height < least:
        scale = least / canvas.height
        canvas = canvas.resize((round(canvas.width * scale), least), Image.Resampling.LANCZOS)
    panel = _legend(entries, canvas.height)
    joined = Image.new("RGB", (canvas.width + panel.width, canvas.height), _PAPER)
    joined.paste(canvas, (0, 0))
    joined.paste(panel, (canvas.width, 0))
    return np.asarray(joined)


def side_by_side(left: Bytes, right: Bytes) -> Bytes:
    """Put two pictures beside each other with a thin gap; the left is scaled to the right's height.

    Both are uint8 (height, width, 3); the result has the right one's height.
    """
    height = right.shape[0]
    first = Image.fromarray(left)
    if first.height != height:
        width = max(1, round(first.width * height / first.height))
        first = first.resize((width, height), Image.Resampling.LANCZOS)
    gap = np.full((height, max(2, height // 90), 3), 255, np.uint8)
    return np.concatenate([np.asarray(first), gap, right], axis=1)


def below_each_other(pictures: Sequence[tuple[str, Bytes]]) -> Bytes:
    """Put pictures below each other, each under a title; they stay as large as they are.

    Parameters
    ----------
    pictures : sequence of (str, numpy.ndarray)
        One line of text, and uint8 (height, width, 3).

    Returns
    -------
    numpy.ndarray
        uint8, as wide as the widest.
    """
    width = max(each.shape[1] for _, each in pictures)
    style = Style(max(16, round(width / 56)))
    above = round(style.leading * 1.5)
    height = sum(above + each.shape[0] for _, each in pictures)
    page = Image.new("RGB", (width, height), _PAPER)
    y = 0
    for title, picture in pictures:
        line = wrap(clean(title), style, width - style.size, 1)[0]
        draw(page, (style.size // 2, y + round(style.leading)), line, style)
        page.paste(Image.fromarray(picture), (0, y + above))
        y += above + picture.shape[0]
    return np.asarray(page)


def _tint(image: Bytes, colour: Floats, strength: Floats, weight: float) -> Bytes:
    """Blend `colour`, shaded by the picture's luminance, over the greyed picture, by strength."""
    pixels = image.astype(np.float32)
    grey = (pixels @ _LUMA)[..., None]
    presence = np.nan_to_num(strength).clip(0.0, 1.0)[..., None]
    base = pixels + (grey - pixels) * presence * min(1.0, 1.8 * weight)
    shaded = np.minimum(colour * (0.40 + 0.90 * grey / 255.0), 255.0)
    return _to_bytes(base + (shaded - base) * presence * weight)


def _legend(entries: Sequence[Entry], height: int) -> Image.Image:
    n_lines = sum(text.count("\n") + 1 for text, _ in entries)
    needed = 1.25 * n_lines + 0.85 * len(entries) + 2.6  # ems: lines, gaps and margins
    size = round(min(30, max(13, height / 26, min(height / 17, height / needed))))
    head, body = Style(size), Style(round(size * 0.86), colour=_MUTED)
    pad, swatch = round(size * 1.3), round(size * 1.05)
    text_x = pad + swatch + round(size * 0.75)
    blocks = [_entry_lines(text, head, body, round(size * 15)) for text, _ in entries]
    widest = max(width_of(line, style) for block in blocks for line, style in block)
    width = text_x + max(round(widest), size * 7) + pad
    gap = round(size * 0.85)
    shown, used = _fitting([_block_height(block) for block in blocks], gap, height - 2 * pad, body)
    panel = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(panel)
    y = (height - used) // 2
    for block, (_, colour) in zip(blocks[:shown], entries, strict=False):
        top = y + round((head.leading - swatch) / 2)
        fill = tuple(int(each) for each in np.asarray(colour)[:3])
        pen.rounded_rectangle((pad, top, pad + swatch, top + swatch), swatch // 4, fill=fill)
        for line, style in block:
            draw(panel, (text_x, y + round(style.leading * 0.78)), line, style)
            y += style.leading
        y += gap
    if shown < len(entries):
        draw(panel, (text_x, y + body.size), f"and {len(entries) - shown} more", body)
    return panel


def _entry_lines(text: str, head: Style, body: Style, width: int) -> list[tuple[str, Style]]:
    first, *rest = [clean(line) for line in text.split("\n")] or [""]
    lines = [(line, head) for line in wrap(first, head, width, 2)]
    return lines + [(line, body) for each in rest for line in wrap(each, body, width, 1)]


def _block_height(block: list[tuple[str, Style]]) -> int:
    return sum(style.leading for _, style in block)


def _fitting(heights: list[int], gap: int, room: int, more: Style) -> tuple[int, int]:
    """How many blocks fit `room`, leaving a line for "and n more" if not all, and their height."""
    total = sum(heights) + gap * (len(heights) - 1)
    if total <= room:
        return len(heights), total
    used, shown = more.leading, 0
    for height in heights:
        if used + height + gap > room:
            break
        used, shown = used + height + gap, shown + 1
    return shown, used


def _to_bytes(pixels: Floats) -> Bytes:
    return (pixels + 0.5).clip(0.0, 255.0).astype(np.uint8)
