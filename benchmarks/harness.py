"""Times contenders in alternation, prints them side by side, judges the targets, keeps a plot."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import psutil
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.system import files

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"

SAMPLING = 0.01
"""Seconds between two looks at the memory of a process: short jobs have short peaks."""

PAGES = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)
"""A line of the kernel's smaps_rollup."""


@dataclass(frozen=True)
class Target:
    """A value that a benchmark is held to.

    Attributes
    ----------
    name : str
        As in the contract, ``extract.resnet50.of_limit``.
    sense : {'at-least', 'at-most'}
    bound : float
    """

    name: str
    sense: Literal["at-least", "at-most"]
    bound: float

    def is_met(self, value: float) -> bool:
        """Say whether a value is good enough; NaN is not."""
        return value >= self.bound if self.sense == "at-least" else value <= self.bound

    def line(self, value: float | str) -> str:
        """Write the outcome as one line: a value measured, or the reason why there is none."""
        if isinstance(value, str):
            shown, outcome = "-", f"skipped {' '.join(value.split())}"
        else:
            shown, outcome = f"{value:.4f}", "met" if self.is_met(value) else "short"
        return f"BAR {self.name} {shown} {self.sense} {self.bound:g} {outcome}"


class Report:
    """The outcome of each of a benchmark's targets.

    Parameters
    ----------
    targets : sequence of Target
        In the order in which they are printed.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = {target.name: target for target in targets}
        self._outcomes: dict[str, float | str] = {}

    def measured(self, name: str, value: float) -> None:
        """Note what was measured for a target.

        Raises
        ------
        KeyError
            There is no target of this name.
        """
        self._outcomes[self._targets[name].name] = value

    def skipped(self, name: str, reason: str) -> None:
        """Note why a target was not measured."""
        self._outcomes[self._targets[name].name] = reason

    def skip_rest(self, reason: str, targets: Sequence[Target] | None = None) -> None:
        """Note one reason for all targets, or all of some, that have no outcome yet."""
        wanted = self._targets.keys() if targets is None else {each.name for each in targets}
        for name in wanted - self._outcomes.keys():
            self._outcomes[name] = reason

    def finish(self) -> int:
        """Print a line for each target; return the exit code, 1 where one was missed.

        Raises
        ------
        ValueError
            A target has no outcome.
        """
        if missing := sorted(self._targets.keys() - self._outcomes.keys()):
            raise ValueError(f"neither measured nor skipped: {', '.join(missing)}")
        print()
        outcomes = [(target, self._outcomes[name]) for name, target in self._targets.items()]
        for target, outcome in outcomes:
            print(target.line(outcome))
        missed = [
            target
            for target, outcome in outcomes
            if not (isinstance(outcome, str) or target.is_met(outcome))
        ]
        return 1 if missed else 0


def wants_quick(description: str, argv: Sequence[str] | None = None) -> bool:
    """Parse the command line, ``[--quick]``, and print on which machine this runs."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a smaller case, within two minutes")
    quick = bool(parser.parse_args(argv).quick)
    introduce(quick)
    return quick


def introduce(quick: bool) -> None:
    """Print on which machine this runs."""
    print(
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()},"
        f" {torch.get_num_threads()} threads, Python {platform.python_version()},"
        f" torch {torch.__version__}{', quick' if quick else ''}",
        flush=True,
    )


class MissingAssetsError(FileNotFoundError):
    """Real weights or images that are not there; what needs them is skipped."""


def assets(*parts: str) -> Path:
    """Find a file or folder of the real weights and images.

    Raises
    ------
    MissingAssetsError
        It is not there; the text is one sentence.
    """
    folder = ROOT / os.environ.get("CONCORDANCE_ASSETS", "../shared/assets")
    path = folder.joinpath(*parts).resolve()
    if not path.exists():
        raise MissingAssetsError(f"no {'/'.join(parts)} in {folder}; set CONCORDANCE_ASSETS")
    return path


def seconds(work: Callable[[], object]) -> float:
    """Measure how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(
    contenders: Mapping[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Time contenders in turns, so that what else the machine does slows all of them.

    Parameters
    ----------
    contenders : mapping
        Name to the work, done once per call. Whoever needs warming up was called before.
    rounds : int
        How often each is timed; every second round goes backwards.

    Returns
    -------
    dict
        Name to seconds, one per round.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for index in range(rounds):
        for name in names if index % 2 == 0 else reversed(names):
            times[name].append(seconds(contenders[name]))
    return times


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of the ratios round by round."""
    return median(a / b for a, b in zip(above, below, strict=True))


def show(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; floats have four digits, None is a dash, numbers are aligned right."""
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(header))]
    print(f"\n{title}")
    for line in (header, *cells):
        parts = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        print("  " + "  ".join(parts).rstrip(), flush=True)


def plot(name: str, draw: Callable[[Axes], None]) -> Path:
    """Draw one chart and keep it as ``benchmarks/results/<name>.png``."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    draw(figure.add_subplot())
    path = RESULTS / f"{name}.png"
    files.write_with(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))
    print(f"\nplot: {path.relative_to(ROOT)}")
    return path


@dataclass(frozen=True)
class Watched:
    """A process that ran to its end.

    Attributes
    ----------
    peak : float
        Most memory at once, gigabytes: the PSS of the process and all below it, were they alone.
    seconds : float
    output : str
        What it printed on stdout.
    """

    peak: float
    seconds: float
    output: str


def watch(arguments: Sequence[str], *, memory: bool = True) -> Watched:
    """Run this Python with arguments in the repository, looking at its memory all the time.

    Adding up the pages of gigabytes slows the process that is watched: where its time is what
    counts, `memory` is to be false, and the peak is left 0.

    Raises
    ------
    RuntimeError
        It failed; the text ends with what it said.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start, peak = time.perf_counter(), 0
        command = [sys.executable, *arguments]
        with subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=errors) as process:
            while process.poll() is None:
                if not memory:
                    process.wait()
                    break
                peak = max(peak, _memory(process.pid))
                time.sleep(SAMPLING)
        took = time.perf_counter() - start
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = errors.read().decode(errors="replace").strip()[-500:]
            raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {said}")
        return Watched(peak / 1e9, took, output.read().decode())


def _memory(pid: int) -> int:
    """Return the bytes of a process and all below it: the PSS they would have alone.

    Anonymous pages shared by n count 1/n in each. Pages of files count whole, in each process:
    whoever watches has loaded the same libraries, and would halve them.
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in family:
        if not Path("/proc/self/smaps_rollup").exists():  # not Linux: what is shared counts twice
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss // 1024
            continue
        try:
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended since
        sizes = {name: int(value) for name, value in PAGES.findall(text)}
        total += sizes["Pss_Anon"] + sizes["Rss"] - sizes["Anonymous"] if sizes else 0
    return total * 1024


def _text(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float)
