"""Reading ahead: images that lie elsewhere are fetched before they are asked for, many at once.

A lane decodes one image after the other; waiting for each would leave its core idle. What was
fetched waits in a buffer of bounded bytes until it is read. Nothing else changes: what failed
fails where it is read, and what is asked for too early is read at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from . import elsewhere
from .source import DatasetSource, ImageRecord, ReadsAhead

Item = TypeVar("Item")
Result = TypeVar("Result")
Fetch = Callable[[ImageRecord], bytes]

AT_ONCE = 32
"""Images that are fetched at once: with 20 ms to a server and 100 images a second, two would do;
with a bucket that takes half a second, all are needed."""

MOST_BYTES = 64_000_000
"""Bytes of images that wait, about: of a large one there may be one more."""

MOST_IMAGES = 512
"""Images that are fetched or wait, at most."""

TYPICAL = 250_000
"""Bytes that are expected of an image whose size is not known."""


def reading_ahead(
    source: DatasetSource, images: Iterable[ImageRecord]
) -> AbstractContextManager[None]:
    """Let a source that can read ahead do so within the block, of the images that come next."""
    return source.reading_ahead(images) if isinstance(source, ReadsAhead) else nullcontext()


class FetchesAhead:
    """What a source of images elsewhere inherits: `read` takes what `_fetch` fetched ahead."""

    _ahead: Ahead | None = None

    def _fetch(self, image: ImageRecord) -> bytes:
        """Fetch an image, as `DatasetSource.read` does."""
        raise NotImplementedError

    def _is_elsewhere(self, image: ImageRecord) -> bool:
        """Say whether an image is worth fetching ahead."""
        return True

    def read(self, image: ImageRecord) -> bytes:
        """Read an image; see `pipeline.images.source.DatasetSource`."""
        ahead = self._ahead
        fetched = None if ahead is None else ahead.take(image)
        return self._fetch(image) if fetched is None else fetched

    def reading_ahead(self, images: Iterable[ImageRecord]) -> AbstractContextManager[None]:
        """Fetch images before they are read, within the block; connections end with it."""
        return self._reading_ahead(images)

    @contextmanager
    def _reading_ahead(self, images: Iterable[ImageRecord]) -> Iterator[None]:
        if self._ahead is not None:  # another block does
            yield
            return
        ahead = self._ahead = Ahead(self._fetch, filter(self._is_elsewhere, images))
        try:
            yield
        finally:
            self._ahead = None
            ahead.close()
            elsewhere.hang_up()


class Ahead:
    """Images on their way, and those that wait to be read.

    Parameters
    ----------
    fetch : callable
        Gives the file of an image, in any thread.
    images : iterable of ImageRecord
        In the order in which they will be read, more or less.
    """

    def __init__(self, fetch: Fetch, images: Iterable[ImageRecord]) -> None:
        self._fetch, self._images = fetch, iter(images)
        self._calls = elsewhere.Calls()
        self._pool = ThreadPoolExecutor(AT_ONCE, "ahead", initializer=self._calls.join)
        self._lock = threading.Lock()
        self._coming: dict[int, Future[bytes]] = {}
        self._n_bytes: dict[int, int] = {}
        self._early: set[int] = set()
        self._is_over = False
        with self._lock:
            self._advance()

    def take(self, image: ImageRecord) -> bytes | None:
        """Give an image's file, waiting for it where it is on its way; None where it is not.

        Raises
        ------
        Exception
            Whatever fetching it raised.
        """
        with self._lock:
            future = self._coming.pop(image.image_id, None)
            if future is None and not self._is_over:
                self._early.add(image.image_id)
        if future is None:
            return None
        try:
            return None if future.cancel() else future.result()
        finally:
            with self._lock:
                del self._n_bytes[image.image_id]
                self._advance()

    def close(self) -> None:
        """Give up what is on its way, and end all threads."""
        with self._lock:
            self._is_over = True
        self._calls.give_up()
        self._pool.shutdown(cancel_futures=True)

    def _advance(self) -> None:
        """Fetch what comes next while there is room."""
        while (
            not self._is_over
            and len(self._n_bytes) < MOST_IMAGES
            and sum(self._n_bytes.values()) < MOST_BYTES
        ):
            image = next(self._images, None)
            if image is None:
                return
            if image.image_id in self._early:
                self._early.discard(image.image_id)
                continue
            self._n_bytes[image.image_id] = image.size or TYPICAL
            self._coming[image.image_id] = self._pool.submit(self._fetched, image)

    def _fetched(self, image: ImageRecord) -> bytes:
        data = self._fetch(image)
        with self._lock:
            if image.image_id in self._n_bytes:
                self._n_bytes[image.image_id] = len(data)
        return data


def at_once(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Do on many items what mostly waits for answers; yield the results in the items' order."""
    calls = elsewhere.Calls()
    pool = ThreadPoolExecutor(AT_ONCE, "elsewhere", initializer=calls.join)
    try:
        yield from pool.map(work, items)
    finally:
        calls.give_up()
        pool.shutdown(cancel_futures=True)
