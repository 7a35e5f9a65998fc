"""A small PDF writer: text as text in embedded fonts, JPEGs as they are, filled boxes and lines.

Only what a printed sheet needs, so that its pictures are not encoded twice and its text stays
sharp, searchable and small. Coordinates are pixels of 1/300 inch from the top left corner. Equal
calls give equal bytes.

References
----------
ISO 32000-1:2008, 7.5 (file structure), 8.9.5 (images), 9.7.4 (CIDFonts), 9.10.3 (ToUnicode).
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image

from ..images import FORMATS
from ..pictures.typeset import Font, Style, runs

DPI = 300
_POINT = 72 / DPI
_UNITS = 1000  # of the em, in which PDF counts widths

Colour = tuple[int, int, int]


@dataclass
class _Face:
    """A font file and the glyphs that were used of it, with the text each stands for."""

    data: bytes
    used: dict[int, str] = field(default_factory=dict)

    @cached_property
    def font(self) -> TTFont:
        return TTFont(io.BytesIO(self.data), recalcTimestamp=False)

    @cached_property
    def _glyphs(self) -> dict[int, int]:
        names = self.font.getBestCmap()
        return {code: self.font.getGlyphID(name) for code, name in names.items()}

    def encode(self, text: str) -> str:
        """Write text as glyph numbers in hexadecimal; what the font lacks becomes its box."""
        numbers = [self._glyphs.get(ord(char), 0) for char in text]
        self.used.update(zip(numbers, text, strict=True))
        self.used[0] = "\N{REPLACEMENT CHARACTER}"
        return "".join(f"{number:04x}" for number in numbers)

    def subset(self) -> bytes:
        """The font file with the used glyphs only, under their numbers."""
        options = subset.Options(retain_gids=True, notdef_outline=True, layout_features=[])
        options.drop_tables += ["FFTM", "GPOS", "GSUB", "GDEF", "kern", "post", "name"]
        part = TTFont(io.BytesIO(self.data), recalcTimestamp=False)
        worker = subset.Subsetter(options)
        worker.populate(gids=sorted(self.used))
        worker.subset(part)
        buffer = io.BytesIO()
        part.save(buffer)
        return buffer.getvalue()


class Pdf:
    """A document of pages of one size, given in pixels of 1/300 inch."""

    def __init__(self, title: str, width: int, height: int) -> None:
        self._title, self._width, self._height = title, width, height
        self._objects: list[bytes] = [b"", b""]  # the catalogue and the tree of pages
        self._pages: list[int] = []
        self._faces: dict[str, _Face] = {}
        self._drawn: list[str] = []
        self._images: dict[str, int] = {}

    def text(self, x: float, y: float, text: str, style: Style) -> None:
        """Set one line; x is its left edge, y its baseline."""
        at = x
        for font, run in runs(text, style):
            name = font.getname()[0] or "font"
            face = self._faces.setdefault(name, _Face(_file_of(font)))
            number = list(self._faces).index(name)
            self._drawn.append(
                f"BT {_rgb(style.colour)} rg /F{number} {font.size * _POINT:.2f} Tf"
                f" {at * _POINT:.2f} {self._up(y):.2f} Td <{face.encode(run)}> Tj ET"
            )
            at += font.getlength(run)

    def jpeg(self, x: float, y: float, width: float, height: float, data: bytes) -> None:
        """Place a JPEG, RGB, with its upper left corner at x, y."""
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            size = picture.size
        number = self._add(
            f"/Type /XObject /Subtype /Image /Width {size[0]} /Height {size[1]}"
            " /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode",
            data,
        )
        name = f"I{number}"
        self._images[name] = number
        self._drawn.append(
            f"q {width * _POINT:.2f} 0 0 {height * _POINT:.2f} {x * _POINT:.2f}"
            f" {self._up(y + height):.2f} cm /{name} Do Q"
        )

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a box with its upper left corner at x, y."""
        self._drawn.append(
            f"{_rgb(colour)} rg {x * _POINT:.2f} {self._up(y + height):.2f}"
            f" {width * _POINT:.2f} {height * _POINT:.2f} re f"
        )

    def end_page(self) -> None:
        """Close the page; what follows goes on the next one."""
        content = self._add("/Filter /FlateDecode", zlib.compress("\n".join(self._drawn).encode()))
        images = " ".join(f"/{name} {number} 0 R" for name, number in self._images.items())
        # Fonts are written last; their numbers are filled in then.
        page = (
            f"<< /Type /Page /Parent 2 0 R /Contents {content} 0 R /MediaBox [0 0"
            f" {self._width * _POINT:.2f} {self._height * _POINT:.2f}]"
            f" /Resources << /XObject << {images} >> /Font << FONTS >> >> >>"
        )
        self._pages.append(self._plain(page))
        self._drawn, self._images = [], {}

    def finish(self) -> bytes:
        """Write the document."""
        fonts = " ".join(
            f"/F{at} {self._font(face)} 0 R" for at, face in enumerate(self._faces.values())
        )
        for page in self._pages:
            self._objects[page - 1] = self._objects[page - 1].replace(b"FONTS", fonts.encode())
        kids = " ".join(f"{page} 0 R" for page in self._pages)
        self._objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
        self._objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(self._pages)} >>".encode()
        title = self._title.encode("utf-16-be", "replace").hex()
        info = self._plain(f"<< /Title <feff{title}> /Producer (Concordance) >>")
        out, places = io.BytesIO(), []
        out.write(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
        for number, body in enumerate(self._objects, start=1):
            places.append(out.tell())
            out.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        start, size = out.tell(), len(self._objects) + 1
        out.write(b"xref\n0 %d\n0000000000 65535 f \n" % size)
        out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
        out.write(b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (size, info))
        out.write(b"startxref\n%d\n%%%%EOF\n" % start)
        return out.getvalue()

    def _font(self, face: _Face) -> int:
        """Write a font with what a reader needs to show it and to find its text."""
        font, file = face.font, face.subset()
        scale = _UNITS / font["head"].unitsPerEm
        order, metrics, head, hhea = font.getGlyphOrder(), font["hmtx"], font["head"], font["hhea"]
        stream = f"/Filter /FlateDecode /Length1 {len(file)}"
        data = self._add(stream, zlib.compress(file))
        box = [head.xMin, head.yMin, head.xMax, head.yMax]
        base = "Concordance+" + "".join(filter(str.isalnum, str(font["name"].getDebugName(6))))
        descriptor = self._plain(
            f"<< /Type /FontDescriptor /FontName /{base} /Flags 4 /ItalicAngle 0 /StemV 80"
            f" /FontBBox [{' '.join(f'{each * scale:.0f}' for each in box)}]"
            f" /Ascent {hhea.ascent * scale:.0f} /Descent {hhea.descent * scale:.0f}"
            f" /CapHeight {hhea.ascent * scale:.0f} /FontFile2 {data} 0 R >>"
        )
        widths = " ".join(
            f"{gid} [{metrics[order[gid]][0] * scale:.0f}]" for gid in sorted(face.used)
        )
        below = self._plain(
            f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /{base} /CIDToGIDMap /Identity"
            " /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>"
            f" /FontDescriptor {descriptor} 0 R /W [{widths}] >>"
        )
        means = self._add("", _to_unicode(face.used))
        return self._plain(
            f"<< /Type /Font /Subtype /Type0 /BaseFont /{base} /Encoding /Identity-H"
            f" /DescendantFonts [{below} 0 R] /ToUnicode {means} 0 R >>"
        )

    def _add(self, entries: str, stream: bytes) -> int:
        head = f"<< {entries} /Length {len(stream)} >>\nstream\n".encode()
        self._objects.append(head + stream + b"\nendstream")
        return len(self._objects)

    def _plain(self, text: str) -> int:
        self._objects.append(text.encode("ascii"))
        return len(self._objects)

    def _up(self, y: float) -> float:
        return (self._height - y) * _POINT


def _to_unicode(used: dict[int, str]) -> bytes:
    """The map from glyph numbers to text, by which a reader searches and copies."""
    pairs = [
        f"<{gid:04x}> <{char.encode('utf-16-be').hex()}>" for gid, char in sorted(used.items())
    ]
    blocks = [pairs[at : at + 100] for at in range(0, len(pairs), 100)]
    lines = [
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CMapName /Text def /CMapType 2 def",
        "1 begincodespacerange <0000> <ffff> endcodespacerange",
        *(f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks),
        "endcmap CMapName currentdict /CMap defineresource pop end end",
    ]
    return "\n".join(lines).encode("ascii")


def _file_of(font: Font) -> bytes:
    """The font's file, from wherever Pillow has it."""
    if isinstance(font.path, io.BytesIO):
        return font.path.getvalue()
    return Path(str(font.path)).read_bytes()


def _rgb(colour: Colour) -> str:
    return " ".join(f"{each / 255:.3f}" for each in colour)
