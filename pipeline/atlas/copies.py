"""Do many small jobs side by side, in forked copies of this process.

Python lets one thread at a time run its code: two threads made an atlas hardly faster than one
(15 s for 19). Copies share whatever is loaded already and are there at once (10 s); new processes
would spend seconds importing their libraries first.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from pipeline.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 64  # jobs that are done before copies pay
AT_ONCE = 16  # neighbouring jobs that a copy does at a time
_PR_SET_PDEATHSIG = 1

_work: tuple[Callable[[Any], Any], Sequence[Any]] | None = None
"""What copies find here is what there was when they were made."""


def in_copies(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> list[Result]:
    """Do the work on every item, and give the results in their order.

    Parameters
    ----------
    work : callable
        Anything that can be called; it runs on one thread, and only what it returns (or raises)
        comes back. It may not use a graphics card, or a connection that is open.
    items : sequence
        Need not be picklable, nor `work`; results must be.
    workers : int
        How many copies. Where that is 1, the items are few, or this process cannot be copied safely
        (not Linux, or a graphics card is in use), everything is done in this process.

    Raises
    ------
    pipeline.errors.UserError
        A copy was killed, as the system does where memory is short.
    """
    global _work
    can_fork = sys.platform == "linux" and not torch.cuda.is_initialized()
    if workers < 2 or len(items) < FEW or not can_fork:
        return [work(item) for item in items]
    _work = work, items
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(workers, context, _begin, (os.getpid(),)) as pool:
            return list(pool.map(_do, range(len(items)), chunksize=AT_ONCE))
    except BrokenProcessPool as error:
        raise UserError(
            "a process that wrote the atlas was killed; where memory is short, free some, "
            "then give the same command again"
        ) from error
    finally:
        _work = None


def _begin(parent: int) -> None:
    """Make a copy one that ends with its original, leaves interrupts to it, and has one thread."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this was asked for
        os._exit(1)
    torch.set_num_threads(1)


def _do(index: int) -> Any:
    if _work is None:
        raise RuntimeError("a copy was made before there was work")
    work, items = _work
    return work(items[index])
