"""What is said, and how far work is: on a terminal, in a log, in somebody's program."""

from __future__ import annotations

import io
import logging
import time

import pytest

from pipeline.system import progress


class Terminal(io.StringIO):
    """Takes what is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_library_says_nothing_unless_it_is_asked(capfd: pytest.CaptureFixture[str]) -> None:
    progress.say("something")
    assert capfd.readouterr() == ("", "")


def test_a_program_hears_what_is_said(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("concordance")
    before = logger.propagate
    logger.propagate = True
    try:
        with caplog.at_level(logging.INFO, "concordance"):
            progress.say("extract    float32, exact")
    finally:
        logger.propagate = before
    assert [record.message for record in caplog.records] == ["extract    float32, exact"]


def test_a_bar_says_what_is_done_and_how_much_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    with progress.bar("extract", 10, "images", done=4) as bar:
        bar.update(6)
    assert "extract" in shown.getvalue()
    assert "10/10" in shown.getvalue()


def test_the_time_goes_on_where_a_unit_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setattr(progress, "BEAT", 0.02)
    with progress.bar("choose k", 2, "fits"):
        first, give_up = shown.tell(), time.monotonic() + 30
        while shown.tell() < 4 * first and time.monotonic() < give_up:  # nobody updates it
            time.sleep(0.01)
        assert shown.tell() >= 4 * first


def test_in_a_log_a_bar_is_seldom_written(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with progress.bar("export", 1000, "shards") as bar:
        for _ in range(1000):
            bar.update()
    assert log.getvalue().count("export") <= 3
