"""Progress on a terminal: bars with rate and time left, and lines that stay."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from tqdm import tqdm


@contextmanager
def bar(title: str, total: int, unit: str, done: int = 0) -> Iterator[tqdm[Never]]:
    """Show a bar on stderr; in a log file it is refreshed rarely.

    Parameters
    ----------
    title : str
        What is going on.
    total : int
        How many units there are.
    unit : str
        Their name.
    done : int
        How many were done before, by an interrupted run.
    """
    interval = 0.2 if sys.stderr.isatty() else 10.0
    with tqdm(
        total=total,
        desc=f"{title:<10}",
        unit=f" {unit}",
        initial=done,
        mininterval=interval,
        file=sys.stderr,
        dynamic_ncols=True,
    ) as shown:
        yield shown


def say(line: str) -> None:
    """Print a line on stderr without breaking a bar."""
    tqdm.write(line, file=sys.stderr)
