"""Work shared among processes that start from nothing: safe beside threads, on every system.

New processes import what they need first, a second or more each; threads (`system.lanes`) are
there at once and suit all work whose libraries release Python's lock.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import loky

from ..errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_PACKAGE = Path(__file__).resolve().parents[1]

IMPORTABLE = _PACKAGE.name
"""The name under which a new process imports this package, with `python_path`."""

_LOOK_EVERY = 0.5  # seconds between two looks whether the parent lives


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], n_processes: int, *, chunk: int = 8
) -> Iterator[Result]:
    """Do the work on every item in other processes; yield the results in the items' order.

    Parameters
    ----------
    work : callable
        A function of a module, or a partial of one; it and the items travel as pickles.
    items : sequence
    n_processes : int
        How many share the work; with fewer than two it is done in this process.
    chunk : int
        Neighbouring items that travel together.

    Raises
    ------
    UserError
        A process was killed, as the system does where memory is short.
    """
    if n_processes < 2:
        yield from map(work, items)
        return
    pool = loky.ProcessPoolExecutor(n_processes, initializer=_importing())
    is_done = False
    try:
        work_on = _Prepared(work, os.getpid())
        yield from pool.map(work_on, items, chunksize=chunk)
        is_done = True
    except loky.process_executor.BrokenProcessPool as error:
        raise UserError(
            "a process that shared the work was killed; where memory is short, free some"
        ) from error
    finally:
        pool.shutdown(wait=is_done, kill_workers=not is_done)


def _importing() -> Callable[[], None]:
    """Return what lets a new process import this package, installed or not, whatever its folder.

    It travels as code, for a function of a module would need the package to be found already.
    """
    folder, name = str(_PACKAGE.parent), IMPORTABLE

    def prepare() -> None:
        import importlib
        import sys

        if folder not in sys.path:
            sys.path.append(folder)
        importlib.import_module(name)

    return prepare


class _Prepared(Generic[Item, Result]):
    """A piece of work whose process ends with its parent, and leaves interrupts to it."""

    _is_ready = False

    def __init__(self, work: Callable[[Item], Result], parent: int) -> None:
        self._work, self._parent = work, parent

    def __call__(self, item: Item) -> Result:
        if not _Prepared._is_ready:
            _Prepared._is_ready = True
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            threading.Thread(target=_follow, args=(self._parent,), daemon=True).start()
        return self._work(item)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY)
    os._exit(1)


def python_path() -> str:
    """Return the PYTHONPATH of processes that need this package: ours before what there is."""
    paths = (str(_PACKAGE.parent), os.environ.get("PYTHONPATH", ""))
    return os.pathsep.join(path for path in paths if path)
