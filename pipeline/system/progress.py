"""Progress as bars with rate and time left, on a terminal or in a notebook; and lines that stay."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Never

from tqdm import tqdm

LOG = logging.getLogger("concordance")
"""What the library has to say; command lines show it on stderr, other programs as they please."""

LOG.addHandler(logging.NullHandler())


class LineHandler(logging.Handler):
    """Writes records as plain lines to stderr, above whatever bar is there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        tqdm.write(record.getMessage(), file=sys.stderr)


@contextmanager
def bar(title: str, total: float, unit: str, done: float = 0) -> Iterator[tqdm[Never]]:
    """Show a bar; in a log file it is refreshed rarely, in a notebook it is a widget.

    Parameters
    ----------
    title : str
        What is going on.
    total : float
        How many units there are.
    unit : str
        Their name.
    done : float
        How many were done before, by an interrupted run.
    """
    look: dict[str, Any] = {}
    if not _in_notebook():
        look = {"file": sys.stderr, "dynamic_ncols": True}
        look["mininterval"] = 0.2 if sys.stderr.isatty() else 10.0
    kind = _bars()
    with kind(total=total, desc=f"{title:<10}", unit=f" {unit}", initial=done, **look) as shown:
        yield shown


def say(line: str) -> None:
    """Say a line that stays."""
    LOG.info(line)


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
