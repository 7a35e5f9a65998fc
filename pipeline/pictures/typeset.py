"""Set text into pictures: any unicode, wrapped and elided to a width, crisp at any size."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from ..escape import visible

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont

ELLIPSIS = "…"


@dataclass(frozen=True)
class Style:
    """How a text is set: size in pixels (of the em), weight and colour (RGB, 0..255)."""

    size: int
    bold: bool = False
    colour: Colour = (24, 24, 27)

    @property
    def leading(self) -> int:
        """Distance of two lines, in pixels."""
        return round(self.size * 1.32)


def clean(text: str) -> str:
    """Make any string one printable line: what has no picture is written out, or a box."""
    return "".join(
        char if unicodedata.category(char)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for char in " ".join(visible(text).split())
    )


def width_of(text: str, style: Style) -> float:
    """Width in pixels that `text` takes on one line."""
    return sum(font.getlength(run) for font, run in runs(text, style))


def elide(text: str, style: Style, width: float) -> str:
    """Cut `text` to what fits `width` pixels, with an ellipsis where something was cut."""
    if width_of(text, style) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = width_of(text[:middle].rstrip() + ELLIPSIS, style) <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + ELLIPSIS


def wrap(text: str, style: Style, width: float, n_lines: int) -> list[str]:
    """Break `text` at spaces into at most `n_lines` lines of `width` pixels; the last is elided."""
    words = clean(text).split(" ")
    lines: list[str] = []
    while words and len(lines) < n_lines - 1:
        n = 1
        while n < len(words) and width_of(" ".join(words[: n + 1]), style) <= width:
            n += 1
        lines.append(elide(" ".join(words[:n]), style, width))
        words = words[n:]
    if words:
        lines.append(elide(" ".join(words), style, width))
    return lines


def draw(picture: Image.Image, xy: tuple[float, float], text: str, style: Style) -> None:
    """Draw one line of `text` into `picture` in place; `xy` is its left edge and its baseline."""
    pen = ImageDraw.Draw(picture)
    x, y = xy
    for font, run in runs(text, style):
        pen.text((x, y), run, font=font, fill=style.colour, anchor="ls")
        x += font.getlength(run)


def runs(text: str, style: Style) -> list[tuple[Font, str]]:
    """Split a line into runs of one font each; a character that no font has is a box."""
    fonts = _fonts(style.size, style.bold)
    runs: list[tuple[Font, str]] = []
    for char in text:
        usable = (font for font in fonts if _has(font, char))
        font = next(usable, runs[-1][0] if runs else fonts[0])
        if runs and runs[-1][0] is font:
            runs[-1] = (font, runs[-1][1] + char)
        else:
            runs.append((font, char))
    return runs


@cache
def _fonts(size: int, bold: bool) -> tuple[Font, ...]:
    """Pillow's own sans where it has the glyph; matplotlib's DejaVu Sans for other scripts."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    wide = ImageFont.truetype(
        folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", round(size * 0.94)
    )
    own = ImageFont.load_default(size)
    return (wide,) if bold or not isinstance(own, Font) else (own, wide)


@cache
def _has(font: Font, char: str) -> bool:
    return char.isspace() or bytes(font.getmask(char)) != bytes(font.getmask("\U0010fffe"))
