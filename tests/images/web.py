"""A web server on this machine that counts what it is asked, is slow, and fails as servers do."""

from __future__ import annotations

import re
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

Fault = int | str
"""The number of an answer; or 'short', 'dead', 'stalled', 'whole', 'file' (a redirect there)."""


@dataclass
class Web:
    """What a server gives, how it fails, and what it was asked.

    `faults` is asked for each request: its path, and the how manieth of that path it is.
    """

    files: dict[str, bytes]
    url: str = ""
    latency: float = 0.0
    ranges: bool = True
    lists: bool = True
    fault: Callable[[str, int], Fault | None] = lambda path, n: None
    asked: Counter[str] = field(default_factory=Counter)
    n_bytes: int = 0
    n_now: int = 0
    most_at_once: int = 0
    headers: list[Mapping[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(files: Mapping[str, bytes], **options: object) -> Iterator[Web]:
    """Serve files by their paths within the block."""
    web = Web(dict(files), **options)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            with web.lock:
                web.n_now += 1
                web.most_at_once = max(web.most_at_once, web.n_now)
            try:
                _answer(web, self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True
            finally:
                with web.lock:
                    web.n_now -= 1

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *args: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        web.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(web: Web, handler: BaseHTTPRequestHandler) -> None:
    path = unquote(handler.path.partition("?")[0]).lstrip("/")
    with web.lock:
        web.asked[path] += 1
        n = web.asked[path]
        web.headers.append({**handler.headers, "path": handler.path})
    time.sleep(web.latency)
    fault = web.fault(path, n)
    if fault == "dead":
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return
    if fault == "stalled":
        web.over.wait(30)
        handler.close_connection = True
        return
    if isinstance(fault, int):
        _send(web, handler, fault, b"no")
        return
    if isinstance(fault, str) and fault.startswith("to "):
        handler.send_response(302)
        handler.send_header("Location", fault[3:])
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    data = web.files.get(path)
    if data is None and web.lists and (path == "" or path.endswith("/")):
        data = _page(web, path)
    if data is None:
        _send(web, handler, 404, b"no such file")
        return
    span = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
    if span is None or not web.ranges or fault == "whole":
        _send(web, handler, 200, data, short=fault == "short")
        return
    if int(span[1]) >= len(data):
        _send(web, handler, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
        return
    first, last = int(span[1]), min(int(span[2]), len(data) - 1)
    part = data[first : last + 1]
    says = f"bytes {first}-{last}/{len(data)}"
    _send(web, handler, 206, part, {"Content-Range": says}, short=fault == "short")


def _send(
    web: Web,
    handler: BaseHTTPRequestHandler,
    status: int,
    data: bytes,
    more: Mapping[str, str] | None = None,
    *,
    short: bool = False,
) -> None:
    path = unquote(handler.path.partition("?")[0]).lstrip("/")
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.send_header("ETag", f'"{zlib.crc32(web.files.get(path, b""))}"')
    handler.send_header("Last-Modified", "Sun, 29 Nov 2020 01:02:03 GMT")
    if data.startswith(b"<"):
        handler.send_header("Content-Type", "text/html")
    for name, value in (more or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    sent = data[: len(data) // 2] if short else data
    with web.lock:
        web.n_bytes += len(sent)
    handler.wfile.write(sent)
    if short:
        handler.close_connection = True


def _page(web: Web, folder: str) -> bytes | None:
    """Return the page of a folder, as servers make it."""
    inside = sorted({
        rest.partition("/")[0] + ("/" if "/" in rest else "")
        for rest in (path[len(folder) :] for path in web.files if path.startswith(folder))
    })  # fmt: skip
    if not inside:
        return None
    links = "".join(f'<li><a href="{quote(each)}">{each}</a></li>' for each in inside)
    return f'<html><a href="?C=N;O=D">Name</a> <a href="../">up</a>{links}</html>'.encode()
