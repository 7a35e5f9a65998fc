"""The site in a real browser, opened from the file system: Chromium, spoken to over a pipe."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.atlas import build_atlas
from tests.atlas.fixture import NASTY, synthetic, with_tables

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
AXE = Path(os.environ.get("AXE_CORE", "axe.min.js"))  # axe-core's one file, where there is one
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
)  # fmt: skip
PAGES = ("index.html", "images.html", "numbers.html", "concepts/0.html", "IMAGE", "CLASS")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


class Browser:
    """One tab of a headless Chromium (Chrome DevTools Protocol, messages ended by NUL)."""

    def __init__(self, profile: Path) -> None:
        into, self._into = os.pipe()
        self._out, out = os.pipe()

        def as_three_and_four() -> None:
            first, second = os.dup(into), os.dup(out)
            os.dup2(first, 3)
            os.dup2(second, 4)

        self._process = subprocess.Popen(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=as_three_and_four,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(into)
        os.close(out)
        self._left, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                return dict(answer["result"])
            self.events.append(answer)

    def _read(self, seconds: float = 60) -> dict[str, Any]:
        while b"\0" not in self._left:
            assert select.select([self._out], [], [], seconds)[0], "the browser does not answer"
            self._left += os.read(self._out, 1 << 20)
        message, self._left = self._left.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, path: Path, *, width: int = 1280, dark: bool = False, hash: str = "") -> None:
        self.events = []
        self.do("Page.navigate", url="about:blank")
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
            mobile=width < 500,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])
        self.events = []
        self.do("Page.navigate", url=path.resolve().as_uri() + hash)
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def js(self, expression: str) -> Any:
        answer = self.do(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not self.js(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.05)

    def press(self, key: str, text: str = "") -> None:
        self.do("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, text=text)
        self.do("Input.dispatchKeyEvent", type="keyUp", key=key, code=key)

    def look(self, selector: str) -> np.ndarray:
        """What is seen of an element, int (height, width, 3)."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const {x, y, width, height} = e.getBoundingClientRect();"
            " return {x: x + scrollX, y: y + scrollY, width, height, scale: 1}; })()"
        )
        self.js("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        shot = self.do("Page.captureScreenshot", format="png", clip=box)["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")).astype(int)

    def problems(self) -> list[str]:
        """Exceptions, console errors and warnings, and what the browser logged."""
        self.js("1")
        found = []
        for event in self.events:
            method, values = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(str(values["exceptionDetails"]))
            if method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning"):
                found.append(str(values["args"]))
            if method == "Log.entryAdded":
                found.append(str(values["entry"]["text"]))
        return found

    def requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        os.close(self._into)
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site with a space & ünïcode")
    build_atlas(synthetic(30, 8, seed=1), folder, n_examples=6)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    data = synthetic(
        20, 4, seed=2, class_names=NASTY, names=lambda i: f"{NASTY[i % len(NASTY)]}/{i}.png"
    )
    rejected = pd.DataFrame({"path": list(NASTY), "reason": list(NASTY)})
    summary = {NASTY[0]: NASTY[1], NASTY[1]: NASTY[0]}
    data = with_tables(data, rejected=rejected)
    build_atlas(replace(data, title=NASTY[0], summary=summary, settings=summary), folder)
    return folder


def page(site: Path, name: str) -> Path:
    if name in ("IMAGE", "CLASS"):
        folder = site / {"IMAGE": "images", "CLASS": "classes"}[name]
        return max(folder.glob("*.html"), key=lambda path: (path.stat().st_size, path.name))
    return site / name


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_pages_open_quietly_and_ask_for_nothing_outside(
    browser: Browser, site: Path, name: str, width: int, dark: bool
) -> None:
    browser.open(page(site, name), width=width, dark=dark)
    browser.js("scrollTo(0, document.body.scrollHeight)")
    time.sleep(0.3)
    assert browser.problems() == []
    asked = browser.requests()
    assert len(asked) > 3
    assert all(each.startswith((site.as_uri() + "/", "data:image/")) for each in asked)
    assert browser.js("document.documentElement.scrollWidth") <= width
    background = browser.js("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == dark
    assert browser.js("[...document.images].every((i) => !i.complete || i.naturalWidth > 0)")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.skipif(not AXE.is_file(), reason="AXE_CORE names no copy of axe.min.js")
def test_nothing_stands_in_the_way_of_assistive_technology(
    browser: Browser, site: Path, name: str, dark: bool
) -> None:
    browser.open(page(site, name), dark=dark)
    browser.js(AXE.read_text("utf-8") + ";1")
    report = "(r) => r.violations.map((v) => [v.id, v.impact, v.nodes.map((n) => n.html)])"
    found = browser.js(f"axe.run().then({report})")
    assert [each for each in found if each[1] in ("serious", "critical")] == []


def test_cards_are_filtered_and_the_address_keeps_it(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    total = browser.js("document.querySelectorAll('.card').length")
    word = browser.js("document.querySelector('.card').dataset.words.split(' ')[0]")
    shown = "[...document.querySelectorAll('.card')].filter((c) => !c.hidden)"
    browser.js(
        f"q.value = {json.dumps(word)}; q.dispatchEvent(new Event('input', {{bubbles: true}}))"
    )
    kept = browser.js(f"{shown}.map((c) => c.dataset.words)")
    assert 0 < len(kept) < total
    assert all(word in each for each in kept)
    assert f"{len(kept)} of {total}" in browser.js("shown.textContent")
    assert browser.js("document.querySelectorAll('.disc.out').length") == total - len(kept)
    address = browser.js("location.hash")
    assert word in address
    browser.open(site / "index.html", hash=address)
    assert browser.js(f"{shown}.length") == len(kept)
    assert browser.js("q.value") == word
    browser.js("q.value = 'no such thing'; q.dispatchEvent(new Event('input', {bubbles: true}))")
    assert browser.js("!nothing.hidden")
    browser.js("reset.click()")
    assert browser.js(f"{shown}.length") == total
    assert browser.js("location.hash") == ""


@pytest.mark.parametrize(
    "key", ["energy", "importance", "coverage", "stability", "images", "id", "name"]
)
def test_cards_are_sorted(browser: Browser, site: Path, key: str) -> None:
    browser.open(site / "index.html", hash=f"#sort={key}")
    order = browser.js(f"[...document.querySelectorAll('.card')].map((c) => c.dataset.{key})")
    assert len(set(order)) > 1
    if key == "name":
        assert order == sorted(order)
    else:
        values = [float(each) for each in order]
        assert values == sorted(values, reverse=key != "id")


def test_cards_are_filtered_by_class_and_by_kind(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html", hash="#kind=group")
    left = "[...document.querySelectorAll('.card')].filter((c) => !c.hidden)"
    kinds = browser.js(f"{left}.map((c) => c.dataset.kind)")
    assert set(kinds) == {"group"}
    first = browser.js("document.querySelectorAll('#class option')[1].value")
    browser.open(site / "index.html", hash=f"#class={first}")
    assert set(browser.js(f"{left}.map((c) => c.dataset.class)")) == {first}


def settle(browser: Browser) -> None:
    browser.until("!!document.querySelector('.shot canvas, .stage canvas')")
    time.sleep(0.3)


def choose(browser: Browser, mode: str, level: float) -> np.ndarray:
    browser.js(
        f"document.querySelector('input[value={mode}]').click();"
        f"threshold.value = {level}; threshold.dispatchEvent(new Event('input', {{bubbles: true}}))"
    )
    time.sleep(0.15)
    return browser.look(".shot")


def test_overlays_follow_the_mode_and_the_threshold(browser: Browser, site: Path) -> None:
    browser.open(site / "concepts" / "0.html")
    settle(browser)
    off = choose(browser, "off", 0.35)
    looks = {mode: choose(browser, mode, 0.35) for mode in ("heat", "light", "line")}
    changed = {mode: (np.abs(look - off).sum(-1) > 24).mean() for mode, look in looks.items()}
    assert 0.02 < changed["heat"] < 0.95
    assert changed["light"] > 0.3
    assert 0.001 < changed["line"] < changed["heat"]
    low, high = choose(browser, "heat", 0.1), choose(browser, "heat", 1.0)
    assert (np.abs(low - off).sum(-1) > 24).mean() > (np.abs(high - off).sum(-1) > 24).mean()
    assert browser.js("document.querySelector('output').value") == "1.00"
    assert np.array_equal(choose(browser, "off", 1.0), off)


def test_the_overlay_lies_where_the_heatmap_is(browser: Browser, site: Path) -> None:
    """Brightest under the spotlight: the part of the picture the heatmap peaks in."""
    data = synthetic(30, 8, seed=1)
    browser.open(site / "concepts" / "0.html")
    settle(browser)
    image_id = int(browser.js("document.querySelector('.shot').dataset.image"))
    off, lit = choose(browser, "off", 0.0), choose(browser, "light", 0.0)
    height, width = off.shape[:2]
    kept = lit.sum(-1) / np.maximum(off.sum(-1), 1)
    strength = data.upsample(data.read_heatmap(image_id)[:1], image_id, height, width)[0]
    assert np.corrcoef(kept.ravel(), np.minimum(strength, 1).ravel())[0, 1] > 0.9


def test_maps_leave_places_without_the_concept_as_they_are(browser: Browser, site: Path) -> None:
    data = synthetic(30, 8, seed=1)
    browser.open(page(site, "IMAGE"))
    settle(browser)
    image_id = int(browser.js("document.querySelector('.viewer, #viewer').dataset.image"))
    concepts = browser.js(
        "[...document.querySelectorAll('.shot[data-concept]')].map((e) => +e.dataset.concept)"
    )
    n_empty = 0
    for concept in concepts:
        selector = f'.shot[data-concept="{concept}"]'
        browser.until(f"!!document.querySelector('{selector} canvas')")
        tinted = browser.look(selector)
        browser.js(f"document.querySelector('{selector} canvas').style.visibility = 'hidden'")
        change = np.abs(tinted - browser.look(selector)).sum(-1)
        height, width = change.shape
        heatmap = data.read_heatmap(image_id)[concept : concept + 1]
        strength = data.upsample(heatmap, image_id, height, width)[0]
        if (strength > 0.8).any():
            assert change[strength > 0.8].mean() > 40
        if (empty := strength < 0.002).sum() > 100:
            n_empty += 1
            assert change[empty].mean() < 8
    assert n_empty


def test_the_legend_of_an_image_shows_one_concept_or_leaves_one_out(
    browser: Browser, site: Path
) -> None:
    browser.open(page(site, "IMAGE"))
    settle(browser)
    everything = browser.look(".stage")
    browser.js(
        "document.querySelector('#legend li').dispatchEvent(new PointerEvent('pointerenter'))"
    )
    single = browser.look(".stage")
    browser.js(
        "document.querySelector('#legend li').dispatchEvent(new PointerEvent('pointerleave'))"
    )
    assert np.array_equal(browser.look(".stage"), everything)
    assert not np.array_equal(single, everything)
    browser.js("document.querySelectorAll('#legend input').forEach((box) => box.click())")
    browser.js("document.activeElement.blur()")
    bare = browser.look(".stage")
    browser.js("document.getElementById('show-regions').click()")
    browser.js("document.querySelector('#legend input').click()")
    regions = browser.look(".stage")
    browser.js("document.getElementById('show-mask').click()")
    masked = browser.look(".stage")
    assert not np.array_equal(bare, everything)
    assert not np.array_equal(regions, bare)
    assert masked.mean() < regions.mean()


def test_the_slider_cuts_the_tree_and_redraws_the_pictures(browser: Browser, site: Path) -> None:
    browser.open(site / "numbers.html")
    settle(browser)
    cards = "[...document.querySelectorAll('#cards .card')]"
    assert browser.js(f"{cards}.length") == 4

    def to(n: int) -> np.ndarray:
        steps = json.loads(browser.js("document.getElementById('cards').dataset.tree"))["steps"]
        browser.js(f"number.value = {steps.index(n)}; number.dispatchEvent(new Event('input'))")
        time.sleep(0.4)
        assert browser.js(f"{cards}.length") == n
        assert browser.js("said.value") == str(n)
        return browser.look(".shot")

    every, one = to(8), to(1)
    assert np.abs(one - every).mean() > 1
    colours = f"new Set({cards}.map((c) => c.querySelector('.swatch').className)).size"
    assert browser.js(colours) == 1
    assert browser.js(f"{cards}[0].textContent").startswith("name 0 <b> · name 1 <b>")
    to(5)
    assert browser.js(colours) == 5
    said = browser.js(f"{cards}.map((c) => c.textContent).find((t) => t.includes('splits'))")
    assert "splits at 6 into " in said
    assert said.endswith("| name 5 <b> · name 6 <b> · name 7 <b>")
    assert np.array_equal(to(8), every)
    browser.js("document.querySelector('#levels button').click()")
    time.sleep(0.3)
    assert browser.js(f"{cards}.length") == 4
    assert browser.js("document.querySelectorAll('.tree details').length") == 1


def test_the_keyboard_reaches_everything(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    browser.press("Tab")
    assert browser.js("document.activeElement.textContent") == "Skip to content"
    seen = []
    for _ in range(60):
        browser.press("Tab")
        at = browser.js("(({id, className}) => id || className.baseVal)(document.activeElement)")
        seen.append(at or "")
    assert {"theme", "q", "class", "kind", "sort"} <= set(seen)
    assert any(each.startswith("disc") for each in seen)
    browser.js("document.activeElement.blur()")
    browser.press("/", "/")
    assert browser.js("document.activeElement.id") == "q"
    browser.open(site / "concepts" / "0.html")
    browser.press("ArrowRight")
    browser.until(
        "location.pathname.endsWith('/concepts/1.html') && document.readyState === 'complete'"
    )
    browser.press("ArrowLeft")
    browser.until("location.pathname.endsWith('/concepts/0.html')")


def test_the_theme_is_kept_from_page_to_page(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html", dark=True)
    browser.js("theme.click()")
    assert browser.js("document.documentElement.dataset.theme") == "light"
    browser.open(site / "images.html", dark=True)
    assert browser.js("document.documentElement.dataset.theme") == "light"
    browser.js("theme.click(); localStorage.clear()")


def test_a_query_can_be_copied(browser: Browser, site: Path) -> None:
    browser.open(site / "concepts" / "1.html")
    browser.js("document.querySelector('.copy').click()")
    browser.until(
        "['Copied', 'Press Ctrl+C'].includes(document.querySelector('.copy').textContent)"
    )


@pytest.mark.parametrize("name", PAGES)
def test_hostile_names_run_nothing(browser: Browser, hostile: Path, name: str) -> None:
    browser.open(page(hostile, name))
    time.sleep(0.3)
    assert browser.js("typeof window.owned") == "undefined"
    assert browser.problems() == []
    assert browser.js("[...document.scripts].every((s) => s.src.startsWith('file:'))")
    assert browser.js("document.querySelectorAll('img[src=x], [onerror], [style]').length") <= 0
    assert browser.js("[...document.links].every((a) => a.protocol === 'file:')")


def test_an_inline_script_would_be_refused(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    browser.js(
        "(() => { const s = document.createElement('script'); s.textContent = 'window.owned = 1';"
        " document.body.append(s); })()"
    )
    assert browser.js("typeof window.owned") == "undefined"


def photographs(n: int, seed: int) -> list[np.ndarray]:
    """Pictures of 500 × 375 with the spectrum of photographs, as hard for JPEG as those."""
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)[None]
    fall = 1.0 / np.maximum(np.hypot(fy, fx), 1 / 500) ** 1.3
    made = []
    for _ in range(n):
        waves = np.fft.rfft2(rng.normal(size=(3, 375, 500))) * fall
        light = np.fft.irfft2(waves, s=(375, 500))
        light = light[:1] + 0.3 * light  # mostly without colour
        light = 128 + 52 * light / light.std()
        made.append(light.transpose(1, 2, 0).clip(0, 255).astype(np.uint8))
    return made


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of 1,000 photographs and 50 concepts."""
    data = synthetic(1000, 50, seed=5)
    pool = photographs(12, 0)
    folder = tmp_path_factory.mktemp("large")
    build_atlas(replace(data, read_image=lambda image_id, _: pool[image_id % len(pool)]), folder)
    sizes = [path.stat().st_size for path in (folder / "media").glob("[0-9]*[0-9].jpg")]
    assert np.mean(sizes) > 36_000  # as large as real ones, see docs/METHODS.md
    return folder


def test_the_large_front_page_filters_at_once(browser: Browser, large: Path) -> None:
    browser.open(large / "index.html")
    ready = browser.js("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    shown = "[...document.querySelectorAll('.card')].filter(card => !card.hidden).length"
    every = browser.js(shown)
    took = browser.js(
        "(() => { const start = performance.now(); q.value = 'no such concept';"
        " q.dispatchEvent(new Event('input', {bubbles: true}));"
        " return performance.now() - start })()"
    )
    print(f"front page of {every} concepts: ready after {ready:.0f} ms, filtered in {took:.0f} ms")
    assert every == 50
    assert browser.js(shown) == 0


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of 1,000 concepts."""
    folder = tmp_path_factory.mktemp("thousand")
    build_atlas(synthetic(240, 1_000, seed=6), folder, n_examples=2)
    return folder


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_a_thousand_concepts_open_and_are_searched(
    browser: Browser, thousand: Path, width: int, dark: bool
) -> None:
    browser.open(thousand / "index.html", width=width, dark=dark)
    ready = browser.js("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
    shown = "[...document.querySelectorAll('.card')].filter(card => !card.hidden).length"
    assert browser.js(shown) == 1_000
    took = browser.js(
        "(() => { const start = performance.now(); q.value = '777';"
        " q.dispatchEvent(new Event('input', {bubbles: true})); document.body.offsetHeight;"
        " return performance.now() - start })()"
    )
    print(f"1,000 concepts: ready after {ready:.0f} ms, searched in {took:.0f} ms")
    assert 1 <= browser.js(shown) < 20
    assert browser.problems() == []
    assert browser.js("document.documentElement.scrollWidth") <= width
    asked = {each.split("#")[0] for each in browser.requests() if each.startswith("file:")}
    total = sum(Path(unquote(urlparse(each).path)).stat().st_size for each in asked)
    assert total < 3_000_000


@pytest.mark.parametrize("name", PAGES)
def test_no_page_loads_more_than_two_megabytes_at_first(
    browser: Browser, large: Path, name: str
) -> None:
    browser.open(page(large, name))
    time.sleep(1.5)
    assert browser.problems() == []
    asked = {each.split("#")[0] for each in browser.requests() if each.startswith("file:")}
    files = [Path(unquote(urlparse(each).path)) for each in asked]
    total = sum(path.stat().st_size for path in files)
    print(f"{name}: {len(files)} files, {total / 1e6:.2f} MB at first")
    assert len(files) > 3
    assert total < 2_000_000
