"""Files of web servers: whole, in part, and what their pages link to, through fsspec's session.

A part is asked for by a range. Who answers it with the whole file would send an archive once for
each of its images, so that is refused before it comes.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any
from urllib.parse import unquote

from ..errors import UserError
from ..system.optional import imported
from .limits import DecodeError

AT_ONCE = 64
"""Connections that are open at once."""

REACHED, SILENCE, LONGEST = 10.0, 20.0, 300.0
"""Seconds until a server is there, between two pieces of its answer, and for all of it."""

IDLE = 5.0
"""Seconds a connection is kept for the next question."""

MOST_PAGES = 100_000
"""Pages of one folder that are looked into."""

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_NOTHING = re.compile(r"bytes \*/0")


def system() -> Any:
    """Return fsspec's file system of the web, with connections of its own."""
    fsspec = imported("fsspec", "remote")
    aiohttp = imported("aiohttp", "remote")

    async def connect(**options: Any) -> Any:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=AT_ONCE, keepalive_timeout=IDLE),
            timeout=aiohttp.ClientTimeout(total=LONGEST, sock_connect=REACHED, sock_read=SILENCE),
            headers={"Accept-Encoding": "identity"},
            trust_env=True,  # proxies, and the passwords of ~/.netrc
            **options,
        )
        made.asked_by = session
        return session

    made = fsspec.filesystem(
        "http", simple_links=False, skip_instance_cache=True, get_client=connect
    )
    return made


async def whole(system: Any, url: str, most: int) -> bytes:
    """Ask for a file of at most `most` bytes."""
    async with await _ask(system, url) as answer:
        _check(answer)
        return await _body(answer, most)


async def part(system: Any, url: str, offset: int, n: int, size: int) -> bytes:
    """Ask for `n` bytes from `offset` on of a file that has `size`."""
    async with await _ask(system, url, offset, n) as answer:
        _check(answer)
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status != 206 or found is None:
            raise UserError(_whole_only(url))
        if int(found[3]) != size:
            raise OSError(f"it had {size} bytes when it was listed, now it has {found[3]}")
        if int(found[1]) != offset:
            raise OSError(f"bytes from {found[1]} on came, those from {offset} on were asked for")
        return await _body(answer, n)


async def facts(system: Any, url: str) -> dict[str, Any]:
    """Ask for the first byte of a file, whose answer tells its size and last change."""
    async with await _ask(system, url, 0, 1) as answer:
        says = answer.headers.get("Content-Range", "")
        told = {name: answer.headers.get(name) for name in ("ETag", "Last-Modified")}
        if (answer.status == 416 and _NOTHING.fullmatch(says)) or answer.content_length == 0:
            _check(answer, 416)
            return {"size": 0, **told}
        _check(answer)
        found = _RANGE.fullmatch(says)
        if answer.status != 206 or found is None:
            raise UserError(_whole_only(url))
        return {"size": int(found[3]), **told}


def links(system: Any, folder: str) -> list[str]:
    """Return what a page links to within its folder, without what is only another order of it."""
    found = set()
    for link in system.ls(folder, detail=False):
        if "?" in link or "#" in link:
            continue
        host = re.match(r"https?://[^/]*", link, re.IGNORECASE)
        if host is None:
            continue
        plain = host[0] + posixpath.normpath(link[host.end() :] or "/")
        if link.endswith("/") and not plain.endswith("/"):
            plain += "/"
        if plain.startswith(folder) and plain != folder:
            found.add(plain)
    return sorted(found)


def crawl(system: Any, url: str) -> tuple[list[str], list[tuple[str, str]]]:
    """List the files that the pages below a folder link to, as `elsewhere.find` does."""
    root = url.rstrip("/") + "/"
    todo, seen = [root], {root}
    files: set[str] = set()
    closed = []
    while todo and len(seen) < MOST_PAGES:
        folder = todo.pop()
        try:
            found = links(system, folder)
        except Exception as error:
            if folder == root:
                raise
            closed.append((unquote(folder[len(root) :]), str(error)))
            continue
        for link in found:
            if not link.endswith("/"):
                files.add(unquote(link[len(root) :]))
            elif link not in seen:
                seen.add(link)
                todo.append(link)
    return sorted(files), closed


async def _ask(system: Any, url: str, offset: int = 0, n: int = 0) -> Any:
    yarl = imported("yarl", "remote")
    session = await system.set_session()
    headers = {"Range": f"bytes={offset}-{offset + n - 1}"} if n else {}
    return await session.get(yarl.URL(url), headers=headers)


def _check(answer: Any, *also: int) -> None:
    """Raise for an answer that is none."""
    if answer.status in also:
        return
    answer.raise_for_status()
    if answer.status not in (200, 206):
        raise OSError(f"it answers {answer.status}")


async def _body(answer: Any, most: int) -> bytes:
    """Read an answer, and no more than `most` bytes, whatever it says of itself."""
    length = answer.content_length
    if length is not None and length > most:
        raise DecodeError(f"too large: {length} bytes, at most {most}")
    if length is not None and "Content-Encoding" not in answer.headers:
        return bytes(await answer.read())
    data = bytearray()
    async for piece in answer.content.iter_any():
        data += piece
        if len(data) > most:
            raise DecodeError(f"too large: more than {most} bytes")
    return bytes(data)


def _whole_only(url: str) -> str:
    return (
        f"{url} is on a server that gives files whole only (it answers no range): an archive would"
        " be fetched once for each of its images; fetch it, or put it on another server"
    )
