"""The streams of a command as it finds them: closed, full, or lacking letters."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

from ..escape import nearest


def prepare() -> None:
    """Make the streams of this process such that no work is lost by them."""
    codecs.register_error("nearest", nearest)
    _open_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="nearest")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = _Patient(sys.stderr)


def finish() -> None:
    """Write what is left for stdout; where that fails, lead it nowhere.

    Python tries once more when it ends, and would fail with an exit code of its own.
    """
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _open_closed() -> None:
    """Open to nowhere what this process was started without, as from some schedulers.

    Otherwise the next file that is opened, a shard of a run say, becomes stdout or stderr, and what
    any library prints is written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            stream = os.fdopen(number, mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


class _Patient(io.TextIOWrapper):
    """Stderr, whose reader may have gone and whose disk may be full: no reason to end a job."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(
            stream.buffer, encoding=stream.encoding, errors="nearest", line_buffering=True
        )
        self._stream = stream  # which would close the buffer if it went

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()
