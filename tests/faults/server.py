"""Forks jobs: torch is imported once, and every job starts from there in a fraction of a second.

Reads requests from stdin, a line of JSON each; carries out one after the other; answers each with
a line on stdout: how the job ended, as `os.waitpid` has it, its seconds and most bytes of memory.

    options      of discover, by name
    environment  set for the job, as FAULT_AT
    log          file that gets what the job prints
    kill_after   seconds until the job is killed; null: never
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch  # noqa: F401

from tests.calling import call

LATE = ("matplotlib.backends.backend_pdf", "duckdb", "pyarrow.dataset", "PIL.JpegImagePlugin")
"""Modules that jobs import on their way."""


OWN = Path("/proc/self/comm").read_text().strip()
"""Name of this process's only thread; that of an allocator, which forks well, may stand beside."""


def serve() -> None:
    """Carry out requests until stdin ends."""
    for name in LATE:
        importlib.import_module(name)
    assert set(threads()) <= {OWN, "jemalloc_bg_thd"}, "what is forked must not leave threads out"
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            execute(request)
        status, usage = wait(child, request["kill_after"])
        answer = {"status": status, "seconds": time.monotonic() - start}
        answer["memory"] = usage.ru_maxrss * 1024
        print(json.dumps(answer), flush=True)


def threads() -> list[str]:
    """Return the names of this process's threads."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


def wait(child: int, kill_after: float | None) -> tuple[int, resource.struct_rusage]:
    """Wait for a child, killing it after a while."""
    timer = threading.Timer(kill_after or 0, os.kill, (child, signal.SIGKILL))
    if kill_after is not None:
        timer.start()
    # The child stays a zombie until it is waited for, so the timer never hits another process.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    timer.cancel()
    if kill_after is not None:
        timer.join()
    return os.wait4(child, 0)[1:]


def execute(request: dict[str, Any]) -> None:
    """Be the job."""
    # Whoever runs the tests in the background has interrupts ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 1
    try:
        os.environ.update(request["environment"])
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        code = call("discover", request["options"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
