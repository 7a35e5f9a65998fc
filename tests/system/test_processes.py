"""Work in new processes: told of a death, closed to others, and none outlives its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.errors import UserError
from pipeline.system.processes import CHANCES, as_they_come, in_processes
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
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end
            time.sleep(0.02)


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
import sys, time
from pipeline.system.processes import as_they_come, in_processes
print("begun", flush=True)
work = in_processes(time.sleep, [0.1] * 10_000, 2, chunk=1)
if sys.argv[1] == "as_they_come":
    work = as_they_come(time.sleep, [0.1] * 10_000, 2, {})
for _ in work:
    print("at work", flush=True)
"""


@pytest.mark.parametrize("how", ["in_processes", "as_they_come"])
@pytest.mark.parametrize("moment", ["beginning", "at work"])
def test_processes_end_with_a_parent_that_is_killed(how: str, moment: str) -> None:
    """All of them, those of loky's own trackers too, whether they work yet or still import."""
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, how], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "begun\n"
    if moment == "at work":
        assert parent.stdout.readline() == "at work\n"
    while len(children := psutil.Process(parent.pid).children(recursive=True)) < 3:
        time.sleep(0.01)  # a tracker and two that work
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for child in children:
        wait_until_gone(child.pid)


def once(mark: Path, item: int) -> int:
    """Be killed at item 3, the first time."""
    if item == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


@pytest.mark.slow
def test_what_a_killed_process_had_to_do_is_done_again(tmp_path: Path) -> None:
    found = list(as_they_come(partial(once, tmp_path / "mark"), range(8), 2, {}))
    assert (tmp_path / "mark").exists()
    assert sorted(found) == [item * item for item in range(8)]


def marked(folder: Path, at: int, item: int) -> int:
    """Be killed at an item, every time, and leave a mark each time."""
    if item == at:
        (folder / str(os.getpid())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.slow
def test_processes_killed_over_and_over_are_told_when_all_else_is_done(tmp_path: Path) -> None:
    found = []
    with pytest.raises(UserError, match=f"were killed {CHANCES} times before"):
        for item in as_they_come(partial(marked, tmp_path, 1), range(6), 1, {}):
            found.append(item)  # noqa: PERF402
    assert sorted(found) == [0, 2, 3, 4, 5]
    n_killed = len(list(tmp_path.iterdir()))
    assert CHANCES <= n_killed <= CHANCES + 4  # some before the others were done


def test_processes_killed_while_they_start_are_started_again() -> None:
    """As the system does where memory is short: whichever appears, for a while, is killed."""
    me, n_killed, stop = psutil.Process(), 0, threading.Event()

    def hunt() -> None:
        nonlocal n_killed
        while n_killed < 2 and not stop.is_set():
            for child in me.children():
                with contextlib.suppress(psutil.Error):
                    if n_killed < 2 and "popen_loky_posix" in " ".join(child.cmdline()):
                        child.kill()
                        n_killed += 1
                        time.sleep(0.1)

    hunter = threading.Thread(target=hunt)
    hunter.start()
    try:
        assert sorted(as_they_come(abs, range(4), 2, {})) == [0, 1, 2, 3]
    finally:
        stop.set()
        hunter.join()
    assert n_killed == 2


INTERRUPTED = """
import os, signal, threading, time
from functools import partial
from pipeline.system.processes import as_they_come
blocked = partial(signal.pthread_sigmask, signal.SIG_BLOCK)
assert list(as_they_come(blocked, [[], []], 2, {})) == [{signal.SIGINT}] * 2
assert blocked([]) == set()
signal.signal(signal.SIGINT, lambda *_: None)

def interrupt():
    while True:
        os.killpg(0, signal.SIGINT)
        time.sleep(0.01)

os.setpgrp()
threading.Thread(target=interrupt, daemon=True).start()
print(sorted(as_they_come(abs, [-1, 2, -3, 4], 2, {})))
"""


def test_interrupts_are_the_parents_from_the_first_moment() -> None:
    """As a terminal sends them to all: while processes start, they would only write tracebacks."""
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == "[1, 2, 3, 4]\n"


def listening(item: float) -> tuple[int, bool]:
    """Wait, and give this process and whether it came about by `exec`, not as a copy."""
    time.sleep(item)
    return os.getpid(), "popen_loky" in " ".join(psutil.Process().cmdline())


@pytest.mark.slow
def test_processes_listen_to_nobody_and_start_from_nothing() -> None:
    """No port, no named socket: nobody but their parent can tell them what to run."""
    seen = 0
    for process, is_new in as_they_come(listening, [0.5] * 4, 2, {}):
        assert is_new
        family = [psutil.Process(), *psutil.Process().children(recursive=True)]
        assert process in {each.pid for each in family}
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                found = each.net_connections("all")
                seen += 1
                assert [one for one in found if one.status == psutil.CONN_LISTEN] == []
                assert [one for one in found if one.family == socket.AF_UNIX and one.laddr] == []
    assert seen >= 12


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
