"""Progress as bars with rate and time left, on a terminal or in a notebook; and lines that stay."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any, Never

from tqdm import tqdm

from ..escape import visible

LOG = logging.getLogger("concordance")
"""What the library has to say; command lines show it on stderr, other programs as they please."""

LOG.addHandler(logging.NullHandler())

BEAT = 1.0
"""Seconds between two looks at the time, where somebody sees the bar."""


class LineHandler(logging.Handler):
    """Writes records as plain lines to stderr, above whatever bar is there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, whatever names are in it."""
        tqdm.write(visible(record.getMessage()), file=sys.stderr)


@contextlib.contextmanager
def bar(
    title: str, total: float | None, unit: str, done: float = 0, *, leave: bool = True
) -> Iterator[tqdm[Never]]:
    """Show a bar; in a log file it is refreshed rarely, in a notebook it is a widget.

    Parameters
    ----------
    title : str
        What is going on.
    total : float, optional
        How many units there are; None where nobody knows.
    unit : str
        Their name.
    done : float
        How many were done before, by an interrupted run.
    leave : bool
        Whether the bar stays when all is done.
    """
    is_seen = _in_notebook() or sys.stderr.isatty()
    # With none, every update may be shown: a phase of few units says otherwise what it is doing.
    look: dict[str, Any] = {"miniters": 0, "mininterval": 0.2 if is_seen else 10.0}
    look["leave"] = leave
    title = f"{visible(title):<10}"
    if not _in_notebook():
        look |= {"file": sys.stderr, "dynamic_ncols": True}
    with (
        _bars()(total=total, desc=title, unit=f" {unit}", initial=done, **look) as shown,
        _beating(shown) if is_seen else contextlib.nullcontext(),
    ):
        yield shown


@contextlib.contextmanager
def _beating(shown: Any) -> Iterator[None]:
    """Let the time of a bar go on where a single unit takes long."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            shown.refresh()

    beats = threading.Thread(target=beat, daemon=True)
    beats.start()
    try:
        yield
    finally:
        ended.set()
        beats.join()


def say(line: str) -> None:
    """Say a line that stays, whatever names are in it."""
    LOG.info(visible(line))


def _in_notebook() -> bool:
    """Say whether this is a kernel of Jupyter that can show widgets."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    is_kernel = shell is not None and "IPKernelApp" in shell.config
    return is_kernel and importlib.util.find_spec("ipywidgets") is not None


def _bars() -> Any:
    if not _in_notebook():
        return tqdm
    from tqdm.notebook import tqdm as widgets

    return widgets
