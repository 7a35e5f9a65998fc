"""From statistics to better concepts: what happens between two passes over the data.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ, W, H ≥ 0. The objective is ½ ‖V − H Wᵀ‖² plus penalties.

A step takes the statistics of H converged for W and descends in W for this H (HALS sweeps over HHt
and VHt): no step can raise the objective. All of it is small, and done on the CPU wherever the data
are. With momentum, steps start from an extrapolation of W, which is taken back where it does not
pay (Ang and Gillis, Neural Computation 31, 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..system.threads import one_thread
from .apart import kept_apart
from .hals import hals
from .initialise import unit_columns
from .solve import Encoder
from .stats import Stats, by_concept, relative_error

W_SWEEPS = 2  # HALS sweeps over W per step; with four, ends are no better
REVIVALS = 3  # rounds of reseeding dead concepts; k above the rank of the data has no remedy
DEAD = 1e-10  # share of the strongest concept's ‖w‖² Σh² below which a concept is dead

PHASES = ("part", "sample", "pass", "batch")
Record = tuple[str, int, float]
Progress = Callable[[str, int, float], None]
Revive = Callable[[Tensor, list[int]], Tensor]
State = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Penalty:
    """l1 ‖·‖₁ + ½ l2 ‖·‖² of W and of H, added to the objective ½ ‖V − H Wᵀ‖²."""

    l1_W: float = 0.0
    l2_W: float = 0.0
    l1_H: float = 0.0
    l2_H: float = 0.0

    def of_share(self, share: float) -> Penalty:
        """Give the penalty for a share of the positions: that of W shrinks with them."""
        return replace(self, l1_W=self.l1_W * share, l2_W=self.l2_W * share)

    @property
    def weighs_W(self) -> bool:
        """Whether the length of W's columns matters."""
        return self.l1_W > 0 or self.l2_W > 0 or self.l1_H > 0 or self.l2_H > 0

    def encoder(self, W: Tensor, tol: float, device: torch.device) -> Encoder:
        """Prepare to encode under the penalty of H, on a device."""
        return Encoder.of(W, tol=tol, l1=self.l1_H, l2=self.l2_H).to(device)

    def __call__(self, W: Tensor, stats: Stats) -> float:
        """Give the penalties' sum for W and the H behind the statistics."""
        if not self.weighs_W:
            return 0.0
        W = W.detach().cpu().double()
        return (
            self.l1_W * float(W.abs().sum())
            + self.l2_W / 2 * float(W.square().sum())
            + self.l1_H * float(stats.h_sum.sum())
            + self.l2_H / 2 * float(stats.h_sq.sum())
        )


@dataclass(frozen=True, eq=False)
class Fit:
    """Fitted concepts.

    Attributes
    ----------
    W : Tensor
        (channels, k) float32, on the CPU; unit columns (without penalties).
    stats : Stats
        Of all positions, with H converged for this W.
    error : float
        Relative error over all positions.
    history : list of (phase, step, error)
        Every step from the start that was chosen; phase is 'part' (of the sample), 'sample', 'pass'
        or 'batch'. Penalties are counted in.
    reseeded : int
        How often a dead concept was started anew from a badly explained position.
    """

    W: Tensor
    stats: Stats
    error: float
    history: list[Record]
    reseeded: int = 0

    @property
    def n_passes(self) -> int:
        """Passes over the data."""
        return sum(phase == "pass" for phase, _, _ in self.history)

    @property
    def dead(self) -> Tensor:
        """(k,) bool: which concepts stand nowhere, W having more than the data can fill."""
        return is_dead(self.W, self.stats)


def is_dead(W: Tensor, stats: Stats) -> Tensor:
    """(k,) bool: concepts whose part in H Wᵀ is nothing beside the strongest one's."""
    parts = stats.h_sq * W.detach().cpu().double().square().sum(dim=0)
    return parts <= DEAD * parts.max()


@dataclass(eq=False)
class Descent:
    """A fit in progress: give `tell` the statistics for `point` until it is `done`.

    Attributes
    ----------
    point : Tensor
        (channels, k), on the CPU: the concepts whose statistics are wanted next.
    tol : float
        Done once a step changes the error by less than this share of itself; without momentum,
        once the step ahead would, as far as it can be foreseen: with H as it is.
    max_steps : int
        Steps at most.
    phase : str
        Name of the steps in the history.
    momentum : float
        How far to extrapolate; 0: never.
    fixed : Tensor, optional
        (k,) bool: concepts that are left as they are.
    penalty : Penalty
        Part of the objective.
    apart : bool
        Whether concepts are kept apart: see `apart.kept_apart`.
    revive : callable, optional
        Gives W with some of its concepts, the dead ones, started anew; W itself if it cannot.
    progress : callable, optional
        Called with each record of the history.
    history : list of (phase, step, error)
        What went before; every step is added to it.
    reseeded : int
        Concepts started anew before; those of this descent are added.

    Further, `done` says whether it is, `told` is the point told of last, `best` are the best
    concepts so far, and `best_value` is what they reach.
    """

    point: Tensor
    tol: float
    max_steps: int
    phase: str
    momentum: float = 0.0
    fixed: Tensor | None = None
    penalty: Penalty = field(default_factory=Penalty)
    apart: bool = False
    revive: Revive | None = None
    progress: Progress | None = None
    history: list[Record] = field(default_factory=list)
    reseeded: int = 0

    def __post_init__(self) -> None:
        self.point = by_concept(self.point.detach().cpu())
        if not self.penalty.weighs_W:
            self.point = unit_columns(self.point)
        self._plain = self.best = self.point
        self._best_stats: Stats | None = None
        self.best_value = float("inf")
        self._step_length, self._gain = self.momentum, 0.0
        self._revivals = 0
        self._steps = 0
        self.done = False
        self.told = self.point

    def tell(self, stats: Stats) -> None:
        """Take the statistics of `point`; move `point`, or be done."""
        tell_all([self], [stats])

    def _takes(self, stats: Stats) -> bool:
        """Take the statistics of `point`, and say whether to descend from it."""
        self.told = self.point
        value = self._value(self.point, stats)
        self.history.append((self.phase, self._steps, value))
        if self.progress is not None:
            self.progress(*self.history[-1])
        self._steps += 1
        if value > self.best_value:
            # An extrapolation too far is taken back; without one it is the objective's rounding.
            self.done = self._steps >= self.max_steps or self.point is self._plain
            self.point, self._step_length = self._plain, self._step_length / 1.5
            return False
        self._gain, self.best_value = self.best_value - value, value
        self.best, self._best_stats = self.point, stats
        return not self._revived(stats)

    def _descends_to(self, W: Tensor, stats: Stats) -> None:
        """Move to W, or ahead of it, unless that is not worth while."""
        gain = self._gain
        if self.momentum == 0:
            gain = min(gain, self.best_value - self._value(W, stats))
        self.done = self._steps >= self.max_steps or gain <= self.tol * self.best_value
        if not self.done:
            if self.apart:
                W = kept_apart(unit_columns(W), self.point, stats.h_sq)
            self._move_to(W)

    def fit(self) -> Fit:
        """Give the best concepts so far; `tell` has been called at least once."""
        stats = self._best_stats
        if stats is None:
            raise RuntimeError("no statistics have been told yet")
        error = relative_error(self.best, stats)
        return Fit(self.best.contiguous(), stats, error, self.history, self.reseeded)

    def state(self) -> State:
        """Give what `restore` needs to go on to the same bits; only for descents without momentum
        and revival, which have nothing else to remember.
        """
        arrays = {"W": self.point, "best_W": self.best}
        if self._best_stats is not None:
            arrays |= {f"best_{name}": each for name, each in self._best_stats.arrays().items()}
        state = {name: each.double().contiguous().numpy() for name, each in arrays.items()}
        state["best_value"] = np.array([self.best_value])
        history = [(PHASES.index(phase), step, value) for phase, step, value in self.history]
        state["history"] = np.array(history, dtype=np.float64).reshape(-1, 3)
        state["counts"] = np.array([self._steps, self.reseeded], dtype=np.float64)
        return state

    def restore(self, state: State) -> None:
        """Go on from the state of another `Descent` with the same parameters."""
        arrays = {name: torch.from_numpy(each) for name, each in state.items()}
        self.point = self._plain = by_concept(arrays["W"].to(self.point))
        self.best = by_concept(arrays["best_W"].to(self.point))
        self.best_value = float(state["best_value"][0])
        if "best_HHt" in state:
            best = {name[5:]: each for name, each in arrays.items() if name.startswith("best_")}
            self._best_stats = Stats.of_arrays(best)
        self._steps, self.reseeded = (int(count) for count in state["counts"])
        rows = state["history"].tolist()
        self.history = [(PHASES[int(phase)], int(step), value) for phase, step, value in rows]

    def _value(self, W: Tensor, stats: Stats) -> float:
        """√(2 · objective) / ‖V‖ of W and the H behind the statistics: the relative error, where
        nothing is penalised.
        """
        error = relative_error(W, stats)
        extra = self.penalty(W, stats)
        return (error**2 + 2 * extra / stats.v_sq) ** 0.5 if stats.v_sq > 0 else 0.0

    def _revived(self, stats: Stats) -> bool:
        """Start dead concepts anew where that is asked for and possible."""
        dead = torch.nonzero(is_dead(self.point, stats)).flatten().tolist()
        if not dead or self.revive is None or self._revivals == REVIVALS:
            return False
        self._revivals += 1
        revived = self.revive(self.point, dead)
        if revived is self.point:
            return False
        self.reseeded += len(dead)
        self.point = self._plain = revived
        return True

    def _move_to(self, W: Tensor) -> None:
        """Set the next `point`: W, or ahead of it."""
        if not self.penalty.weighs_W:
            W = unit_columns(W)
        before, self._plain = self._plain, W
        self.point = W
        if self.momentum > 0:
            self._step_length = min(0.99, self._step_length * 1.05)
            ahead = (W + self._step_length * (W - before)).clamp_(min=0)
            self.point = ahead if self.penalty.weighs_W else unit_columns(ahead)


def tell_all(descents: Sequence[Descent], stats: Sequence[Stats]) -> None:
    """Tell several descents the statistics of their points; they descend in the same products."""
    with one_thread():
        on = [pair for pair in zip(descents, stats, strict=True) if pair[0]._takes(pair[1])]
        for width in sorted({descent.point.shape for descent, _ in on}):
            alike = [pair for pair in on if pair[0].point.shape == width]
            for (descent, each), W in zip(alike, _descended(alike), strict=True):
                descent._descends_to(W, each)


def _descended(pairs: Sequence[tuple[Descent, Stats]]) -> list[Tensor]:
    """Descend in W from each `point`, for the H behind its statistics; all have the same k."""
    G, B, Wt, free = [], [], [], []
    for descent, stats in pairs:
        eye = torch.eye(len(stats.HHt), dtype=stats.HHt.dtype)
        G.append(stats.HHt + descent.penalty.l2_W * eye)
        B.append(stats.VHt.T - descent.penalty.l1_W)
        Wt.append(descent.point.T)
        fixed = descent.fixed
        free.append(torch.ones(len(eye), dtype=torch.bool) if fixed is None else ~fixed.cpu())
    problem = torch.stack(G).float(), torch.stack(B).float()
    moved = hals(torch.stack(Wt), *problem, W_SWEEPS, torch.stack(free))
    return [Wt.T for Wt in moved]
