"""What a fit leaves behind while it runs, so that a killed one can go on to the same bits.

The only thing a fit draws is its start, from the seed, and the sample phase is over before the
first state is saved: W, the best W so far with its statistics, the partial sums of the pass, and
the number of the next block are all there is to remember.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from ..errors import UserError
from .data import shape
from .descent import Descent, State
from .stats import Stats


class Checkpoint(Protocol):
    """Where a fit keeps its state."""

    def load(self) -> State | None:
        """Give the arrays saved last, or None if there are none."""

    def due(self) -> bool:
        """Say whether it is time to save; asked after every block of a pass."""

    def save(self, state: State) -> None:
        """Keep named arrays: all of them, or none and those from before."""


@dataclass(frozen=True, eq=False)
class Cursor:
    """Where in a pass a fit is: the next block, the sums so far, and ‖V‖² once it is known."""

    block: int = 0
    sums: Sequence[Stats] | None = None
    v_sq: float | None = None


def pack(descent: Descent, cursor: Cursor) -> State:
    """Give the state of a fit within a pass as named arrays.

    Parameters
    ----------
    descent : Descent
        Waiting for the statistics of the pass.
    cursor : Cursor
        With sums.

    Returns
    -------
    dict of str to ndarray
        float64 each.
    """
    (sums,) = cursor.sums or [Stats.zeros(*descent.point.shape)]
    state = {f"fit_{name}": each for name, each in descent.state().items()}
    state |= {f"sum_{name}": each.numpy() for name, each in sums.arrays().items()}
    state["block"] = np.array([cursor.block], dtype=np.float64)
    state["v_sq"] = np.array([np.nan if cursor.v_sq is None else cursor.v_sq])
    return state


def unpack(state: State, descent: Descent) -> Cursor:
    """Bring a descent to a packed state.

    Parameters
    ----------
    state : dict of str to ndarray
        As `pack` gave it.
    descent : Descent
        Fresh, with the parameters of the one that was packed.

    Returns
    -------
    Cursor
        Where to go on.

    Raises
    ------
    UserError
        If the state belongs to a fit of another size.
    """
    if state["fit_W"].shape != tuple(descent.point.shape):
        saved = shape(torch.from_numpy(state["fit_W"]))
        raise UserError(
            f"the saved state of the fit is for channels × k = {saved}, not "
            f"{shape(descent.point)}; remove it to start anew"
        )
    descent.restore({name[4:]: each for name, each in state.items() if name.startswith("fit_")})
    sums = {name[4:]: torch.from_numpy(a) for name, a in state.items() if name.startswith("sum_")}
    v_sq = float(state["v_sq"][0])
    return Cursor(int(state["block"][0]), [Stats.of_arrays(sums)], None if np.isnan(v_sq) else v_sq)
