"""The site as files: complete, small, closed to the outside, and safe against its own input."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlparse

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.atlas import AtlasData, build_atlas, sheets
from pipeline.errors import UserError
from pipeline.escape import visible
from pipeline.pictures.typeset import clean
from pipeline.tables import TABLES
from tests.atlas.fixture import NASTY, synthetic, with_tables
from tests.hostile import LABELS, NOT_UTF8, raw_in

BUDGET = 2_000_000
LINKS = {"href", "src"}
VOID = {"meta", "link", "img", "input", "col", "br"}


@dataclass
class Page(HTMLParser):
    """What a page consists of."""

    tags: list[tuple[str, frozenset[str]]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    lazy: list[str] = field(default_factory=list)
    text: str = ""
    values: dict[str, list[str]] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.tags.append((tag, frozenset(found)))
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)
            if name in LINKS:
                (self.lazy if found.get("loading") == "lazy" else self.links).append(value)
        if tag not in VOID and tag not in ("rect", "line", "circle", "polyline", "image"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    assert page.open == []
    return page


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(folder)): each.read_bytes()
        for each in sorted(folder.rglob("*"))
        if each.is_file()
    }


@pytest.fixture(scope="module")
def data() -> AtlasData:
    return synthetic(30, 7, seed=1)


@pytest.fixture(scope="module")
def site(data: AtlasData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build_atlas(data, folder, n_examples=4)
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): parse(path) for path in sorted(site.rglob("*.html"))}


def test_there_is_a_page_for_everything_that_is_shown(
    site: Path, pages: dict[str, Page], data: AtlasData
) -> None:
    kinds = Counter(name.split("/")[0] if "/" in name else name for name in pages)
    assert kinds["concepts"] == 7
    assert kinds["images"] == len(list((site / "media").glob("*.js"))) <= 30
    assert kinds["classes"] == len(
        {*data.sql("from images").pred_class, *data.tables["concepts"].top_class}
    )
    assert kinds["index.html"] == kinds["images.html"] == 1
    assert len(list((site / "sheets").glob("concept-*.jpg"))) == 7
    assert (site / "sheets" / "atlas.pdf").read_bytes().startswith(b"%PDF-")


def test_every_link_leads_to_a_file_of_the_site(site: Path, pages: dict[str, Page]) -> None:
    n_links = 0
    for name, page in pages.items():
        for link in [*page.links, *page.lazy]:
            address, fragment = urldefrag(link)
            assert not urlparse(link).scheme, link
            assert not link.startswith(("/", "//"))
            target = ((site / name).parent / address).resolve() if address else site / name
            assert target.is_file(), f"{name}: {link}"
            assert target.is_relative_to(site)
            if fragment:
                assert fragment in parse(target).values["id"], f"{name}: {link}"
            n_links += 1
    assert n_links > 500


def test_no_page_may_run_or_load_anything_but_its_own_files(
    site: Path, pages: dict[str, Page]
) -> None:
    for page in pages.values():
        policy = next(each for each in page.values["content"] if "default-src" in each)
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not any(name == "style" or name.startswith("on") for name in page.values)
        assert "style" not in {tag for tag, _ in page.tags}
        assert all("src" in attributes for tag, attributes in page.tags if tag == "script")
    for path in site.rglob("*"):
        if path.suffix in (".css", ".js", ".html"):
            assert not re.search(
                r"https?://(?!www\.w3\.org/)|@import|url\((?!#)", path.read_text("utf-8")
            )


def test_sheets_are_for_print(site: Path) -> None:
    for path in (site / "sheets").glob("concept-*.jpg"):
        with Image.open(path) as sheet:
            assert sheet.info["dpi"] == (300, 300)
            assert min(sheet.size) > 300
            assert not sheet.getexif()


def test_no_page_is_heavy(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        own = [(site / name).parent / urldefrag(link)[0] for link in page.links]
        loaded = {
            each.resolve()
            for each in own
            if each.suffix not in (".html", ".pdf", "") and each.parent.name != "sheets"
        }
        total = (site / name).stat().st_size + sum(each.stat().st_size for each in loaded)
        assert total < BUDGET


def test_pictures_are_small_and_carry_no_metadata(site: Path) -> None:
    pictures = list((site / "media").glob("*.jpg"))
    assert len(pictures) > 20
    for path in pictures:
        with Image.open(path) as picture:
            assert max(picture.size) <= 448
            assert not picture.getexif()
            assert "exif" not in picture.info
            assert "comment" not in picture.info


def test_only_large_pictures_are_written_a_second_time_for_lists(tmp_path: Path) -> None:
    data = synthetic(6, 3, seed=1)
    shown = data.sql("select image_id from images order by 1")["image_id"].tolist()
    large = set(shown[::2])

    def read_image(image_id: int, longest: int) -> npt.NDArray[np.uint8]:
        picture = data.read_image(image_id, longest)
        return np.repeat(np.repeat(picture, 3, 0), 3, 1) if image_id in large else picture

    build_atlas(replace(data, read_image=read_image), tmp_path / "atlas", n_examples=6)
    names = {path.name for path in (tmp_path / "atlas" / "media").glob("*-small.jpg")}
    written = {int(path.stem) for path in (tmp_path / "atlas" / "media").glob("*.js")}
    assert large & written
    assert names == {f"{each}-small.jpg" for each in large & written}
    listed = parse(tmp_path / "atlas" / "images.html").lazy
    assert {f"media/{name}" for name in names} <= set(listed)
    for name in set(listed):
        with Image.open(tmp_path / "atlas" / name) as picture:
            assert max(picture.size) <= 256
    assert {f"media/{each}.jpg" for each in written - large} <= set(listed)


def payload(path: Path) -> dict[str, Any]:
    found = re.fullmatch(r'concordance\.put\("(-?\d+)",(\{.*\})\);\n', path.read_text("utf-8"))
    assert found is not None
    assert found[1] == path.stem
    value: dict[str, Any] = json.loads(found[2])
    return value


def tiles(value: dict[str, Any]) -> dict[int, npt.NDArray[Any]]:
    """Decode the maps of a payload as the browser does."""
    uri = str(value["maps"])
    assert uri.startswith("data:image/png;base64,")
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    h, w, columns = value["th"], value["tw"], value["cols"]
    found = {}
    for at, (concept, scale) in enumerate(zip(value["concepts"], value["scale"], strict=True)):
        y, x = at // columns * h, at % columns * w
        found[concept] = sheet[y : y + h, x : x + w] / 255 * scale
    return found


def test_a_script_beside_each_picture_holds_its_heatmaps(site: Path, data: AtlasData) -> None:
    for path in (site / "media").glob("*.js"):
        image_id, value = int(path.stem), payload(path)
        with Image.open(path.with_suffix(".jpg")) as picture:
            assert picture.size == (value["w"], value["h"])
        grid = data.read_heatmap(image_id)
        true = data.upsample(grid, image_id, value["th"], value["tw"])
        found = tiles(value)
        for concept in range(7):
            if concept in found:
                assert (
                    np.abs(found[concept] - true[concept]).max()
                    <= 0.51 / 255 * true[concept].max() + 1e-4
                )
            else:
                assert true[concept].max() < 0.08
        assert value["mask"].startswith("data:image/png;base64,")


def test_one_image_at_a_time_is_never_mixed_with_another(site: Path, data: AtlasData) -> None:
    """The strongest image of a concept must show that concept at its peak."""
    table = data.sql("from image_concepts")
    best = table.loc[table.groupby("concept_id")["max"].idxmax()]
    for image_id, concept, peak in zip(best.image_id, best.concept_id, best["max"], strict=True):
        found = tiles(payload(site / "media" / f"{image_id}.js"))[concept]
        assert found.max() == pytest.approx(peak, rel=0.3)


def test_kinds_are_said_with_what_they_rest_on(pages: dict[str, Page], data: AtlasData) -> None:
    concepts = data.tables["concepts"]
    assert set(concepts.kind) == {"group", "none"}
    for row in concepts.itertuples():
        text = pages[f"concepts/{row.concept_id}.html"].text
        claimed = f"{row.group} (together 62%, 1% where its maps are moved to other images; 47%"
        assert (claimed in text) == (row.kind == "group")
        assert ("It goes with no class, no group and no labels" in text) == (row.kind == "none")


def test_concepts_that_rather_do_not_come_back_are_marked(
    pages: dict[str, Page], data: AtlasData
) -> None:
    said = "comes back in 3 of 10 fits"
    unsure = data.tables["concepts"].query("reappears < 0.5")
    assert 1 < len(unsure) < len(data.tables["concepts"])
    for row in data.tables["concepts"].to_dict("records"):
        text = pages[f"concepts/{row['concept_id']}.html"].text
        assert (said in text) == (row["reappears"] < 0.5)
        assert ("with 0 and 3 as one subspace" in text) == (row["concept_id"] % 6 == 1)
        assert "0.25 to 0.75 in 9 of 10" in text
    assert pages["index.html"].text.count(said) == len(unsure)


def test_a_concept_page_says_what_the_tables_say(pages: dict[str, Page], data: AtlasData) -> None:
    concept = data.tables["concepts"].iloc[0]
    text = pages["concepts/0.html"].text
    assert concept.group in text
    assert f"{concept.n_images:,}" in text
    assert f"{concept.stability:.2f}" in text
    assert "where concept_id = 0 order by max desc" in text
    labels = data.tables["concept_labels"].query("concept_id == 0 and n > 0")
    best = labels.iloc[int((labels.precision * labels.recall).argmax())]
    assert best.label in text


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_same_input_makes_the_same_bytes_whatever_the_threads(
    data: AtlasData, site: Path, tmp_path: Path, n_threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        build_atlas(data, tmp_path, n_examples=4)
    finally:
        torch.set_num_threads(before)
    assert files_of(tmp_path) == files_of(site)


def test_what_an_earlier_build_left_is_removed(tmp_path: Path, data: AtlasData) -> None:
    build_atlas(data, tmp_path, n_examples=4)
    (tmp_path / "notes.txt").write_text("mine")
    before = files_of(tmp_path)
    build_atlas(synthetic(10, 3, seed=9), tmp_path, n_examples=2)
    after = files_of(tmp_path)
    assert "concepts/5.html" in before
    assert "concepts/5.html" not in after
    shown = {name for name in after if re.match(r"(images|media)/\d", name)}
    assert (
        len(shown)
        <= 3 * 10
        < len([name for name in before if re.match(r"(images|media)/\d", name)])
    )
    assert after["notes.txt"] == b"mine"


def test_only_images_that_are_shown_are_read(data: AtlasData, tmp_path: Path) -> None:
    many = synthetic(200, 3, seed=3)
    read: list[int] = []

    def read_image(image_id: int, longest: int) -> npt.NDArray[np.uint8]:
        read.append(image_id)
        return many.read_image(image_id, longest)

    build_atlas(replace(many, read_image=read_image), tmp_path, n_examples=4)
    assert len(read) == len(set(read)) <= 3 * 10
    assert set(read) == {int(path.stem) for path in (tmp_path / "media").glob("*.js")}


def test_everything_that_may_be_null_may_be_null(tmp_path: Path) -> None:
    build_atlas(synthetic(12, 3, bare=True), tmp_path)
    text = {name: parse(tmp_path / name).text for name in ("index.html", "concepts/0.html")}
    assert "concept 0" in text["concepts/0.html"]
    assert "This network has no classes." in text["concepts/0.html"]
    for path in tmp_path.rglob("*.html"):
        assert not re.search(r"\b(nan|None|NaT|<NA>)\b", parse(path).text), path


def test_a_run_without_any_image_or_concept_still_has_a_front_page(tmp_path: Path) -> None:
    data = synthetic(6, 2)
    empty = with_tables(data, **{name: data.sql(f"from {name} limit 0") for name in TABLES})
    build_atlas(empty, tmp_path)
    assert "0 concepts" in parse(tmp_path / "index.html").text


def test_a_concept_that_no_image_holds_has_a_page(tmp_path: Path) -> None:
    data = synthetic(8, 3)
    rows = data.sql("from image_concepts")
    rows.loc[rows.concept_id == 1, "area"] = 0.0
    concepts = data.tables["concepts"].assign(n_images=[8, 0, 8])
    build_atlas(with_tables(data, concepts=concepts, image_concepts=rows), tmp_path)
    assert "No image holds this concept" in parse(tmp_path / "concepts" / "1.html").text


def test_a_folder_that_cannot_be_written_is_one_clear_sentence(
    tmp_path: Path, data: AtlasData
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        build_atlas(data, tmp_path / "file" / "atlas")


def nasty(tmp_path: Path) -> tuple[dict[str, Page], dict[str, Page]]:
    """The pages of one run with harmless and with hostile names."""
    made = []
    for kind in ("plain", "hostile"):
        bad = kind == "hostile"
        names = [f"name {i}" for i in range(len(NASTY))]

        def path_of(i: int, bad: bool = bad) -> str:
            return f"{NASTY[i % len(NASTY)]}/{i}" if bad else f"{i}.png"

        class_names = sorted(NASTY) if bad else names
        data = synthetic(20, 4, seed=2, class_names=class_names, names=path_of)
        if bad:
            title, summary = NASTY[0], {NASTY[1]: NASTY[0], NASTY[2]: NASTY[1]}
            rejected = pd.DataFrame({"path": list(NASTY), "reason": list(NASTY[::-1])})
            settings = {text: text for text in NASTY}
            data = replace(data, title=title, summary=summary, settings=settings)
        else:
            rejected = pd.DataFrame({"path": names, "reason": names})
            settings = {name: name for name in names}
            data = replace(data, summary={"a": "b", "c": "d"}, settings=settings)
        data = with_tables(data, rejected=rejected)
        build_atlas(data, tmp_path / kind, n_examples=3)
        made.append(
            {
                str(p.relative_to(tmp_path / kind)): parse(p)
                for p in sorted((tmp_path / kind).rglob("*.html"))
            }
        )
    return made[0], made[1]


def test_hostile_names_add_no_element_and_no_attribute(tmp_path: Path) -> None:
    plain, hostile = nasty(tmp_path)
    assert set(plain) == set(hostile)
    for name, page in plain.items():
        other = hostile[name]
        assert Counter(other.tags) == Counter(page.tags), name
        assert not any(link.lower().strip().startswith("javascript:") for link in other.links)
    assert "{{ 7 * 7 }}" in hostile["index.html"].text
    assert "</script><script>window.owned=1</script>" in hostile["index.html"].text


def test_hostile_names_reach_no_script(tmp_path: Path) -> None:
    nasty(tmp_path)
    for path in (tmp_path / "hostile").rglob("*.js"):
        assert "owned" not in path.read_text("utf-8")


@pytest.fixture(scope="module")
def unkind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of a run in which every name is one of `LABELS`."""
    folder = tmp_path_factory.mktemp("unkind")
    names = sorted(LABELS)

    def path_of(i: int) -> str:
        return f"{LABELS[i % len(LABELS)]}/{i}.png"

    data = synthetic(40, 8, seed=3, class_names=names, names=path_of)
    rejected = pd.DataFrame({"path": list(LABELS), "reason": list(LABELS[::-1])})
    data = replace(
        data,
        title=LABELS[0] + NOT_UTF8,
        summary={LABELS[1]: LABELS[2]},
        settings={text: text for text in LABELS},
    )
    build_atlas(with_tables(data, rejected=rejected), folder, n_examples=4)
    return folder


def test_no_file_holds_a_character_that_is_not_seen(unkind: Path) -> None:
    texts = [path for path in unkind.rglob("*") if path.suffix in (".html", ".js", ".css", ".svg")]
    assert len(texts) > 60
    for path in texts:
        text = path.read_text("utf-8")
        assert not raw_in(text), path
        assert not raw_in(html.unescape(text)), path  # nor as a character reference


def test_pages_show_names_in_one_line(unkind: Path) -> None:
    front = parse(unkind / "index.html")
    for name in LABELS:
        assert visible(name) in front.text
    assert visible(LABELS[0] + NOT_UTF8) in front.text
    pages = [parse(path) for path in sorted((unkind / "images").glob("*.html"))]
    shown = {alt for page in pages for alt in page.values["alt"]}
    found = [name for name in LABELS if any(alt.startswith(f"{visible(name)}/") for alt in shown)]
    assert len(found) > 13
    query = parse(unkind / "concepts" / "0.html").text
    assert 'run.sql(\n    "select image_id' in query  # lines of our own are lines


def test_links_work_whatever_names_are(unkind: Path) -> None:
    for path in sorted(unkind.rglob("*.html")):
        for link in [*parse(path).links, *parse(path).lazy]:
            assert link.isascii()
            address = urldefrag(link)[0]
            assert not address or (path.parent / address).is_file()


def test_print_shows_what_pages_show() -> None:
    heading = LABELS[7]
    written = [char for name in LABELS for char in clean(name)]
    assert not raw_in("".join(written))
    assert clean(heading) == visible(heading) == r"\u202egnp.exe"
    document = sheets.book(
        LABELS[0], LABELS[3], [sheets.Entry(heading, [LABELS[9]], (0, 0, 0), [])]
    )
    title = re.search(rb"/Title <([0-9a-f]+)>", document)
    assert title is not None
    assert bytes.fromhex(title[1].decode()).decode("utf-16") == visible(LABELS[0])


def test_the_page_of_suspects_tells_the_evidence_or_why_there_is_none(tmp_path: Path) -> None:
    build_atlas(synthetic(), tmp_path / "some", n_examples=4)
    page = Page()
    page.feed((tmp_path / "some" / "suspects.html").read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    assert "In 398 of 2,000 images, of all 2 labels, at the top left of the frame" in text
    assert "Taken out with it" in text
    assert {"concepts/0.html", "concepts/1.html"} <= set(page.links)
    index = (tmp_path / "some" / "index.html").read_text(encoding="utf-8")
    assert '<a href="suspects.html">Suspects</a>' in index
    build_atlas(replace(synthetic(bare=True), no_suspects="<no> labels"), tmp_path / "none")
    none = (tmp_path / "none" / "suspects.html").read_text(encoding="utf-8")
    assert "No suspects: &lt;no&gt; labels." in none
