"""What a notebook shows of an image, a concept or a list of images: a picture and a table."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from ..escape import visible, visible_lines

Bytes = NDArray[np.uint8]

TILE = 168
"""Height of a picture in a strip, pixels."""

_STYLE = "display:flex;flex-wrap:wrap;gap:0.2em 1.6em;margin:0.3em 0 0.6em"


@dataclass(frozen=True, repr=False)
class Shown:
    """A picture and what there is to say of it; in Jupyter both appear.

    Attributes
    ----------
    title : str
        What is shown.
    picture : ndarray
        uint8 (height, width, 3), RGB.
    table : DataFrame
        The rows behind the picture.
    facts : mapping of str to str
        Single facts, for reading.
    more : mapping of str to DataFrame
        Further tables by name.
    """

    title: str
    picture: Bytes
    table: pd.DataFrame
    facts: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Write title, facts and tables as text."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        parts = [visible(self.title), visible(facts), self.table.to_string(index=False)]
        for name, table in self.more.items():
            parts += ["", name, table.to_string(index=False)]
        return visible_lines("\n".join(part for part in parts if part or part == ""))

    def _repr_html_(self) -> str:
        """Write title, picture, facts and tables as HTML; all text is escaped."""
        facts = "".join(
            f"<span>{_text(name)} <b>{_text(value)}</b></span>"
            for name, value in self.facts.items()
        )
        tables = "".join(
            f"<div><p>{_text(name)}</p>{_table(table)}</div>" for name, table in self.more.items()
        )
        return (
            f"<h3>{_text(self.title)}</h3><div style='{_STYLE}'>{facts}</div>"
            f"{_image(self.picture, self.title)}"
            f"<div style='{_STYLE}'><div>{_table(self.table)}</div>{tables}</div>"
        )


class ImageTable(pd.DataFrame):
    """A table of images that shows the first of them above its rows in Jupyter.

    It is a DataFrame in every other respect; what is computed from it is a plain one.
    """

    draw: Callable[[], Bytes] | None = None

    @staticmethod
    def of(rows: pd.DataFrame, draw: Callable[[], Bytes]) -> ImageTable:
        """Make the table; `draw` gives its picture when it is wanted."""
        table = ImageTable(rows)
        object.__setattr__(table, "draw", draw)
        return table

    def __repr__(self) -> str:
        """Write the rows as text."""
        return visible_lines(repr(pd.DataFrame(self)))

    def _repr_html_(self) -> str:
        """Write picture and rows as HTML; all text is escaped."""
        rows = visible_lines(str(pd.DataFrame(self)._repr_html_()))  # type: ignore[operator]  # not in pandas' types
        if self.draw is None or not len(self):
            return rows
        return _image(self.draw(), "the first of these images") + rows


def shrink(picture: Bytes, height: int) -> Bytes:
    """Scale a picture, uint8 (height, width, 3), down to a height; smaller ones stay."""
    image = Image.fromarray(picture)
    if image.height <= height:
        return picture
    size = (max(1, round(image.width * height / image.height)), height)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def strip(pictures: Sequence[Bytes], height: int = TILE) -> Bytes:
    """Put pictures, uint8 (height, width, 3), side by side at one height with thin gaps."""
    if not pictures:
        return np.full((height, height, 3), 255, dtype=np.uint8)
    gap = np.full((height, 6, 3), 255, dtype=np.uint8)
    parts = []
    for picture in pictures:
        image = Image.fromarray(picture)
        width = max(1, round(image.width * height / image.height))
        parts += [np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)), gap]
    return np.concatenate(parts[:-1], axis=1)


def _image(picture: Bytes, words: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"<img alt='{html.escape(visible(words))}' src='data:image/jpeg;base64,{data}'>"


def _table(table: pd.DataFrame) -> str:
    rows = table.to_html(index=False, border=0, float_format="{:.3g}".format, max_rows=20)
    return visible_lines(rows)


def _text(text: str) -> str:
    """A name in HTML: a part of its own, whichever way it runs."""
    return f"<bdi>{html.escape(visible(text))}</bdi>"
