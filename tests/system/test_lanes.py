"""Lanes: results in order, one thread each, bounded lookahead, nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator

import pytest
import torch

from pipeline.system.lanes import AHEAD, in_order, lanes

pytestmark = pytest.mark.usefixtures("two_threads")


def test_results_come_in_order_however_long_each_takes() -> None:
    def work(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0.0)
        return item * item

    with lanes() as pool:
        assert list(in_order(pool, work, range(20))) == [item * item for item in range(20)]


def test_a_lane_computes_on_one_thread_and_the_caller_on_all_again() -> None:
    with lanes() as pool:
        names = {*in_order(pool, lambda _: threading.current_thread().name, range(50))}
        assert {*in_order(pool, lambda _: torch.get_num_threads(), range(50))} == {1}
    assert 1 <= len(names) <= 2
    assert torch.get_num_threads() == 2
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [2]


def test_items_are_taken_up_only_a_little_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    with lanes() as pool:
        results = in_order(pool, lambda item: item, items())
        assert isinstance(results, Generator)
        next(results)
        assert len(taken) <= 2 * AHEAD
        results.close()


def test_an_error_comes_out_and_what_was_not_begun_is_dropped() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        if item == 1:
            raise ValueError("no such item")
        return item

    with pytest.raises(ValueError, match="no such item"), lanes() as pool:
        list(in_order(pool, work, range(1000)))
    assert len(begun) < 20
