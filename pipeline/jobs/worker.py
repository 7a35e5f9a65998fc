"""What a worker of this machine's cluster does first: import the package, leave interrupts alone.

A terminal interrupts all processes of a job. Whoever started the workers ends them; each by itself
would only write tracebacks over what is said.
"""

from __future__ import annotations

import signal


def dask_setup(worker: object) -> None:
    """Be called by Dask in the worker's main thread, before its first task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
