"""Share work among threads by positions, each operation on one thread.

Threads inside operations meet after each of the thousands of small ones of a pass; where another
program keeps a core busy they wait for it every time (measured: fifty times as long). Positions do
not need each other before their sums are added. Nor do they mix well with threads inside
operations: after one of those, spans began 3 to 6 ms late.

Few positions are not shared: a thread that slept wakes late (a millisecond and more, measured on a
virtual machine, where the products of a step on 1,200 positions take three to five). There the two
large products have threads inside.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from .denormals import flush_denormals

Item = TypeVar("Item")
Result = TypeVar("Result")


class StoppedError(BaseException):
    """The work of this thread is not wanted any more: it was interrupted, or other work failed."""


class _Own(threading.local):
    """What a thread knows: how many threads its operations had before they were to run on one.

    Of a thread of the pool also, what tells it that its work is not wanted any more.
    """

    n_threads: int | None = None
    stop: threading.Event | None = None


_own = _Own()


@contextmanager
def one_thread() -> Iterator[int]:
    """Let every operation run on one thread; gives the number of threads there are for the work.

    Within another `one_thread` it changes nothing.
    """
    if _own.n_threads is not None:
        yield _own.n_threads
        return
    n_threads = _own.n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)
        _own.n_threads = None


@contextmanager
def all_threads() -> Iterator[None]:
    """Within `one_thread`, let large operations use all threads there are for the work."""
    n_threads = _own.n_threads
    if n_threads is None or n_threads == 1:
        yield
        return
    _own.n_threads = None
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(1)
        _own.n_threads = n_threads


def side_by_side(work: Callable[[slice], Result], V: Tensor, rows: int) -> list[Result]:
    """Do the work on spans of the rows of V, one per thread, and give the results in their order.

    Parameters
    ----------
    work : callable
        Given the rows it is for; spans begin at multiples of `rows`.
    V : Tensor
        (positions, …).
    rows : int
        Positions an operation runs over.

    Returns
    -------
    list
        One per span: as many as torch has threads, at most one per `rows`; one on an accelerator.
    """
    with one_thread() as n_threads:
        n_blocks = -(-len(V) // rows)
        n_spans = 1 if V.device.type != "cpu" else max(1, min(n_threads, n_blocks))
        edges = [n_blocks * i // n_spans * rows for i in range(n_spans)] + [len(V)]
        spans = [slice(a, b) for a, b in itertools.pairwise(edges)]
        if n_spans == 1:
            return [work(spans[0])]
        return _share(work, spans, n_threads)


def each_alone(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do the work on items, each on one thread, as many at once as torch has threads.

    Results are in the order of the items, and the same for any number of threads.
    """
    with one_thread() as n_threads:
        if min(n_threads, len(items)) < 2:
            return [work(item) for item in items]
        return _share(work, items, n_threads)


def check_stop() -> None:
    """Raise `StoppedError` where this thread's work is not wanted any more; for loops to call.

    Python cannot cancel a thread: one that computes on after an interrupt keeps the process alive
    and its core busy, for as long as its work takes.
    """
    if _own.stop is not None and _own.stop.is_set():
        raise StoppedError


def _share(work: Callable[[Item], Result], items: Sequence[Item], n_threads: int) -> list[Result]:
    """Do the work on the items in the pool; whatever ends it early ends all of it."""
    stop = threading.Event()

    def do(item: Item) -> Result:
        _own.stop = stop
        try:
            check_stop()
            return work(item)
        except BaseException:
            stop.set()  # whatever else is under way is not wanted any more
            raise
        finally:
            _own.stop = None

    futures = [_pool(n_threads).submit(do, item) for item in items]
    try:
        return [future.result() for future in futures]
    except StoppedError:
        # Another one failed and stopped this: that is what there is to tell.
        for future in futures:
            error = future.exception()
            if error is not None and not isinstance(error, StoppedError):
                raise error from None
        raise
    except BaseException:
        stop.set()
        for future in futures:
            future.cancel()
        raise


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, "nmf", initializer=_prepare)


def _prepare() -> None:
    torch.set_num_threads(1)
    _own.n_threads = 1
    flush_denormals()
