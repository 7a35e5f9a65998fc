"""A process that is told to end does, within two seconds, whatever its threads are doing.

The first SIGINT or SIGTERM becomes `KeyboardInterrupt` in the main thread, so that work ends in
order. But a thread of a pool cannot be cancelled and is joined when Python ends, a compiler does
not listen, and an operation of minutes returns when it is done. So a thread of its own waits for
the signal as well, and where the process is still there after a moment it ends it, with all the
processes it has started. Nothing is lost by that: files are written whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import psutil

GRACE = 1.2
"""Seconds an orderly ending may take."""

INTERRUPTED = "interrupted; the run can be resumed: give the same command again"

CODE = 130
"""Exit code of a process that was interrupted."""

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextlib.contextmanager
def prompt() -> Iterator[None]:
    """Within the block, let signals that ask the process to end be obeyed in time.

    Signals that the process was started to ignore stay ignored, as of ``nohup``.
    """
    listened = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    before = {each: signal.signal(each, _interrupt) for each in listened}
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    old = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(ours, set(listened)), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(old)
        for each, handler in before.items():
            signal.signal(each, handler)
        theirs.close()  # the watch ends with it


def end(code: int) -> NoReturn:
    """End the process: in order where the work was done, at once where it was interrupted.

    An interrupted process does not wait for threads at work, nor takes down what they use.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if code == CODE:
        _end_children()
        os._exit(code)
    sys.exit(code)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _watch(told: socket.socket, listened: set[int]) -> None:
    """Wait for a signal, then for an orderly ending; make an end where there is none."""
    with told:
        while (numbers := told.recv(64)) and not listened & set(numbers):
            pass
        if not numbers:
            return  # the block ended
        time.sleep(GRACE)
        with contextlib.suppress(OSError):
            os.write(2, f"\n{INTERRUPTED}\n".encode())
        _end_children()
        os._exit(CODE)


def _end_children() -> None:
    """End every process that this one has started, and those started by them."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
