"""Asks a reader about damaged files, counts what came, and keeps what it must not have met."""

from __future__ import annotations

import collections
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import hypothesis
from hypothesis import strategies as st

Example = TypeVar("Example")

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / ".hypothesis" / "fuzz"
"""Where what was wrongly read is kept; as a regression it goes to ``tests/fuzz/regressions``."""

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
"""How long to search, all targets together; 0: the same few examples every time."""

MOST_MB = 3000
"""What one file may take while it is read: the largest image that is taken, in its dearest mode."""


class Reader:
    """A reading process that is started again where it died.

    Attributes
    ----------
    counts : Counter
        How many files ended in what.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, target: str, path: Path, *, strict: bool = True) -> dict[str, object]:
        """Have a file, or a run, read; an assertion says what must not be.

        With `strict` every exception that is no sentence is wrong; else they are counted.
        """
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([target, str(path)]) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            self._wrong(target, path, f"the reader died with {code}")
        said: dict[str, object] = json.loads(line)
        if "fault" in said and strict:
            self._wrong(target, path, f"{said['fault']}\n{said['trace']}")
        if int(str(said["mb"])) > MOST_MB:
            self._wrong(target, path, f"it took {said['mb']} MB")
        for outcome in ("value", "refused", "fault"):
            self.counts[outcome] += outcome in said
        if "fault" in said and MINUTES:
            print(said["fault"], str(said["trace"]).splitlines()[-4:-1], file=sys.stderr)
        return said

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "tests.fuzz.reader"],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if MINUTES else subprocess.DEVNULL,
                text=True,
            )
        return self._process

    def _wrong(self, target: str, path: Path, what: str) -> None:
        self.counts["wrong"] += 1
        if path.is_dir():
            raise AssertionError(f"{target}: {what}")
        data = path.read_bytes()
        kept = KEPT / f"{target}-{hashlib.sha256(data).hexdigest()[:8]}{path.suffix}"
        KEPT.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)
        raise AssertionError(f"{target}: {what}\nthe file is kept as {kept}")


def search(
    inner: Callable[[Example], None], examples: st.SearchStrategy[Example], n: int, part: float
) -> None:
    """Try `n` examples, the same each time; or, by hand, others until a share of the time is up."""
    end = time.monotonic() + 60 * MINUTES * part
    turn = 0
    while turn == 0 or time.monotonic() < end:
        tried = hypothesis.given(examples)(inner)
        hypothesis.seed(turn)(
            hypothesis.settings(
                max_examples=n,
                database=None,
                deadline=None,
                report_multiple_bugs=False,
                suppress_health_check=list(hypothesis.HealthCheck),
            )(tried)
        )()
        turn += 1


PLACES = st.integers(0, 1 << 20)
BYTES = st.one_of(
    st.sampled_from(
        [b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\0" * 8, b"\x7f" + b"\xff" * 7]
    ),
    st.binary(min_size=1, max_size=8),
)
EDITS = st.lists(
    st.tuples(st.sampled_from(["put", "put", "flip", "cut", "add", "end", "twice"]), PLACES, BYTES),
    min_size=1,
    max_size=6,
)
"""How a file is damaged: what is done, where, and with which bytes."""

Edits = list[tuple[str, int, bytes]]


def damage(data: bytes, edits: Edits) -> bytes:
    """Return the bytes with some put, flipped, cut out, added, doubled, or the end cut off."""
    found = bytearray(data)
    for what, where, value in edits:
        # Half of the places are in the first 256 bytes, where headers are.
        within = min(len(found), 256) if where & 1 else len(found)
        at = (where >> 1) % max(within, 1)
        if what == "put":
            found[at : at + len(value)] = value
        elif what == "flip" and found:
            found[at] ^= 1 << (value[0] % 8)
        elif what == "cut":
            del found[at : at + value[0]]
        elif what == "add":
            found[at:at] = value
        elif what == "twice":
            found[at:at] = found[at : at + value[0]]
        elif what == "end":
            del found[at:]
    return bytes(found)
