"""How many concepts a position has at most, as a run's options say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from .. import nmf
from ..errors import UserError, option


def active_of(active: int | Literal["auto", "none"], ks: Sequence[int]) -> int | None:
    """Return how many concepts a position has at most; None: as many as explain most.

    Parameters
    ----------
    active : int, "auto" or "none"
        As the option of that name.
    ks : sequence of int
        Numbers of concepts that are asked for.

    Raises
    ------
    UserError
        Few concepts a position, and several numbers of them are to be weighed.
    """
    found = {nmf.active_of(active, k) for k in ks}
    if found == {None}:
        return None
    dense = option("active", "none")
    if len(ks) > 1:
        raise UserError(
            f"{option('k', ','.join(map(str, ks)))} with few concepts a position, as of more than"
            f" {nmf.DENSE}: they are not weighed against each other; ask for one, or"
            f" set {dense}"
        )
    return found.pop()
