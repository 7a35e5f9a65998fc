"""Text that others wrote is shown so that it does nothing, and pasted so that it means itself."""

from __future__ import annotations

import ast
import codecs
import csv
import io
import logging
import os
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.analysis.compare import Comparison
from pipeline.analysis.display import ImageTable, Shown
from pipeline.analysis.evaluation import Evaluation
from pipeline.analysis.explain import Labels, picture_of
from pipeline.analysis.explanation import Explanation
from pipeline.cli import text
from pipeline.cli.text import show
from pipeline.errors import UserError, command, speak_as
from pipeline.escape import csv_cell, fitted, nearest, shell_word, visible, visible_lines
from pipeline.system import files, progress
from tests.hostile import LABELS, NOT_UTF8, ORDINARY, raw_in

NAMES = (*LABELS, NOT_UTF8)
every_name = pytest.mark.parametrize("name", NAMES, ids=ascii)


@every_name
def test_a_name_is_one_line_of_characters_to_be_seen(name: str) -> None:
    shown = visible(name)
    assert not raw_in(shown)
    assert len(shown.splitlines()) == 1
    kept = [char for char in name if not raw_in(char) and char != "\n"]
    left = iter(shown)
    assert all(char in left for char in kept)  # in their order
    assert shown.isascii()


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_text_stays_as_it_is(name: str) -> None:
    assert visible(name) == visible_lines(name) == fitted(name, 40) == name


def test_what_is_seen_of_a_name() -> None:
    assert visible("\x1b[31m\x9b\n\u202e\u2028\udce9") == r"\x1b[31m\x9b\n\u202e\u2028\udce9"
    assert visible_lines("a\x07\nb\r\n") == "a\\x07\nb\\r\n"
    assert fitted("a\nb  c" + 40 * "d", 12) == r"a\nb cddddd…"


@every_name
def test_a_terminal_and_logs_get_nothing_to_obey(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show(f"first {name}")
    show(UserError(f"no {name}"), on_stderr=True)
    handler = progress.LineHandler()
    handler.emit(logging.LogRecord("concordance", logging.INFO, "", 0, name, (), None))
    with progress.bar(name, 1, "images"):
        pass
    printed = capsys.readouterr()
    assert not raw_in(printed.out)
    assert not raw_in(printed.err.replace("\r", ""))  # by which the bar goes back
    assert "first" in printed.out
    for line in (name, "next"):
        files.append_line(tmp_path / "run.log", line)
    log = (tmp_path / "run.log").read_text("utf-8")
    assert not raw_in(log)
    assert len(log.splitlines()) == 2
    assert log.splitlines()[0].endswith(visible(name))


@every_name
def test_errors_in_a_notebook_show_names(name: str) -> None:
    assert not raw_in(str(UserError(f"there is no {name}")))


@every_name
def test_a_word_of_a_shell_is_the_name_itself(name: str, tmp_path: Path) -> None:
    name = name.replace("\x00", "")
    word = shell_word(name)
    assert not raw_in(word)
    assert "\n" not in word
    # Quotes for control characters are of bash, zsh and POSIX 2024; dash has none.
    for shell in ("bash",) if word.startswith("$'") else ("bash", "sh"):
        found = subprocess.run(
            [shell, "-c", f"printf %s {word}"], cwd=tmp_path, capture_output=True, check=True
        )
        assert found.stdout == os.fsencode(name)
        assert list(tmp_path.iterdir()) == []


def test_a_pasted_word_is_the_same_in_any_locale() -> None:
    name = "caf\udce9 \u202eé\n!"
    script = f"printf %s {shell_word(name)}"
    for locale in ("C", "C.UTF-8"):
        found = subprocess.run(
            ["bash", "-c", script], env={"LC_ALL": locale}, capture_output=True, check=True
        )
        assert found.stdout == os.fsencode(name)


@every_name
def test_a_call_in_python_is_the_name_itself(name: str) -> None:
    speak_as("python")
    call = command("discover", run=name)
    assert not raw_in(call)
    assert ast.literal_eval(call.partition("run=")[2][:-1]) == name


CELLS = [each for each in LABELS if each[0] in "=+-@\t\r"]


def evaluation() -> Evaluation:
    labels = [*LABELS, "plain", None]
    n = len(labels)
    table = pd.DataFrame(
        {
            "image_id": np.arange(n) - 3,  # some negative: numbers are no formulas
            "path": [f"{label}/x.png" for label in labels],
            "label": labels,
            "labels": [() if each is None else (each,) for each in labels],
            "j": np.linspace(-0.5, 1, n),
            "precision": np.nan,
            "corloc": 1.0,
            "mae": 0.25,
        }
    )
    return Evaluation(table, {}, np.zeros((4, 4, 3), np.uint8))


def test_no_cell_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    found = evaluation()
    path, *_ = found.save(tmp_path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.images)
    assert len(CELLS) >= 5
    for row, label, image_id in zip(rows, [*LABELS, "plain", None], range(-3, 99), strict=False):
        assert not row["label"].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert not row["path"].startswith(("=", "+", "-", "@", "\t", "\r"))
        expected = "" if label is None else f"'{label}" if label in CELLS else label
        assert row["label"] == expected
        assert row["image_id"] == str(image_id)
    table = pd.read_csv(path)
    assert table["j"].to_numpy() == pytest.approx(found.images["j"].to_numpy())
    assert table["image_id"].tolist() == found.images["image_id"].tolist()
    assert csv_cell("plain") == "plain"


def test_jupyter_shows_names_and_obeys_none() -> None:
    names = list(LABELS)
    table = pd.DataFrame({"label": names, "max": np.linspace(0, 1, len(names))})
    picture = np.zeros((4, 4, 3), np.uint8)
    shown = Shown(names[7], picture, table, {"label": names[0]}, {names[9]: table})
    listed = ImageTable.of(table, lambda: picture)
    for written in (shown._repr_html_(), repr(shown), listed._repr_html_(), repr(listed)):
        assert not raw_in(written)
        assert r"\u202egnp.exe" in written
        assert r"\x1b[2J" in written
    assert "<script>" not in shown._repr_html_() + listed._repr_html_()
    assert "<bdi>שלום</bdi>" in Shown("שלום", picture, table)._repr_html_()
    assert listed["label"].tolist() == names  # the data are as they were


def test_what_an_encoding_lacks_is_written_as_near_as_can_be() -> None:
    codecs.register_error("nearest", nearest)
    for encoding, said, written in (
        ("ascii", "a – b × c … é", r"a - b x c ... \xe9"),
        ("latin-1", "a – b × é 世", r"a - b × é \u4e16"),
        ("utf-8", "–\udce9", r"–\udce9"),
    ):
        buffer = io.BytesIO()
        stream = io.TextIOWrapper(buffer, encoding, errors="nearest")
        stream.write(said)
        stream.flush()
        assert buffer.getvalue().decode(encoding) == written


def test_a_name_never_makes_a_line_of_a_table() -> None:
    n = len(LABELS)
    numbers = np.linspace(0, 1, n)
    labels = pd.DataFrame({"class_id": range(n), "label": LABELS, "prob": numbers})
    legend = labels.assign(concept_id=range(n), max=numbers, contribution=numbers)
    nothing = np.zeros((4, 4, 3), np.uint8)
    explained = Explanation(
        np.zeros((1, 4, 4), np.float32), nothing, legend, labels, 0.5, (0, 0, 4, 4)
    )
    pairs = pd.DataFrame(
        {"concept_a": range(n), "label_a": LABELS, "concept_b": range(n), "label_b": LABELS[::-1]}
    ).assign(cosine=numbers)
    folders = Path("runs", LABELS[5]), Path("runs", LABELS[9])
    for written, n_lines in (
        (explained.describe(), 2 * n + 3),
        (text.evaluation(evaluation()), n + 3),  # and a head, "plain", and "all"
        (text.comparison(Comparison(pairs, (), ()), *folders), n + 1),
    ):
        assert not raw_in(written)
        assert len(written.split("\n")) == n_lines
        assert r"\u202egnp.exe" in written


def test_a_name_never_makes_a_line_of_a_legend() -> None:
    image, heat = np.full((200, 300, 3), 99, np.uint8), np.ones((1, 200, 300), np.float32)

    def legend(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return picture_of(image, heat, [0], Labels([None], [[name, "b"]], [[0.5, 0.2]]))

    def named(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return picture_of(image, heat, [0], Labels([name], [["a", "b"]], [[0.5, 0.2]]))

    for write in (legend, named):
        assert np.array_equal(write("two\nlines"), write(r"two\nlines"))
        assert not np.array_equal(write("two\nlines"), write("two lines"))
