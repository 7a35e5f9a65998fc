"""What a user is told when something they gave cannot work: one clear sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A problem the user can mend; its text says what is wrong, where, and what to do next.

    Stages print it as one sentence on stderr and exit with code 2; no traceback is shown.
    """


def suggest(name: str, known: Iterable[str], n: int = 3) -> str:
    """Say which known names are near a wrong one.

    Parameters
    ----------
    name : str
        The name that was given.
    known : iterable of str
        The names that exist.
    n : int
        How many near names to give at most.

    Returns
    -------
    str
        ``"did you mean 'resnet50' or 'resnet18'?"``, or an empty string if nothing is near.
    """
    near = difflib.get_close_matches(name, list(known), n=n, cutoff=0.5)
    return f"did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
