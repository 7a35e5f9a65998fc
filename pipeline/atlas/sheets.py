"""Contact sheets for print: a PNG a concept, and all concepts as rows of one PDF."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from pipeline.atlas.media import CELL, unpack
from pipeline.atlas.typeset import Style, clean, draw, elide, width_of, wrap

Bytes = npt.NDArray[np.uint8]

_PAPER, _RULE = (255, 255, 255), (222, 221, 216)
_MUTED = (99, 96, 90)
_PAGE, _DPI = (2480, 3508), 300  # A4


@dataclass(frozen=True)
class Entry:
    """A concept on a sheet: its heading, lines of notes, colour (RGB) and crops (square JPEGs)."""

    heading: str
    notes: Sequence[str]
    colour: tuple[int, int, int]
    cells: Sequence[bytes]


def concept_sheet(entry: Entry, *, columns: int = 4, side: int = CELL) -> Bytes:
    """Set a concept's crops in a grid under its heading, for print.

    Parameters
    ----------
    entry : Entry
    columns, side : int
        Crops in a row, and their size in pixels.

    Returns
    -------
    numpy.ndarray
        uint8 (height, width, 3), RGB.
    """
    pad, gap = 36, 10
    head, body = Style(36), Style(20, colour=_MUTED)
    width = 2 * pad + columns * side + (columns - 1) * gap
    top = pad + head.leading + len(entry.notes) * body.leading + 20
    lines = max(1, -(-len(entry.cells) // columns))
    sheet = Image.new("RGB", (width, top + lines * (side + gap) - gap + pad), _PAPER)
    _mark(sheet, (pad, pad + 6), 30, entry.colour)
    room = width - 2 * pad
    heading = elide(clean(entry.heading), head, room - 46)
    draw(sheet, (pad + 46, pad + 33), heading, head)
    for at, note in enumerate(entry.notes):
        y = pad + head.leading + (at + 0.8) * body.leading
        draw(sheet, (pad, y), elide(clean(note), body, room), body)
    for at, cell in enumerate(entry.cells):
        x = pad + at % columns * (side + gap)
        sheet.paste(unpack(cell, side), (x, top + at // columns * (side + gap)))
    return np.asarray(sheet)


def book(title: str, subtitle: str, entries: Sequence[Entry]) -> bytes:
    """Set all concepts as rows, heading left and crops right, into an A4 PDF of 300 dots an inch.

    Returns
    -------
    bytes
        The PDF; equal for equal input (it carries no date).
    """
    sheets = list(_pages(title, subtitle, entries))
    buffer = io.BytesIO()
    sheets[0].save(
        buffer, "PDF", save_all=True, append_images=sheets[1:], resolution=_DPI, quality=90,
        title=clean(title), creationDate=None, modDate=None,
    )  # fmt: skip
    return buffer.getvalue()


def sheet_png(entry: Entry) -> bytes:
    """Make the contact sheet of a concept and encode it as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(concept_sheet(entry)).save(buffer, "PNG", compress_level=3, dpi=(_DPI, _DPI))
    return buffer.getvalue()


def _pages(title: str, subtitle: str, entries: Sequence[Entry]) -> Iterator[Image.Image]:
    margin, row, n_cells, gap = 190, 286, 6, 10
    label = 560
    side = (_PAGE[0] - 2 * margin - label - (n_cells - 1) * gap) // n_cells
    per_page = (_PAGE[1] - 2 * margin - 260) // row
    n_pages = max(1, -(-len(entries) // per_page))
    for page in range(n_pages):
        sheet = Image.new("RGB", _PAGE, _PAPER)
        _running_head(sheet, margin, title, subtitle, f"{page + 1} / {n_pages}")
        for line, entry in enumerate(entries[page * per_page : (page + 1) * per_page]):
            y = margin + 230 + line * row
            _row_label(sheet, (margin, y), entry, label - 40)
            for at, cell in enumerate(entry.cells[:n_cells]):
                sheet.paste(unpack(cell, side), (margin + label + at * (side + gap), y))
        yield sheet


def _running_head(sheet: Image.Image, margin: int, title: str, subtitle: str, folio: str) -> None:
    head, body = Style(64), Style(34, colour=_MUTED)
    room = _PAGE[0] - 2 * margin
    draw(sheet, (margin, margin + 56), elide(clean(title), head, room), head)
    draw(sheet, (margin, margin + 124), elide(clean(subtitle), body, room - 200), body)
    draw(sheet, (_PAGE[0] - margin - width_of(folio, body), margin + 124), folio, body)
    y = margin + 170
    ImageDraw.Draw(sheet).line((margin, y, _PAGE[0] - margin, y), fill=_RULE, width=3)


def _row_label(sheet: Image.Image, xy: tuple[int, int], entry: Entry, width: int) -> None:
    head, body = Style(42), Style(29, colour=_MUTED)
    x, y = xy
    _mark(sheet, (x, y + 6), 34, entry.colour)
    lines = wrap(entry.heading, head, width - 56, 2)
    for at, line in enumerate(lines):
        draw(sheet, (x + 56, y + 36 + at * head.leading), line, head)
    y += 36 + len(lines) * head.leading
    for at, note in enumerate(entry.notes[:4]):
        draw(sheet, (x + 56, y + at * body.leading), elide(clean(note), body, width - 56), body)


def _mark(sheet: Image.Image, xy: tuple[int, int], size: int, colour: tuple[int, int, int]) -> None:
    x, y = xy
    ImageDraw.Draw(sheet).rounded_rectangle((x, y, x + size, y + size), size // 5, fill=colour)
