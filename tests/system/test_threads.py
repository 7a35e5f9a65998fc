"""Work shared among threads: in order, each on one thread, over when the call is."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import torch

from pipeline import nmf
from pipeline.system.threads import (
    all_threads,
    check_stop,
    each_alone,
    one_thread,
    side_by_side,
)

pytestmark = pytest.mark.usefixtures("two_threads")


def test_independent_fits_run_side_by_side_in_their_order() -> None:
    def work(item: int) -> tuple[int, int, str]:
        time.sleep(0.05)
        return item, torch.get_num_threads(), threading.current_thread().name

    found = each_alone(work, range(6))
    assert [(item, n) for item, n, _ in found] == [(item, 1) for item in range(6)]
    names = {name for *_, name in found}
    assert len(names) == 2
    assert threading.current_thread().name not in names
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


def test_what_fails_stops_what_is_under_way() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(item: int) -> None:
        if item == 0:
            assert begun.wait(5)
            raise ValueError("no")
        begun.set()
        end = time.monotonic() + 30
        try:
            while time.monotonic() < end:
                check_stop()
                time.sleep(0.001)
        finally:
            ended.set()

    with pytest.raises(ValueError, match="no"):
        each_alone(work, [1, 0])
    assert ended.wait(5)


def test_without_a_pool_nothing_is_stopped() -> None:
    check_stop()


def test_an_interrupted_choice_stops_its_fits() -> None:
    """Ctrl-C in a notebook: the call ends, and no thread computes on."""
    V = torch.rand(6_000, 256)
    images = torch.arange(6_000) // 20
    told: list[float] = []
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)

    def tell(_: object) -> None:
        told.append(time.monotonic())
        if len(told) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            nmf.choose_k(V, images, (128,), progress=tell)
    finally:
        signal.signal(signal.SIGINT, handler)
    ended = time.monotonic()
    assert ended - told[0] < 20  # the choice takes a minute
    time.sleep(1.5)
    n_told = len(told)
    time.sleep(1.5)
    assert len(told) == n_told
