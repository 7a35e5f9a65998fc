"""Work shared among threads ends with the call that asked for it, however that ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from pipeline import nmf
from pipeline.system import threads


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_from_two_threads() -> None:
    found = threads.each_alone(lambda item: (item, threading.get_ident()), range(20))
    assert [item for item, _ in found] == list(range(20))
    assert threading.get_ident() not in {thread for _, thread in found}


def test_what_fails_stops_what_is_under_way() -> None:
    ended = threading.Event()

    def work(item: int) -> None:
        if item == 0:
            raise ValueError("no")
        try:
            while True:
                threads.check_stop()
                time.sleep(0.001)
        finally:
            ended.set()

    with pytest.raises(ValueError, match="no"):
        threads.each_alone(work, [1, 0])
    assert ended.wait(5)


def test_without_a_pool_nothing_is_stopped() -> None:
    threads.check_stop()


def test_an_interrupted_choice_stops_its_fits() -> None:
    """Ctrl-C in a notebook: the call ends, and no thread computes on."""
    V = torch.rand(6_000, 256)
    images = torch.arange(6_000) // 20
    told: list[float] = []
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer.start()
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            nmf.choose_k(V, images, (128,), progress=lambda _: told.append(time.monotonic()))
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - started < 5  # the choice takes a minute
    time.sleep(1.5)
    n_told = len(told)
    time.sleep(1.0)
    assert len(told) == n_told
