"""Files that lie elsewhere, read whole or in part through fsspec; what fails is told as of a disk.

Whoever waits for an answer can be told that it is not wanted any more (`Calls`), and none is waited
for without end. A server of the web is asked by `web`, all others by what fsspec knows of them.
"""

from __future__ import annotations

import asyncio
import errno
import fnmatch
import hashlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from ..errors import UserError, option
from ..system.optional import imported
from . import web
from .answers import told
from .contents import refusal
from .limits import MAX_BYTES, DecodeError
from .patterns import split_url
from .trouble import patiently
from .urls import OF_HTTP, protocol_of

Result = TypeVar("Result")

TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "updated", "created")
TAGS = ("ETag", "etag", "blob_id", "md5Hash", "Content-MD5")
"""What sources call a file's last change, and where they know none, what tells its contents."""


@dataclass(frozen=True)
class Facts:
    """A file's size in bytes and last change (nanoseconds since 1970), named as `os.stat` does.

    Where there is no time the second is a number that changes with the contents; 0: not known.
    What else tells its contents, where that is known, is its tag.
    """

    st_size: int
    st_mtime_ns: int
    tag: str = ""


class Calls:
    """Questions that some threads wait for, so that they can be given up."""

    def __init__(self) -> None:
        self._waited: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._is_over = False

    def join(self) -> None:
        """Count what this thread asks from now on among these."""
        _own.calls = self

    def give_up(self) -> None:
        """Let all threads that wait go on at once, with an error, and those that ask later."""
        with self._lock:
            self._is_over = True
            waited = list(self._waited)
        for future in waited:
            future.cancel()

    @contextmanager
    def waiting(self, future: Future[Any]) -> Iterator[None]:
        """Hold that a thread waits for an answer, within the block."""
        with self._lock:
            self._waited.add(future)
            if self._is_over:
                future.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._waited.discard(future)


class _Own(threading.local):
    """Among which calls a thread's questions count."""

    calls: Calls | None = None


_own = _Own()
_systems: dict[tuple[int, str, str], Any] = {}
_lock = threading.Lock()


def read(url: str, most: int = MAX_BYTES) -> bytes:
    """Read a file whole.

    Raises
    ------
    DecodeError
        It is empty, larger than `most` bytes, or refused for good.
    FileNotFoundError, PermissionError
        It is not there, or may not be read.
    OSError
        Anything else, which may pass: silence, a lost connection, an answer cut short.
    """
    with told(url):
        system = _system(url)
        if protocol_of(url) in OF_HTTP:
            data = _wait(system, web.whole(system, url, most))
        else:
            data = _part(system, url, 0, most + 1)
    if len(data) > most:
        raise DecodeError(f"too large: more than {most} bytes")
    if not data:
        raise DecodeError("empty file")
    return data


def read_part(url: str, offset: int, n: int, size: int) -> bytes:
    """Read `n` bytes of a file of `size` bytes from `offset` on, fewer only at its end.

    Raises
    ------
    UserError
        The server gives files whole only.
    DecodeError, FileNotFoundError, PermissionError, OSError
        As of `read`.
    """
    n = min(n, size - offset)
    if n <= 0:
        return b""
    with told(url):
        system = _system(url)
        if protocol_of(url) in OF_HTTP:
            data = _wait(system, web.part(system, url, offset, n, size))
        else:
            data = _part(system, url, offset, n)
        if len(data) != n:
            raise OSError(errno.EIO, f"{len(data)} bytes came of {n}")
    return data


def look_up(url: str) -> Facts:
    """Ask for a file's size and last change.

    Raises
    ------
    UserError
        The server gives files whole only.
    DecodeError, FileNotFoundError, PermissionError, OSError
        As of `read`.
    """
    with told(url):
        system = _system(url)
        if protocol_of(url) in OF_HTTP:
            return facts_of(_wait(system, web.facts(system, url)))
        path = system._strip_protocol(url)
        found = _wait(system, system._info(path)) if system.async_impl else system.info(path)
        if found["type"] != "file":
            raise IsADirectoryError
        return facts_of(found)


def find(url: str) -> tuple[list[tuple[str, Facts]], list[tuple[str, str]]]:
    """List the files below a folder, in depth.

    Returns
    -------
    files : list of (str, Facts)
        Their paths below it.
    closed : list of (str, str)
        Folders that could not be looked into, and why.

    Raises
    ------
    DecodeError, FileNotFoundError, PermissionError, OSError
        As of `read`.
    """
    with told(url):
        system = _system(url)
        if protocol_of(url) in OF_HTTP:
            paths, closed = web.crawl(system, url)
            return [(path, Facts(0, 0)) for path in paths], closed
        system.invalidate_cache()
        root = system._strip_protocol(url).rstrip("/") + "/"
        found = system.find(root, detail=True)
        return [
            (name[len(root) :], facts_of(info))
            for name, info in found.items()
            if name.startswith(root) and not name.endswith("/") and info["type"] == "file"
        ], []


def glob(url: str) -> list[str]:
    """Return the files that a URL with wildcards stands for, in order.

    Raises
    ------
    UserError
        Wildcards stand for folders of a web server.
    DecodeError, FileNotFoundError, PermissionError, OSError
        As of `read`.
    """
    with told(url):
        system = _system(url)
        if protocol_of(url) not in OF_HTTP:
            system.invalidate_cache()
            folder, _ = split_url(url)
            root = len(system._strip_protocol(folder))
            found = system.glob(system._strip_protocol(url), detail=True)
            return sorted(
                folder + name[root:] for name, info in found.items() if info["type"] == "file"
            )
        folder, _, name = url.rpartition("/")
        if any(each in folder for each in "*["):
            raise UserError(
                f"{option('dataset', url)} is not possible: a web server does not list its folders;"
                " wildcards stand for names of files there, or for numbers in braces"
            )
        pages = web.links(system, folder + "/")
        return sorted(each for each in pages if fnmatch.fnmatchcase(each, f"{folder}/{name}"))


def ask_for(dataset: str, ask: Callable[[], Result], advice: str = "") -> Result:
    """Ask for what a dataset's listing needs; where it is not to be had, say so with an advice.

    Raises
    ------
    UserError
        It is not to be had, or the trouble does not pass.
    """
    try:
        return patiently(dataset, ask)
    except (DecodeError, OSError) as error:
        said = refusal(error) if isinstance(error, OSError) else error
        raise UserError(f"{option('dataset', dataset)} cannot be read: {said}{advice}") from error


def hang_up() -> None:
    """Close the connections to servers of the web; they are opened again when needed."""
    with _lock:
        systems = [_systems.pop(key) for key in list(_systems) if key[1] == "web"]
    for system in systems:
        if system.loop.is_running() and (session := system.__dict__.pop("asked_by", None)):
            _wait(system, session.close())


def facts_of(info: dict[str, Any]) -> Facts:
    """Read a file's size and last change from what a source says of it."""
    time = next((info[name] for name in TIMES if info.get(name)), None)
    tag = next((info[name] for name in TAGS if info.get(name)), None)
    modified = _nanoseconds(time)
    if not modified and tag is not None:
        modified = int.from_bytes(hashlib.sha256(str(tag).encode()).digest()[:7], "big")
    return Facts(int(info.get("size") or 0), modified, str(tag or ""))


def _nanoseconds(time: Any) -> int:
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            try:
                time = parsedate_to_datetime(time)
            except ValueError:
                return 0
    if isinstance(time, datetime):
        time = (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    return int(time * 1_000_000) * 1000 if isinstance(time, int | float) else 0


def _part(system: Any, url: str, offset: int, n: int) -> bytes:
    path = system._strip_protocol(url)
    if system.async_impl:
        data = _wait(system, system._cat_file(path, start=offset, end=offset + n))
    else:
        data = system.cat_file(path, start=offset, end=offset + n)
    return bytes(data)


def _system(url: str) -> Any:
    """Return what speaks a URL's protocol: one for all threads, for each has its connections."""
    fsspec = imported("fsspec", "remote")
    protocol = protocol_of(url)
    make: Callable[[], Any]
    if protocol in OF_HTTP:
        key, make = (os.getpid(), "web", ""), web.system
    else:
        kind = fsspec.get_filesystem_class(protocol)
        options = kind._get_kwargs_from_urls(url)
        key = (os.getpid(), protocol, repr(sorted(options.items())))
        make = lambda: kind(**options)
    with _lock:
        if key not in _systems:
            _systems[key] = make()
        return _systems[key]


def _wait(system: Any, asked: Coroutine[Any, Any, Result]) -> Result:
    """Wait for an answer, in the thread that fsspec has for them; never without end."""
    future = asyncio.run_coroutine_threadsafe(asked, system.loop)
    try:
        with (_own.calls or Calls()).waiting(future):
            return future.result(web.LONGEST + web.SILENCE)
    except CancelledError as error:
        raise OSError(errno.ECANCELED, "it was given up") from error
    except BaseException:
        future.cancel()
        raise
