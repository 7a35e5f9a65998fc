"""Other systems than this one: each call that only some have is taken away, and work goes on."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from benchmarks import harness
from pipeline.runs.estimate import available_memory
from pipeline.store import chunks
from pipeline.system import denormals, doctor, heap, processes
from pipeline.system.processes import as_they_come
from tests.sources import ROOT


def hide(monkeypatch: pytest.MonkeyPatch, *folders: str) -> None:
    """Let files below some folders not be there."""
    read, exists = Path.read_text, Path.exists

    def is_hidden(path: Path) -> bool:
        return str(path).startswith(folders)

    def read_text(path: Path, *args: str, **options: str) -> str:
        if is_hidden(path):
            raise FileNotFoundError(path)
        return read(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(Path, "exists", lambda path: not is_hidden(path) and exists(path))


def test_without_proc_and_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "/proc", "/sys")
    before = psutil.virtual_memory().available
    found = available_memory()
    free = sorted((before, psutil.virtual_memory().available))  # what else runs here changes it
    assert 0.8 * free[0] <= found <= 1.2 * free[1]
    assert "none of" in doctor.check_cpu().found
    held = harness.__dict__["_memory"](os.getpid())
    process = psutil.Process()  # with what other tests have left running below it
    family = [process, *process.children(recursive=True)]
    assert held == pytest.approx(sum(each.memory_info().rss for each in family), rel=0.2)


def test_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert f"on {os.cpu_count()} core" in doctor.check_threads().found


def test_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        """A C library that has nothing of glibc's own, as musl."""

    monkeypatch.setattr(ctypes, "CDLL", lambda *_: Libc())
    heap.share_heap()
    heap.keep_freed_memory(True)
    heap.keep_freed_memory(False)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(ctypes, "CDLL")
    heap.share_heap()
    heap.keep_freed_memory(False)


def test_without_gnus_openmp(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("image not found")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert denormals.flush_denormals() == denormals.denormals_flushed()


def test_without_large_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MADV_HUGEPAGE", "MAP_PRIVATE", "MAP_ANONYMOUS"):
        monkeypatch.delattr(mmap, name, raising=False)
    shape = (chunks.__dict__["_LARGE"] // 4 + 1, 1)
    pages = chunks.__dict__["_own_pages"](shape, np.dtype(np.float32))
    pages[-1] = 7
    assert pages.shape == shape
    assert pages.sum() == 7


def test_without_masks_of_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "signal", SimpleNamespace(SIGINT=signal.SIGINT))
    assert sorted(as_they_come(abs, [-3, 2], 2, {})) == [2, 3]


def test_windows_itself_is_one_sentence() -> None:
    script = (
        "import sys; sys.modules['fcntl'] = None; from pipeline.cli.main import main;"
        " sys.exit(main('status', ['--run=x']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("runs on Linux and macOS, and on Windows within WSL2\n")
    assert done.stderr.count("\n") == 1


def test_scripts_ask_for_nothing_that_only_gnu_has() -> None:
    """The tools of macOS are others: bash 3.2, BSD's tar and sed, no nproc and no realpath -m."""
    for name in ("Makefile", ".ci/run"):
        text = (ROOT / name).read_text(encoding="utf-8")
        found = re.findall(
            r"\bnproc\b|realpath|readlink -f|sed -i|date -d|stat -c|grep -\w*P|mapfile|declare -A"
            r"|\$\{\w+[,^]|xargs -\w*r|\btar -\w*x(?! -f)|cp --|timeout ",
            text,
        )
        assert found == [], name


def test_nothing_is_forked() -> None:
    """A copy of a process with threads may hang: on macOS it does, and CUDA refuses it."""
    for folder in ("pipeline", "stages", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"os\.fork|get_context\(.fork|set_start_method|Pool\(\)", text), (
                path
            )
            assert not re.search(r"\b(Process|Pool)\(", text.replace("psutil.Process(", "")), path
