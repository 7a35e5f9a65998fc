"""Work in new processes: in order, told of a death, and no process outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.errors import UserError
from pipeline.system.processes import in_processes
from tests.sources import ROOT


def whose(item: int) -> tuple[int, int]:
    return item * item, os.getpid()


def killed(at: int, item: int) -> int:
    if item == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def refused(item: int) -> int:
    raise UserError(f"picture {item} is damaged")


def wait_until_gone(process: int) -> None:
    end = time.monotonic() + 20
    while psutil.pid_exists(process) and psutil.Process(process).status() != "zombie":
        assert time.monotonic() < end
        time.sleep(0.1)


def test_results_come_in_the_order_of_the_items_from_other_processes() -> None:
    found = list(in_processes(whose, range(40), 2, chunk=3))
    assert [square for square, _ in found] == [item * item for item in range(40)]
    assert os.getpid() not in {process for _, process in found}


def test_one_process_is_this_one() -> None:
    assert {process for _, process in in_processes(whose, range(3), 1)} == {os.getpid()}


def test_what_goes_wrong_is_raised_and_a_death_is_told() -> None:
    with pytest.raises(UserError, match="picture 0 is damaged"):
        list(in_processes(refused, range(4), 2))
    with pytest.raises(UserError, match="a process that shared the work was killed"):
        list(in_processes(partial(killed, 5), range(40), 2, chunk=1))


def test_processes_end_with_whoever_stops_asking() -> None:
    work = in_processes(whose, range(400), 2, chunk=1)
    _, process = next(work)
    work.close()  # type: ignore[attr-defined]
    wait_until_gone(process)


ORPHANS = """
import os, sys, time
from pipeline.system.processes import in_processes
from tests.system.test_processes import whose
for _, process in in_processes(whose, range(100_000), 2, chunk=1):
    print(process, flush=True)
    time.sleep(0.2)
"""


def test_processes_end_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until_gone(child)


def test_a_script_without_a_guard_is_not_run_again(tmp_path: Path) -> None:
    """As users write them: the processes must not start from the script that asked for them."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from concordance.sample import write_sample\n"
        "print('once')\n"
        f"write_sample(Path({str(tmp_path / 'sample')!r}), n_images=32, size=64)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "once\n"
