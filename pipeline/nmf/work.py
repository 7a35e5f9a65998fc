"""How far the choice of k is, told by fits in several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True)
class Work:
    """How far the choice is.

    Attributes
    ----------
    done, total : float
        Of fits, weighed by their numbers of concepts and positions; `total` grows by what chance is
        asked for once the candidates near the best are known.
    now : str
        What a thread is doing.
    """

    done: float
    total: float
    now: str


class Tally:
    """Adds up what fits in several threads tell of themselves.

    For each candidate there are `n_replicates` on all of the sample, and those of the halves of
    `n_halved` splits.
    """

    def __init__(
        self,
        ks: Sequence[int],
        n_replicates: int,
        n_halved: int,
        progress: Callable[[Work], None] | None,
    ) -> None:
        self._lock, self._progress = Lock(), progress
        self._n_controls = min(1, n_halved)
        self._n_each = n_replicates + n_halved
        self._done, self._total = 0.0, float(sum(ks) * self._n_each)
        self._now = ""

    def tell(self, now: str) -> None:
        """Say what a thread is doing."""
        with self._lock:
            self._now = now
            if self._progress is not None:
                self._progress(Work(self._done, self._total, now))

    def finish(self, weight: float) -> None:
        """Count a fit as done."""
        with self._lock:
            self._done += weight
            if self._progress is not None:
                self._progress(Work(self._done, self._total, self._now))

    def leave_out(self, ks: Sequence[int]) -> None:
        """Count candidates no more that are not fitted to the end."""
        with self._lock:
            self._total = max(self._done, self._total - sum(ks) * self._n_each)

    def add_pair(self, k: int) -> None:
        """Count the fits of the two halves of one split more."""
        self._total += float(k)

    def add_control(self, ks: Sequence[int]) -> None:
        """Count what is fitted to shuffled data, too."""
        self._total += float(sum(ks) * self._n_controls)
