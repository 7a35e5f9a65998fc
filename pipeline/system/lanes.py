"""Lanes: one thread per core, each carrying whole batches through all their steps alone.

Splitting every operator among threads makes all of them wait at every step for the slowest, and
for whatever else the machine does. Lanes wait for nothing but their next batch; what a batch comes
to does not depend on how many lanes there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from .heap import keep_freed_memory

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Batches begun or waiting per lane: the lanes never stand idle while results are taken up."""


@contextmanager
def lanes(*, keep_memory: bool = False) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of as many threads as torch computes with, each of them a lane.

    In a lane torch computes on that thread alone. Work not begun when the block ends is dropped.

    Parameters
    ----------
    keep_memory : bool
        Use freed memory again rather than hand it back: for work that frees and needs the same
        large buffers over and over, such as a network run operator by operator.
    """
    n_lanes = torch.get_num_threads()
    if keep_memory:
        keep_freed_memory(True)
    pool = ThreadPoolExecutor(n_lanes, "lane", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_lanes)  # threads started later would take over the lanes' one
        if keep_memory:
            keep_freed_memory(False)


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Do `work` on the items in the lanes of `pool`; yield results in the order of the items.

    Items are taken up only a little ahead of the results, so that memory stays bounded.
    """
    ahead = AHEAD * torch.get_num_threads()
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) >= ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
