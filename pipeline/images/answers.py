"""What others' errors say of a file that lies elsewhere, in the words of a disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError
from .limits import DecodeError
from .trouble import UNREADABLE
from .urls import scrubbed, without_secrets

MAY_PASS = frozenset((408, 425, 429))
"""Answers of 400 and more that say to ask again later; from 500 on all do."""

OF_URLS = frozenset(("ValueError", "NonHttpUrlClientError", "TooManyRedirects"))
"""Errors that come again with the same URL; those without a number, by their names."""


@contextmanager
def told(url: str) -> Iterator[None]:
    """Raise, for whatever others' code meets with a URL within the block, what a disk would say.

    Raises
    ------
    FileNotFoundError, PermissionError
        It is not there, or may not be read.
    DecodeError
        It is refused for good.
    OSError
        Anything else, which may pass.
    """
    try:
        yield
    except (DecodeError, UserError, MemoryError):
        raise
    except Exception as error:
        # Their texts hold whole URLs, which may have secrets: they are no cause to be shown.
        raise as_of_a_disk(error, without_secrets(url)) from None


def as_of_a_disk(error: Exception, url: str) -> Exception:
    """Return what to raise for an error of others' code, without its numbers and secrets."""
    status = _status(error)
    missing = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
    if isinstance(error, missing) or status in (404, 410):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url)
    if isinstance(error, PermissionError) or status in (401, 403):
        return PermissionError(errno.EACCES, os.strerror(errno.EACCES), url)
    if status is not None and 400 <= status < 500 and status not in MAY_PASS:
        return DecodeError(f"{UNREADABLE}: the server answers {status}")
    if any(kind.__name__ in OF_URLS for kind in type(error).__mro__):
        return DecodeError(
            f"{UNREADABLE}: its URL cannot be used, or leads nowhere: {_said(error)}"
        )
    # A number of its own could be one that says something else of a file.
    if isinstance(error, TimeoutError):
        return OSError(errno.ETIMEDOUT, "no answer in time", url)
    return OSError(errno.EIO, _said(error) if status is None else f"it answers {status}", url)


def _said(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return scrubbed(text or type(error).__name__).partition("\n")[0][:300]


def _status(error: Exception) -> int | None:
    """Return the number of an answer of HTTP that an error tells, however its library does."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # botocore's
        found = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        names = ("status", "status_code", "code")
        found = next(
            (
                value
                for of in (error, answer)
                for name in names
                if isinstance(value := getattr(of, name, None), int)
            ),
            None,
        )
    return found if isinstance(found, int) and 100 <= found < 600 else None
