"""Write the atlas: plan from the tables, then images, pages and sheets, several at a time.

index.html  images.html          front page; all images shown
concepts/<id>.html               one page per concept
images/<image_id>.html           one page per image that shows a concept
classes/<id>.html                one page per class
media/                           pictures, and heatmaps as scripts
sheets/                          contact sheets (JPEG) and all concepts (PDF)
static/                          style and scripts
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from markupsafe import Markup, escape

from .. import plugins
from ..analysis import kind_words, sureness
from ..errors import UserError
from ..escape import visible, visible_lines
from ..pictures.colours import as_hex, concept_colours
from ..store.records import begin, is_of_site, read_begun, read_record
from ..system import checksums, files
from ..system.lanes import in_order, lanes
from ..system.progress import bar
from . import formats, sheets
from .catalogue import Catalogue, catalogue
from .data import AtlasData
from .media import ImageFiles, image_files, mosaic, write_image
from .page import MakePages, Material, Page, check_pages
from .views.index import MAP_TILE

RECORD, BEGUN = "atlas.json", "atlas.begun.json"
"""What names the files of an atlas: once it is whole, and while it is written."""

_HERE = Path(__file__).parent
_CARD_SIDE = 160

_FETCHED = 32
"""Images whose arrays are in memory at once, in all lanes together."""


def build_atlas(
    data: AtlasData,
    folder: Path,
    *,
    n_examples: int = 12,
    seed: int = 0,
) -> None:
    """Write a static site that shows the concepts of a run; it opens from the file system.

    Parameters
    ----------
    data : AtlasData
        The run. Its tables decide what is shown, its functions are asked for shown images only.
    folder : Path
        Where the site goes. Files of an earlier atlas, as its record names them, are replaced one
        by one or removed; whatever else is there stays.
    n_examples : int
        Strongest images on a concept's page; half as many diverse, borderline and random ones.
        At most 2.5 × n_examples × k images are shown, whatever the size of the dataset.
    seed : int
        Decides the random images.

    Raises
    ------
    pipeline.errors.UserError
        The folder cannot be written to.
    """
    files.check_writable(folder)
    book = catalogue(data, n_examples, seed)
    _refuse_links(folder, ["media/"])
    earlier = _earlier(folder)
    pictures = [name for job in book.jobs() for name in image_files(job.image_id)]
    begin(folder / BEGUN, {*earlier, *(f"media/{name}" for name in pictures)})
    with bar("atlas", len(book.images), "images") as shown:
        made = _write_images(book, folder / "media", shown.update)
    tasks = [
        *_static(folder),
        *_pictures(book, _cells(book, made), folder),
        *_pages(book, made, folder),
    ]
    written = {path.relative_to(folder).as_posix() for path, _ in tasks}
    for image_id, each in made.items():
        written |= {f"media/{name}" for name in (f"{image_id}.jpg", each.small, f"{image_id}.js")}
    _refuse_links(folder, written)
    begin(folder / BEGUN, {*earlier, *(f"media/{name}" for name in pictures), *written})
    with bar("atlas", len(tasks), "files") as shown, lanes() as pool:
        for _ in in_order(pool, _run, tasks):
            shown.update()
    for name in earlier - written:
        files.remove(folder / name)
        files.remove_empty_above(folder / name, folder)
    begin(folder / BEGUN, written)
    files.flush()


def _refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuse a link in the place of a folder that is written to: files outside would be ours."""
    for inside in sorted({folder / name.rpartition("/")[0] for name in names}):
        if inside.is_symlink():
            raise UserError(f"{inside} is a link, which no folder of an atlas is; remove it")


def _earlier(folder: Path) -> set[str]:
    """Return the files of the atlas that is there, whole or begun; nothing else is removed."""
    record = read_record(folder / RECORD, is_of_site)
    found = {*read_begun(folder / BEGUN, is_of_site), *(record.files if record else ())}
    return {name for name in found if checksums.is_plain(folder, name)}


Task = tuple[Path, Callable[[], bytes | str]]


def _run(task: Task) -> Path:
    path, make = task
    content = make()
    data = content.encode("utf-8") if isinstance(content, str) else content
    files.write_bytes(path, data, durable=False)
    return path


def _write_images(
    book: Catalogue, media: Path, tick: Callable[[int], object]
) -> dict[int, ImageFiles]:
    """Write what pages show of images, those together that lie together."""
    jobs, data = {job.image_id: job for job in book.jobs()}, book.data
    order = list(data.reading_order(list(jobs)))
    concept_ids = list(book.concepts)
    at_once = max(1, _FETCHED // torch.get_num_threads())

    def write(image_ids: list[int]) -> list[ImageFiles]:
        data.fetch(image_ids)
        return [write_image(data, jobs[each], concept_ids, media) for each in image_ids]

    parts = [order[at : at + at_once] for at in range(0, len(order), at_once)]
    with lanes() as pool:
        made = []
        for part in in_order(pool, write, parts):
            made += part
            tick(len(part))
    return dict(zip(order, made, strict=True))


def _cells(book: Catalogue, made: dict[int, ImageFiles]) -> dict[int, list[bytes]]:
    """The crops of each concept, strongest first."""
    return {
        concept_id: [
            made[image_id].cells[concept_id]
            for image_id in examples.strongest
            if concept_id in made[image_id].cells
        ]
        for concept_id, examples in book.examples.items()
    }


def _static(folder: Path) -> Iterable[Task]:
    for path in sorted((_HERE / "static").iterdir()):
        yield folder / "static" / path.name, path.read_bytes


def _pictures(book: Catalogue, cells: dict[int, list[bytes]], folder: Path) -> Iterable[Task]:
    """Crops of the cards, the map's sheet, the contact sheets, and the concepts' colours."""
    colours = concept_colours(len(book.concepts))
    entries = {
        concept_id: _entry(book, concept_id, colour, cells[concept_id])
        for concept_id, colour in zip(book.concepts, colours, strict=True)
    }
    subtitle = " · ".join(f"{name} {value}" for name, value in book.data.summary.items())
    yield (
        folder / "sheets" / "atlas.pdf",
        lambda: sheets.book(book.data.title, subtitle, list(entries.values())),
    )
    columns = max(1, int(np.ceil(np.sqrt(len(cells)))))
    yield folder / "media" / "map.jpg", lambda: _map_sheet(cells, columns)
    palette = "".join(
        f".c{concept_id}{{--c:{as_hex(colour)}}}\n"
        for concept_id, colour in zip(book.concepts, colours, strict=True)
    )
    yield folder / "static" / "palette.css", lambda: palette
    for concept_id, entry in entries.items():
        crops = list(entry.cells[:4])
        if crops:
            yield (
                folder / "media" / f"concept-{concept_id}.jpg",
                partial(mosaic, crops, 2, _CARD_SIDE),
            )
        yield (
            folder / "sheets" / f"concept-{concept_id}.jpg",
            partial(sheets.sheet_jpeg, entry),
        )


def _map_sheet(cells: dict[int, list[bytes]], columns: int) -> bytes:
    blank = mosaic([], 1, MAP_TILE)
    return mosaic([each[0] if each else blank for each in cells.values()], columns, MAP_TILE)


def _entry(book: Catalogue, concept_id: int, colour: Any, cells: list[bytes]) -> sheets.Entry:
    concept = book.concepts[concept_id]
    images, coverage = formats.count(concept["n_images"]), formats.percent(concept["coverage"])
    notes = [
        f"concept {concept_id}",
        f"{images} images, coverage {coverage}",
        f"stability {formats.fixed(concept['stability'])}, "
        f"importance {formats.number(concept['importance'], 2)}",
    ]
    if kind := kind_words.kind_of(concept):
        notes[0] += f", {kind}"
    if sureness.is_unsure(concept):
        notes.append(f"comes back in {sureness.times(concept)} fits on other images")
    red, green, blue = (int(each) for each in colour)
    return sheets.Entry(book.name(concept_id), notes, (red, green, blue), cells)


def _pages(book: Catalogue, made: dict[int, ImageFiles], folder: Path) -> Iterable[Task]:
    environment = _environment()
    material, marks = Material(book, made), _marks(book, environment)
    kinds = (*plugins.PAGES.built_in, *book.data.pages)
    makers: list[MakePages] = [plugins.load(plugins.PAGES, kind) for kind in kinds]
    found = check_pages(page for make in makers for page in make(material))
    links = [(page.path, page.link) for page in found if page.link]

    def render(page: Page) -> str:
        template = (
            environment.get_template(page.template)
            if page.template
            else environment.from_string(page.source)
        )
        return template.render(
            title=book.data.title, root=page.root, made=made, page=page.values(), links=links,
            images=book.images, captions=book.captions, marks=marks, notice=book.data.notice,
        )  # fmt: skip

    for page in found:
        yield folder / page.path, partial(render, page)


@dataclass(frozen=True)
class _Marks:
    """What all pages of images say alike of a concept, as HTML; see the macros of their names."""

    link: str
    legend: str
    shot: str
    under: str


def _marks(book: Catalogue, environment: jinja2.Environment) -> dict[int, _Marks]:
    macros: Any = environment.get_template("macros.html").module
    return {
        each: _Marks(
            macros.concept_link(each, name, "../"),
            macros.legend_mark(each, name, book.also(each, 1), "../"),
            macros.shot_mark(each, name, "../"),
            macros.under_mark(each, name),
        )
        for each, name in ((each, book.name(each)) for each in book.concepts)
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        auto_reload=False,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "fixed", "signed", "percent", "points", "count", "p_value"):
        environment.filters[name] = getattr(formats, name)
    environment.filters["lines"] = lambda text: Markup(escape(visible_lines(text)))
    environment.filters["value"] = lambda value: "" if value is None else repr(float(value))
    return environment


def _shown(value: object) -> object:
    """What every expression of a template passes: a name is one line of characters to be seen."""
    if isinstance(value, Markup):  # made of what has passed already, and of lines of its own
        return Markup(visible_lines(value))
    return visible(value) if isinstance(value, str) else value
