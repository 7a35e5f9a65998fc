"""Flush denormal numbers to zero in every thread that computes: they cost ten times and more."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import torch

_DENORMAL_BITS = 1 << 16  # read as float32: 9e-41, below the smallest normal number 1.2e-38
_PROBE = 1 << 17  # elements: enough for torch to share the work among its intra-op threads


def flush_denormals() -> bool:
    """Flush denormals in this thread and in the intra-op threads that work for it.

    The flag belongs to a thread and is inherited by the threads it starts later. Intra-op threads
    that were started before are reached through the OpenMP runtime that owns them.

    Returns
    -------
    bool
        Whether every one of these threads flushes now; the result of any computation is as
        correct without, only slower.
    """
    torch.set_flush_denormal(True)
    if not denormals_flushed():
        _in_every_openmp_thread(lambda: torch.set_flush_denormal(True))
    return denormals_flushed()


def denormals_flushed() -> bool:
    """Say whether this thread and its intra-op threads flush denormals, by trying it.

    Returns
    -------
    bool
        True if no denormal survives a product anywhere. The bits are compared as integers: to a
        thread that flushes, a denormal that another thread has left equals zero.
    """
    probe = torch.full((_PROBE,), _DENORMAL_BITS, dtype=torch.int32).view(torch.float32)
    return not bool((probe * 0.5).view(torch.int32).any())


def _in_every_openmp_thread(action: object) -> None:
    """Call `action` once in each thread of this thread's OpenMP team, where that can be done."""
    runtime = _openmp_runtime()
    if runtime is None or not callable(action):
        return
    body = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: action())
    runtime.GOMP_parallel(body, None, ctypes.c_uint(torch.get_num_threads()), ctypes.c_uint(0))


def _openmp_runtime() -> ctypes.CDLL | None:
    """The OpenMP runtime torch has loaded, or None where it is not one with GNU's entry points."""
    bundled = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    for name in [*map(str, bundled), "libgomp.so.1"]:
        try:
            runtime = ctypes.CDLL(name, mode=getattr(os, "RTLD_NOLOAD", 0) | os.RTLD_LAZY)
        except OSError:  # not the one that is loaded
            continue
        if hasattr(runtime, "GOMP_parallel"):
            return runtime
    return None
