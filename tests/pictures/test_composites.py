"""Pictures: colours that stay apart, tints that mean what they say, text that fits."""

from __future__ import annotations

import io
import re
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.atlas.sheets import Entry, book, concept_sheet
from pipeline.pictures.colours import as_hex, seen_apart
from pipeline.pictures.composites import (
    below_each_other,
    composite,
    concept_colours,
    overlay,
    side_by_side,
    spotlight,
    with_legend,
)
from pipeline.pictures.typeset import Style, clean, elide, width_of, wrap
from tests.atlas.fixture import NASTY

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def halves() -> npt.NDArray[np.float32]:
    """Two concepts: the first on the left third, the second on the right third, none between."""
    maps = np.zeros((2, 40, 60), np.float32)
    maps[0, :, :20] = 1.0
    maps[1, :, 40:] = 1.0
    return maps


@pytest.mark.parametrize(("k", "least"), [(8, 0.12), (20, 0.07), (50, 0.04)])
def test_colours_stay_apart_for_every_kind_of_colour_vision(k: int, least: float) -> None:
    colours = concept_colours(k)
    apart = seen_apart(colours, colours)[np.triu_indices(k, 1)]
    assert colours.shape == (k, 3)
    assert colours.dtype == np.uint8
    assert apart.min() > least


def test_a_colour_does_not_depend_on_how_many_are_asked_for() -> None:
    assert np.array_equal(concept_colours(100)[:7], concept_colours(7))
    assert len(concept_colours(0)) == 0
    concept_colours(3)[:] = 0  # a caller's change stays the caller's
    assert concept_colours(3).any()


def test_hex() -> None:
    assert as_hex(np.array([0, 171, 255], np.uint8)) == "#00abff"


def test_composite_leaves_the_image_where_nothing_is_present() -> None:
    tinted = composite(PHOTO, halves(), concept_colours(2))
    assert np.array_equal(tinted[:, 20:40], PHOTO[:, 20:40])
    assert (tinted[:, :20] != PHOTO[:, :20]).any()
    assert np.array_equal(
        composite(PHOTO, np.zeros((3, 40, 60), np.float32), concept_colours(3)), PHOTO
    )
    assert np.array_equal(
        composite(PHOTO, np.zeros((0, 40, 60), np.float32), concept_colours(0)), PHOTO
    )


def test_composite_gives_a_pixel_to_the_strongest_concept_only() -> None:
    red, blue = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    grey = np.full((4, 4, 3), 128, np.uint8)
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0] = 0.6
    maps[1, :, 2:] = 0.9
    both = composite(grey, maps, np.stack([red, blue]))
    assert np.array_equal(both[:, :2], overlay(grey, maps[0], red)[:, :2])
    assert np.array_equal(both[:, 2:], overlay(grey, maps[1], blue)[:, 2:])
    assert both[0, 0, 0] > both[0, 0, 2]
    assert both[0, 3, 2] > both[0, 3, 0]


def test_composite_is_on_the_datasets_scale_not_the_images() -> None:
    weak = composite(PHOTO, halves() * 0.1, concept_colours(2)).astype(int)
    strong = composite(PHOTO, halves(), concept_colours(2)).astype(int)
    beyond = composite(PHOTO, halves() * 7.0, concept_colours(2)).astype(int)
    assert np.abs(weak - PHOTO).mean() < 0.3 * np.abs(strong - PHOTO).mean()
    assert np.array_equal(strong, beyond)


def test_composite_takes_nan_as_absent_and_leaves_its_input_alone() -> None:
    maps = halves()
    maps[0, :, :10] = np.nan
    before = maps.copy()
    tinted = composite(PHOTO, maps, concept_colours(2))
    assert np.array_equal(tinted[:, :10], PHOTO[:, :10])
    assert np.array_equal(maps, before, equal_nan=True)


def test_spotlight_keeps_the_concept_and_greys_the_rest() -> None:
    lit = spotlight(PHOTO, halves()[0]).astype(int)
    assert np.array_equal(lit[:, :20], PHOTO[:, :20])
    assert (lit[:, 20:].max(axis=-1) == lit[:, 20:].min(axis=-1)).all()
    assert lit[:, 20:].mean() < 0.5 * PHOTO[:, 20:].mean()


def test_legend_stands_beside_an_unchanged_picture() -> None:
    picture = RNG.integers(0, 256, (400, 300, 3), np.uint8)
    colours = concept_colours(3)
    joined = with_legend(picture, [(f"class {i}\nother {i}", colours[i]) for i in range(3)])
    assert joined.shape[0] == 400
    assert joined.shape[1] > 300
    assert np.array_equal(joined[:, :300], picture)
    panel = joined[:, 300:].reshape(-1, 3)
    assert all((panel == colour).all(axis=1).sum() > 50 for colour in colours)
    assert np.array_equal(with_legend(picture, []), picture)


def test_legend_scales_a_small_picture_up_until_it_can_be_read() -> None:
    joined = with_legend(PHOTO, [("wheel", (255, 0, 0))])
    assert joined.shape[0] >= 360
    assert joined.shape[1] > joined.shape[0] * 60 / 40


def test_legend_of_very_many_entries_says_how_many_are_left_out() -> None:
    colours = concept_colours(60)
    picture = np.zeros((480, 480, 3), np.uint8)
    joined = with_legend(
        picture, [(f"name {i}\nsecond", colour) for i, colour in enumerate(colours)]
    )
    panel = joined[:, 480:].reshape(-1, 3)
    shown = [i for i, colour in enumerate(colours) if (panel == colour).all(axis=1).any()]
    assert shown == list(range(len(shown)))
    assert 5 < len(shown) < 60


@pytest.mark.parametrize("text", [*NASTY, "", "\n\n", "a" * 500, "ก็\u0301" * 40, "\ud800"])
def test_any_text_can_be_set(text: str) -> None:
    joined = with_legend(PHOTO, [(text, (1, 2, 3)), ("fine", (4, 5, 6))])
    sheet = concept_sheet(Entry(text, [text], (1, 2, 3), []))
    assert joined.shape[1] < 5 * joined.shape[0]
    assert sheet.dtype == np.uint8


@pytest.mark.parametrize("title", ["2 concepts", *NASTY])
def test_pictures_stand_below_each_other_unchanged_under_their_titles(title: str) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 200, (40, w, 3), np.uint8) for w in (300, 120))
    page = below_each_other([(title, first), ("b", second)])
    above = (page.shape[0] - 80) // 2
    assert page.shape[1] == 300
    assert np.array_equal(page[above : above + 40], first)
    assert np.array_equal(page[-40:, :120], second)
    assert (page[-40:, 120:] == 255).all()
    assert (page[:above] < 128).any()


def test_side_by_side_has_the_height_of_the_right_picture() -> None:
    joined = side_by_side(PHOTO, np.zeros((80, 50, 3), np.uint8))
    assert joined.shape[0] == 80
    assert joined.shape[1] >= 120 + 50


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80), st.integers(60, 300), st.integers(1, 3), st.integers(10, 30))
def test_every_line_fits(text: str, width: int, n_lines: int, size: int) -> None:
    style = Style(size)
    lines = wrap(text, style, width, n_lines)
    assert 1 <= len(lines) <= n_lines
    assert all(width_of(line, style) <= width for line in lines)


def test_wrapping_loses_nothing_where_there_is_room() -> None:
    style = Style(16)
    assert (
        " ".join(wrap("one two three four five six", style, 90, 9)) == "one two three four five six"
    )
    assert wrap("one two", style, 500, 2) == ["one two"]
    assert elide("abcdefghijklmnopqrstuvwxyz", style, 60).endswith("…")
    assert elide("abc", style, 60) == "abc"


def test_clean_text_has_no_control_characters() -> None:
    assert clean("a\u3000b  c") == "a b c"
    assert clean("a\tb\nc\u202ed\u0000") == r"a\tb\nc\u202ed\x00"
    assert clean("x\U0001fffey") == "x\ufffdy"


def test_the_book_is_a_pdf_without_a_date() -> None:
    entries = [Entry(f"concept {i}", ["a", "b"], (200, 0, 0), []) for i in range(23)]
    first = book("title", "subtitle", entries)
    assert first.startswith(b"%PDF-")
    assert b"/Count 3" in first
    assert b"Date" not in first
    assert book("title", "subtitle", entries) == first
    assert book("title", "subtitle", []).startswith(b"%PDF-")


def streams(pdf: bytes) -> list[bytes]:
    """The streams of a PDF, unpacked; pictures as they are."""
    found = re.findall(rb"<< ([^\n]*)/Length \d+ >>\nstream\n(.*?)\nendstream", pdf, re.DOTALL)
    return [zlib.decompress(data) if b"Flate" in head else data for head, data in found]


def test_the_book_keeps_text_as_text_and_pictures_as_they_were() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(buffer, "JPEG")
    nasty = "a) Tj (b \\ α 日 <script>"
    pdf = book("title", "subtitle", [Entry(nasty, ["note one"], (1, 2, 3), [buffer.getvalue()])])
    parts = streams(pdf)
    assert buffer.getvalue() in parts
    maps = [part.decode() for part in parts if part.startswith(b"/CIDInit")]
    assert len(maps) == 2  # the plain font, and the one for other scripts
    glyphs = [dict(re.findall(r"^<(\w{4})> <(\w+)>", each, re.MULTILINE)) for each in maps]
    lines: dict[str, str] = {}
    content = next(part.decode() for part in parts if b" Tj ET" in part)
    pattern = r"/F(\d) [\d.]+ Tf [\d.]+ ([\d.]+) Td <(\w*)>"
    for font, y, run in re.findall(pattern, content):
        codes = re.findall("....", run)
        text = bytes.fromhex("".join(glyphs[int(font)][code] for code in codes))
        lines[y] = lines.get(y, "") + text.decode("utf-16-be")
    assert {"title", "note one", "subtitle1 / 1"} <= set(lines.values())
    assert nasty.replace("日", "\ufffd") in lines.values()
    assert pdf.count(b"/FontFile2") == 2
    assert len(pdf) < 60_000
    places = [int(each) for each in re.findall(rb"^(\d{10}) 00000 n", pdf, re.MULTILINE)]
    assert all(re.match(rb"\d+ 0 obj", pdf[place:]) for place in places)
    start = re.search(rb"startxref\n(\d+)", pdf)
    assert start is not None
    assert pdf[int(start[1]) :].startswith(b"xref")
