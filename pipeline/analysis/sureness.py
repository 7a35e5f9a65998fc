"""How sure a concept itself is, in words: how often fits on other images find it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

OF = 10
"""Fits that are spoken of."""

MARK = "~"
"""Beside a concept that rather does not come back."""

SOME = 8
"""Concepts that a footnote names, those that come back least."""

Row = Mapping[Any, Any]


def is_unsure(row: Row) -> bool:
    """Say whether a row of ``concepts`` is of a concept that rather does not come back alone.

    What was not measured, or not yet in a table of an earlier version, is not unsure.
    """
    found = row.get("reappears")
    return found is not None and not pd.isna(found) and found < 0.5


def mark(row: Row) -> str:
    """Return `MARK` for a concept that rather does not come back, else a blank."""
    return MARK if is_unsure(row) else " "


def times(row: Row) -> str:
    """Return in how many fits a concept comes back, ``3 of 10``; a dash where it is not known."""
    found = row.get("reappears")
    if found is None or pd.isna(found):
        return "–"
    return f"{round(found * OF) or 'none'} of {OF}"


def partners(row: Row) -> list[int]:
    """Return the concepts with which one that does not come back alone does, as a subspace."""
    found = row.get("reappears_with")
    return list(found) if isinstance(found, (list, tuple, np.ndarray)) else []


def in_words(row: Row) -> str:
    """Say of a concept that rather does not come back how often it does, and with which others."""
    others = partners(row)
    ending = f"; with {' and '.join(map(str, others))} as one subspace in most" if others else ""
    return f"comes back in {times(row)} fits on other images{ending}"


def footnote(concepts: pd.DataFrame) -> list[str]:
    """Write below a table of concepts what `MARK` means, and of which concepts how often."""
    rows = [row for row in concepts.to_dict("records") if is_unsure(row)]
    if not rows:
        return []
    rows.sort(key=lambda row: (row["reappears"], row["concept_id"]))
    named = [_named(row) for row in rows[:SOME]] + (["…"] if len(rows) > SOME else [])
    return [
        f"{MARK}: rather not found again in another fit on other images (reappears in the table"
        f" concepts), {len(rows)} of {len(concepts)}:",
        f"   {', '.join(named)}",
    ]


def _named(row: Row) -> str:
    others = partners(row)
    with_ = f" and as a subspace with {' and '.join(map(str, others))}" if others else ""
    return f"{row['concept_id']} in {times(row)} fits{with_}"
