"""Contact sheets for print: a JPEG per concept, and all concepts as rows of one PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..pictures.typeset import Style, clean, draw, elide, width_of, wrap
from .media import CELL, unpack
from .pdf import DPI, Pdf

Bytes = npt.NDArray[np.uint8]

QUALITY = 88  # its crops were JPEGs of 92: as PNG a sheet took four times the room

_PAPER, _RULE = (255, 255, 255), (222, 221, 216)
_MUTED = (99, 96, 90)
_PAGE = (2480, 3508)  # A4, in pixels of 1/300 inch


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
    """Set all concepts as rows, heading left and crops right, into an A4 PDF: text and pictures.

    Returns
    -------
    bytes
        The PDF; equal for equal input (it carries no date).
    """
    document = Pdf(clean(title), *_PAGE)
    margin, row, n_cells, gap, label = 190, 286, 6, 10, 560
    side = (_PAGE[0] - 2 * margin - label - (n_cells - 1) * gap) // n_cells
    per_page = (_PAGE[1] - 2 * margin - 260) // row
    n_pages = max(1, -(-len(entries) // per_page))
    for page in range(n_pages):
        _running_head(document, margin, title, subtitle, f"{page + 1} / {n_pages}")
        for line, entry in enumerate(entries[page * per_page : (page + 1) * per_page]):
            y = margin + 230 + line * row
            _row_label(document, margin, y, entry, label - 40)
            for at, cell in enumerate(entry.cells[:n_cells]):
                x = margin + label + at * (side + gap)
                document.jpeg(x, y, side, side, cell)
        document.end_page()
    return document.finish()


def sheet_jpeg(entry: Entry) -> bytes:
    """Make the contact sheet of a concept and encode it as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(concept_sheet(entry)).save(buffer, "JPEG", quality=QUALITY, dpi=(DPI, DPI))
    return buffer.getvalue()


def _running_head(document: Pdf, margin: int, title: str, subtitle: str, folio: str) -> None:
    head, body = Style(64), Style(34, colour=_MUTED)
    room = _PAGE[0] - 2 * margin
    document.text(margin, margin + 56, elide(clean(title), head, room), head)
    document.text(margin, margin + 124, elide(clean(subtitle), body, room - 200), body)
    document.text(_PAGE[0] - margin - width_of(folio, body), margin + 124, folio, body)
    document.box(margin, margin + 168, room, 3, _RULE)


def _row_label(document: Pdf, x: int, y: int, entry: Entry, width: int) -> None:
    head, body = Style(42), Style(29, colour=_MUTED)
    document.box(x, y + 6, 34, 34, entry.colour)
    lines = wrap(entry.heading, head, width - 56, 2)
    for at, line in enumerate(lines):
        document.text(x + 56, y + 36 + at * head.leading, line, head)
    y += 36 + len(lines) * head.leading
    for at, note in enumerate(entry.notes[:4]):
        line = elide(clean(note), body, width - 56)
        document.text(x + 56, y + at * body.leading, line, body)


def _mark(sheet: Image.Image, xy: tuple[int, int], size: int, colour: tuple[int, int, int]) -> None:
    x, y = xy
    ImageDraw.Draw(sheet).rectangle((x, y, x + size, y + size), fill=colour)
