"""A budget of bytes that threads take from, so that large pieces of work wait for each other."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class TooMuch(Exception):
    """More was asked for than the whole budget."""

    def __init__(self, n_bytes: float, total: float) -> None:
        super().__init__(f"{n_bytes} bytes of {total}")
        self.n_bytes, self.total = n_bytes, total


class Share:
    """What one thread holds of a budget."""

    def __init__(self, budget: Budget, n_bytes: float) -> None:
        self._budget, self.n_bytes = budget, n_bytes

    def grow(self, n_bytes: float) -> bool:
        """Come to hold so many bytes if they are free now; threads that waited here might do so
        for each other.
        """
        return self._budget._grow(self, n_bytes)


class Budget:
    """So many bytes for all threads of the process; without end at first."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._total, self._taken = math.inf, 0.0

    def limit(self, total: float) -> None:
        """Set the bytes of all; what is taken stays so."""
        with self._change:
            self._total = total
            self._change.notify_all()

    @contextmanager
    def hold(self, n_bytes: float) -> Iterator[Share]:
        """Wait until so many bytes are free, and hold them within the block.

        Raises
        ------
        TooMuch
            They never will be.
        """
        with self._change:
            self._change.wait_for(lambda: n_bytes > self._total or self._is_free(n_bytes))
            if n_bytes > self._total:
                raise TooMuch(n_bytes, self._total)
            self._taken += n_bytes
        share = Share(self, n_bytes)
        try:
            yield share
        finally:
            with self._change:
                self._taken -= share.n_bytes
                self._change.notify_all()

    def _grow(self, share: Share, n_bytes: float) -> bool:
        with self._change:
            more = max(0.0, n_bytes - share.n_bytes)
            if not self._is_free(more):
                return False
            self._taken += more
            share.n_bytes += more
            return True

    def _is_free(self, n_bytes: float) -> bool:
        return self._taken + n_bytes <= self._total
