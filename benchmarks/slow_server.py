"""A web server of this machine that waits before each answer, as one does that is far away."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Slow(SimpleHTTPRequestHandler):
    """Gives the files of a folder, whole or a range of them, and the pages of its folders."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    latency = 0.0

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer after a while."""
        time.sleep(self.latency)
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        if span is None or not file.is_file():
            super().do_GET()
            return
        first, size = int(span[1]), file.stat().st_size
        last = min(int(span[2]), size - 1)
        with file.open("rb") as opened:
            opened.seek(first)
            data = opened.read(last + 1 - first)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(folder: Path, latency: float) -> Iterator[str]:
    """Serve a folder within the block, from a process of its own; give its URL.

    Parameters
    ----------
    folder : Path
    latency : float
        Seconds before each answer.
    """
    command = [sys.executable, "-m", __name__, str(folder), str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def main(folder: str, latency: str) -> None:
    """Serve a folder until the process is ended."""
    Slow.latency = float(latency)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=folder))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
