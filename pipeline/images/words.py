"""What decoders say of a file: kept with the image, where else it goes to stderr without a name.

libtiff prints what it meets through a handler, of which a process has one. Pillow warns of metadata
that it cannot read, on which no pixel depends, and logs what it then says in its exception.
"""

from __future__ import annotations

import ctypes
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from PIL import Image, _imaging

LENGTH, MOST = 200, 100
"""Characters kept of a line, and lines of a file: libtiff may have one for every row."""

_PILLOW = re.compile(r"PIL\.")
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_thread = threading.local()


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collect what libtiff says in this thread, and hush Pillow.

    Yields
    ------
    list of str
        The lines heard so far.
    """
    _hush_pillow()
    _listen_to_libtiff()
    heard: list[str] = []
    _thread.heard = heard
    try:
        yield heard
    finally:
        del _thread.heard


def _hush_pillow() -> None:
    _listen_to_log()
    # Not with `warnings.catch_warnings`: threads that decode would undo each other's filters.
    for kind in (UserWarning, Image.DecompressionBombWarning):
        if ("ignore", None, kind, _PILLOW, 0) not in warnings.filters:
            warnings.filterwarnings("ignore", category=kind, module=_PILLOW.pattern)


@cache
def _listen_to_log() -> None:
    # Where nobody has set up logging, Python prints what is logged; where somebody has, it stays.
    logging.getLogger("PIL").addHandler(logging.NullHandler())


@cache
def _listen_to_libtiff() -> Any:
    """Install a handler that passes on what is not said while listening; return it, to be kept."""
    library = ctypes.CDLL(_imaging.__file__)  # libtiff is found among what Pillow links
    if not hasattr(library, "TIFFSetErrorHandler"):
        return None  # linked in without its names: its words are printed then
    library.TIFFSetErrorHandler.restype = ctypes.c_void_p
    library.TIFFSetErrorHandler.argtypes = [ctypes.c_void_p]
    before: Any = None

    def hear(module: bytes | None, form: bytes, values: int) -> None:
        heard = getattr(_thread, "heard", None)
        if heard is None:
            if before:
                before(module, form, values)
        elif len(heard) < MOST:
            heard.append(_formatted(form, values))

    handler = _Handler(hear)
    found = library.TIFFSetErrorHandler(ctypes.cast(handler, ctypes.c_void_p))
    before = _Handler(found) if found else None
    return handler


def _formatted(form: bytes, values: int) -> str:
    """Fill in a format of C; its arguments are passed on as they came."""
    line = ctypes.create_string_buffer(LENGTH)
    ctypes.pythonapi.PyOS_vsnprintf(line, ctypes.c_size_t(LENGTH), form, ctypes.c_void_p(values))
    return line.value.decode("utf-8", "replace").rstrip(". ")
