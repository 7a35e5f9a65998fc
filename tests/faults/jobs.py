"""Starts jobs with faults, and compares what they leave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.sample import write_sample
from pipeline.store.encoding import SEAL

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("inject.c")


def build(folder: Path) -> Path:
    """Compile what is preloaded; skip the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the library with that makes calls fail")
    library = folder / "inject.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(SOURCE), "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit code, or minus the signal that ended it, and what it printed.

    `seconds` is what it took, `memory` the most bytes it held at a time.
    """

    code: int
    seconds: float
    memory: int
    printed: str


class Server:
    """Carries out jobs, one at a time."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._folder = folder
        self._n_jobs = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"],
            cwd=ROOT,
            env=os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def job(
        self,
        options: Mapping[str, object],
        *,
        kill_after: float | None = None,
        **faults: object,
    ) -> Ended:
        """Carry out `discover` with options, and with faults as ``inject.c`` lists them."""
        self._n_jobs += 1
        log = self._folder / f"job-{self._n_jobs}.log"
        environment = {f"FAULT_{name.upper()}": str(value) for name, value in faults.items()}
        environment |= {"FAULT_FOLDER": str(options["run"]), "FAULT_SKIP": "/logs/"}
        request = {
            "options": {name: str(value) for name, value in options.items()},
            "environment": environment,
            "log": str(log),
            "kill_after": kill_after,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._answer())
        code = os.waitstatus_to_exitcode(answer["status"])
        printed = log.read_text() if log.exists() else ""
        return Ended(code, answer["seconds"], answer["memory"], printed)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(300)
        self._process.stdout.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Give a server whose logs lie in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(build(folder), folder)
    try:
        yield server
    finally:
        server.close()


def contents(run: Path) -> dict[str, bytes]:
    """Return a run's files by name; of ``run.json`` all but the times, of ``logs/`` nothing."""
    found = {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] != "logs"
    }
    if "run.json" in found:
        record = json.loads(found["run.json"])
        found["run.json"] = json.dumps(without_times(record), sort_keys=True).encode()
    return found


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    """Return what ``run.json`` says but for how long the stages took, and its digest."""
    stages = {
        stage: {name: value for name, value in entry.items() if name != "seconds"}
        for stage, entry in record["stages"].items()
    }
    return {name: value for name, value in record.items() if name != SEAL} | {"stages": stages}


def assert_equal(found: Path, expected: dict[str, bytes]) -> None:
    """Assert that a run holds what another holds, bit for bit, and nothing else."""
    files = contents(found)
    assert files.keys() == expected.keys()
    assert [name for name in expected if files[name] != expected[name]] == []


LAYERS = "stem,edges,shapes,forms,joints"
"""Auxiliary layers in float32 make images large, so that these few fill three shards."""


@dataclass(frozen=True)
class Case:
    """A job, what it leaves when nothing happens, its calls that change files, how it ended."""

    options: dict[str, object]
    expected: dict[str, bytes]
    calls: list[tuple[str, str]]
    ended: Ended
    servers: tuple[Server, Server]
    base: Path

    def run(self, name: str) -> dict[str, object]:
        """Return the job's options for a run of its own; all have one name, for it is shown."""
        return self.options | {"run": self.base / name / "run"}

    def copy(self, name: str) -> Path:
        """Return a copy of the finished run."""
        return shutil.copytree(self.base / "whole" / "run", self.base / name / "run")


@contextmanager
def make_case(base: Path) -> Iterator[Case]:
    """Carry out the job once, and keep two servers for more."""
    write_sample(base / "sample", n_images=40, size=64)
    options: dict[str, object] = {
        "dataset": base / "sample" / "images",
        "model": "sample",
        "aux_layers": LAYERS,
        "precision": "fp32",
        "k": 3,
    }
    with serving(base / "one") as one, serving(base / "two") as two:
        whole, trace = base / "whole" / "run", base / "trace"
        ended = one.job(options | {"run": whole}, trace=trace)
        assert ended.code == 0, ended.printed
        assert len(list((whole / "activations").glob("*.h5"))) == 3
        lines = [line.partition(" ") for line in trace.read_text().splitlines()]
        calls = [(call, path) for call, _, path in lines]
        yield Case(options, contents(whole), calls, ended, (one, two), base)
