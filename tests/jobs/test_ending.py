"""A command that is told to end does, at any moment, and leaves a run that goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.sample import write_sample
from pipeline.system import ending
from tests.project.checkouts import ROOT

LONGEST = ending.GRACE + 4.0
"""Seconds; far above what it takes, so that a busy machine does not fail a test."""


class Job:
    """A command under way, whose stderr can be waited for."""

    def __init__(self, *argv: str, log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "2"},
                stderr=stderr,
                stdout=subprocess.DEVNULL,
            )

    def said(self) -> str:
        """Return what it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, words: str) -> None:
        """Wait until it says something."""
        end = time.monotonic() + 120
        while not re.search(words, self.said()):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.02)

    def end(self, number: signal.Signals) -> float:
        """Send a signal; return the seconds until the process, and all it has started, is gone."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
        return time.monotonic() - start


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ending")
    write_sample(folder / "sample", n_images=160)
    return folder / "sample" / "images"


@pytest.fixture
def job(images: Path, tmp_path: Path, moment: str) -> Iterator[Job]:
    """A job whose choice of k, or what stands in its place, takes a minute."""
    k = 150 if moment.startswith("halves") else 120
    started = Job(
        "-m", "stages.discover", f"--dataset={images}", "--model=sample", f"--k={k}",
        f"--run={tmp_path / 'run'}", log=tmp_path / "log",
    )  # fmt: skip
    yield started
    started.process.kill()
    started.process.wait()


LATE = pytest.param("sample step [3-9]", marks=pytest.mark.long)
"""After the choice of k, which takes a minute."""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("moment", ["run  ", "extract  ", "choose k", "halves of the images", LATE])
def test_it_ends_at_any_moment(job: Job, moment: str, number: signal.Signals) -> None:
    job.wait_for(moment)
    took = job.end(number)
    assert job.process.returncode == ending.CODE, job.said()
    assert took < LONGEST
    assert "the run can be resumed" in job.said()
    assert "Traceback" not in job.said()
    assert "terminate called" not in job.said()


STUBBORN = """
import sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pipeline.system import ending
from pipeline.system.processes import in_processes

def work():
    while True:
        time.sleep(0.01)

with ending.prompt():
    pool = ThreadPoolExecutor(2)
    pool.submit(work)  # no one can stop it
    if sys.argv[1] == "deaf":
        print("ready", file=sys.stderr, flush=True)
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
    for _ in in_processes(time.sleep, [0.1, 60, 60], 2, chunk=1):
        print("ready", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("kind", ["deaf", "processes"])
def test_threads_and_processes_that_do_not_listen_are_ended(tmp_path: Path, kind: str) -> None:
    job = Job("-c", STUBBORN, kind, log=tmp_path / "log")
    job.wait_for("ready")
    assert job.end(signal.SIGTERM) < LONGEST
    assert job.process.returncode == ending.CODE


def test_an_orderly_ending_has_less_time_than_is_promised() -> None:
    """Two seconds: what is left of them is for ending the processes that were started."""
    assert ending.GRACE <= 1.5


def test_what_is_ignored_stays_ignored() -> None:
    """As of nohup, and of jobs in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending.prompt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)
