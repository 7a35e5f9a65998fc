"""An image file that decoders read from, up to what a picture and its metadata can need.

Pillow reads headers piece by piece in Python and keeps all comments and tags: gigabytes of them
take minutes, and several times their bytes, before anything is known of the picture.
"""

from __future__ import annotations

import io

MAX_METADATA = 32_000_000
"""Bytes read in pieces until the picture begins; the largest colour profile has 17 million."""

MAX_PIECES = 100_000
"""Pieces read until the picture begins."""

MAX_PIECES_OF_PICTURE = 5_000_000
"""Pieces read of the picture: Pillow reads run-length coding byte by byte, a million a second."""


class ReadTooMuch(Exception):
    """A decoder has read more than any good file needs; the text says of what."""


class Metered(io.BytesIO):
    """Contents of a file, which raise `ReadTooMuch` where reading them would not end in time."""

    def __init__(self, contents: bytes) -> None:
        super().__init__(contents)
        self._n_pieces, self._n_bytes = 0, 0
        self._most_pieces, self._most_bytes = MAX_PIECES, float(MAX_METADATA)

    def expect_picture(self) -> None:
        """Take what is read from now on for the picture, the header being known."""
        self._n_pieces = 0
        self._most_pieces, self._most_bytes = MAX_PIECES_OF_PICTURE, float("inf")

    def read(self, size: int | None = -1, /) -> bytes:
        """Read a piece, or the rest."""
        data = super().read(size)
        self._n_pieces += 1
        if size is not None and size > 0:
            self._n_bytes += len(data)
        if self._n_bytes > self._most_bytes:
            raise ReadTooMuch(f"more than {MAX_METADATA} bytes of metadata")
        if self._n_pieces > self._most_pieces:
            raise ReadTooMuch(f"more than {self._most_pieces} pieces of a file")
        return data
