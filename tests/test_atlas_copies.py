"""Small jobs in forked copies of a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pipeline.atlas.copies import FEW, in_copies
from pipeline.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")

ORPHANS = """
import os, sys, time
from pathlib import Path
from pipeline.atlas.copies import FEW, in_copies

def work(item):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(60)

in_copies(work, range(FEW), 2)
"""


def test_results_come_in_the_order_of_the_items_from_other_processes() -> None:
    found = in_copies(lambda item: (item * item, os.getpid()), range(100), 3)
    assert [square for square, _ in found] == [item * item for item in range(100)]
    assert os.getpid() not in {process for _, process in found}
    assert set(in_copies(lambda _: torch.get_num_threads(), range(FEW), 2)) == {1}


@pytest.mark.parametrize(("n", "workers"), [(FEW - 1, 2), (FEW, 1)])
def test_little_work_is_done_at_once(n: int, workers: int) -> None:
    assert set(in_copies(lambda _: os.getpid(), range(n), workers)) == {os.getpid()}


def test_what_goes_wrong_in_a_copy_is_raised() -> None:
    def work(item: int) -> int:
        if item == 70:
            raise UserError("picture 70 is damaged")
        return item

    with pytest.raises(UserError, match="picture 70 is damaged"):
        in_copies(work, range(100), 2)


def test_a_copy_that_is_killed_is_told_of() -> None:
    def work(item: int) -> int:
        if item == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(UserError, match="was killed; where memory is short"):
        in_copies(work, range(100), 2)


def test_copies_end_with_their_original(tmp_path: Path) -> None:
    """Else they would hold the run's lock after a killed job."""
    original = subprocess.Popen([sys.executable, "-c", ORPHANS, str(tmp_path)])
    try:
        copies = wait_for(lambda: [int(path.name) for path in tmp_path.iterdir()], 2)
    finally:
        original.kill()
        original.wait()
    wait_for(lambda: [each for each in copies if not runs(each)], 2)


def wait_for(find, n: int) -> list[int]:
    """Wait until as many are found, half a minute at most."""
    for _ in range(300):
        if len(found := find()) >= n:
            return found
        time.sleep(0.1)
    raise AssertionError(f"only {found} after half a minute")


def runs(process: int) -> bool:
    """Say whether a process runs; one that nobody waits for any more has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
