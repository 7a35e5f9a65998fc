"""Work in a Dask cluster that the user has started, ``SCHEDULER=``: over TLS, or in the open.

Certificates are those of Dask's own configuration (``distributed.comm.tls``), so that one place
tells them to the scheduler, to the workers and to us.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from ..errors import UserError, option
from ..system.progress import say

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 10
"""Seconds to wait for a scheduler to answer."""

OPEN = "tcp://"


def check(address: str) -> None:
    """Make sure that there is a scheduler to talk to, before anything is computed.

    Parameters
    ----------
    address : str
        ``tcp://host:port`` or ``tls://host:port``.

    Raises
    ------
    UserError
        Dask is not installed, certificates are missing, or no scheduler answers there.
    """
    with _client(address) as client:
        if address.startswith(OPEN):
            say(
                f"warning    {option('scheduler', address)} asks nobody who they are: whoever"
                f" reaches that port can run code as you; tls:// with certificates prevents it"
            )
        if not client.scheduler_info(n_workers=-1)["workers"]:
            say(f"waiting    {option('scheduler', address)} has no workers yet")


def as_they_come(
    work: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Iterator[Result]:
    """Do the work on every item in the cluster; yield the results as they come.

    Parameters
    ----------
    work : callable
        A function of a module, or a partial of one.
    items : sequence
    address : str
        As for `check`.

    Raises
    ------
    UserError
        As `check`; or workers died over and over, cannot import this package, or the scheduler
        went away.
    """
    from distributed import KilledWorker, as_completed

    with _client(address) as client:
        try:
            for future in as_completed(client.map(work, items, pure=False)):
                yield future.result()
        except KilledWorker as error:
            raise UserError(
                f"workers of {option('scheduler', address)} died over and over ({error}): where"
                " memory is short, start fewer; then give the same command again: it goes on from"
                " here"
            ) from error
        except CancelledError as error:
            raise UserError(
                f"{option('scheduler', address)} does not answer any more: start it again, then"
                " give the same command again: it goes on from here"
            ) from error
        except ModuleNotFoundError as error:
            raise UserError(
                f"a worker of {option('scheduler', address)} cannot import {error.name}: install"
                " there what is installed here"
            ) from error


@contextlib.contextmanager
def _client(address: str) -> Iterator[Any]:
    """Connect to a scheduler while the block runs."""
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise UserError(
            f"{option('scheduler', address)} needs Dask: pip install 'concordance[cluster]'"
        ) from error
    where = option("scheduler", address)
    security: Any = Security()
    if not address.startswith(OPEN) and not (security.tls_ca_file and security.tls_client_cert):
        raise UserError(
            f"{where} needs certificates: name them in Dask's configuration, distributed.comm.tls,"
            " ca-file and client.cert (docs/CLUSTERS.md says how)"
        )
    with _one_sentence():
        try:
            client = Client(address, timeout=PATIENCE)
        except (OSError, ValueError, RuntimeError) as error:  # of sockets, certificates, settings
            raise UserError(f"no work with {where}: {_first(error)}") from error
        with client:
            yield client


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """Keep what Dask logs about a lost connection to itself: we raise what there is to say."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _first(error: BaseException) -> str:
    """Say in one line what an error began with: of its causes the last that says anything."""
    said = type(error).__name__
    cause: BaseException | None = error
    while cause is not None:
        said = str(cause).strip() or said
        cause = cause.__cause__
    return re.sub(r"^in <[^>]*>: ", "", said.splitlines()[0])
