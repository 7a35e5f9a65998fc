"""Work shared among processes that start from nothing: safe beside threads, on every system.

New processes import what they need first, a second or more each; threads (`system.lanes`) are
there at once and suit all work whose libraries release Python's lock. Processes and their parent
talk through pipes, which no one else can open: there is no port that another user could reach.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TypeVar

import loky
from loky.backend.context import get_context
from loky.process_executor import BrokenProcessPool

from ..errors import UserError, option

Item = TypeVar("Item")
Result = TypeVar("Result")

_PACKAGE = Path(__file__).resolve().parents[1]

CHANCES = 4
"""So often in a row processes may be killed before any of them has done an item."""

_AS_IT_GROWS = {"LOKY_MAX_MEMORY_LEAK_SIZE": "1e18"}
"""A process that has loaded a network is larger than before, and does not leak."""


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
    try:
        with _pool(n_processes, {}) as pool:
            with _no_interrupts():
                results = pool.map(work, items, chunksize=chunk)
            yield from results
    except BrokenProcessPool as error:
        raise UserError(
            "a process that shared the work was killed; where memory is short, free some"
        ) from error


def as_they_come(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    n_processes: int,
    environment: Mapping[str, str],
) -> Iterator[Result]:
    """Do the work on every item in other processes; yield the results as they come.

    When a process is killed, all start anew, and what may have been too much for it comes last.

    Parameters
    ----------
    work : callable
        As for `in_processes`; it may be done on an item twice.
    items : sequence
    n_processes : int
        How many share the work, 1 or more; this process does none of it.
    environment : mapping
        Variables of the processes, beside those of this one.

    Raises
    ------
    UserError
        Processes were killed `CHANCES` times and no item was done meanwhile.
    """
    left, chances = list(items), CHANCES
    while left:
        with _pool(min(n_processes, len(left)), environment) as pool:
            futures = {}
            with contextlib.suppress(BrokenProcessPool), _no_interrupts():
                for item in left:
                    futures[pool.submit(work, item)] = item
            for future in as_completed(futures):
                if not isinstance(future.exception(), BrokenProcessPool):
                    left.remove(futures[future])
                    chances = CHANCES + 1  # this pool may break once more
                    yield future.result()
        chances -= 1
        if left and chances == 0:
            raise UserError(
                f"processes that shared the work were killed {CHANCES} times before one of them"
                f" had done anything: where memory is short, take fewer {option('workers')}; then"
                " give the same command again: it goes on from here"
            )
        left = left[n_processes:] + left[:n_processes]


@contextlib.contextmanager
def _pool(n_processes: int, environment: Mapping[str, str]) -> Iterator[loky.ProcessPoolExecutor]:
    """Give a pool whose processes are gone when the block ends; its work is dropped where it fails.

    They start by `exec`, from nothing, and do not run the script that asked for them again.
    """
    pool = loky.ProcessPoolExecutor(
        n_processes,
        context=get_context("loky"),
        initializer=_beginning(),
        env={**_AS_IT_GROWS, **environment},
    )
    is_done = False
    try:
        yield pool
        is_done = True
    finally:
        pool.shutdown(wait=is_done, kill_workers=not is_done)


@contextlib.contextmanager
def _no_interrupts() -> Iterator[None]:
    """Let processes that are started meanwhile leave interrupts to this one, from the first moment.

    A terminal interrupts all processes of a job; each by itself would only write its traceback over
    what is said. What is blocked here stays so in whoever is started; here it comes a bit later.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: they ignore interrupts once they work
        yield
        return
    resource_tracker.ensure_running()  # while it is started, it takes interrupts for itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _beginning() -> Callable[[], None]:
    """Return what a new process does first.

    It ends with its parent, however that ends; leaves interrupts to it; and can import this
    package, installed or not, whatever its folder. It travels as code, for a function of a module
    would need the package to be found already.
    """
    folder, name, parent = str(_PACKAGE.parent), _PACKAGE.name, os.getpid()

    def follow() -> None:
        import os
        import time

        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    def begin() -> None:
        import importlib
        import signal
        import sys
        import threading

        threading.Thread(target=follow, daemon=True).start()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if folder not in sys.path:
            sys.path.append(folder)
        importlib.import_module(name)

    return begin
