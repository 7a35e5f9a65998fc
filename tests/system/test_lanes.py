"""Lanes: results in order, one thread each, bounded lookahead, nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator

import pytest
import torch

from pipeline.system.lanes import AHEAD, in_order, lanes
from pipeline.system.threads import all_threads, each_alone, one_thread, side_by_side


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


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


def test_independent_fits_run_side_by_side_in_their_order() -> None:
    def work(item: int) -> tuple[int, int, str]:
        time.sleep(0.05)
        return item, torch.get_num_threads(), threading.current_thread().name

    found = each_alone(work, range(6))
    assert [(item, n) for item, n, _ in found] == [(item, 1) for item in range(6)]
    assert len({name for *_, name in found}) == 2
    assert each_alone(lambda item: each_alone(work, [item])[0][0], range(2)) == [0, 1]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert {name for *_, name in each_alone(work, range(2))} == {threading.current_thread().name}


def test_one_thread_and_all_of_them_within_each_other() -> None:
    seen = []

    def see() -> None:
        seen.append(torch.get_num_threads())

    with one_thread() as n:
        see()
        with one_thread() as again, all_threads(), all_threads():
            see()
            with one_thread():
                see()
            see()
        see()
        assert (n, again) == (2, 2)
    see()
    assert seen == [1, 2, 1, 2, 1, 2]
    with all_threads():
        assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), one_thread(), all_threads():
        raise KeyError
    assert torch.get_num_threads() == 2


def test_work_shared_within_one_thread_still_takes_all_and_each_of_it_one() -> None:
    def work(span: slice) -> tuple[int, str]:
        time.sleep(0.05)
        with all_threads():  # a thread of several has no others to call upon
            return torch.get_num_threads(), threading.current_thread().name

    V = torch.zeros(8, 1)
    with one_thread():
        found = side_by_side(work, V, 4)
        alone = side_by_side(work, V, 8)
    assert [n for n, _ in found] == [1, 1]
    assert len({name for _, name in found}) == 2
    assert alone == [(2, threading.current_thread().name)]


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
