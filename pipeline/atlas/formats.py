"""Numbers as a reader wants them, and null wherever a table has nothing to say."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd

NOTHING = "–"

Row = dict[str, Any]


def rows(table: pd.DataFrame) -> Iterator[Row]:
    """Iterate a table as dicts of Python values, every kind of null as None."""
    columns: list[Hashable] = list(table.columns)
    names = [str(name) for name in columns]
    values = [[plain(each) for each in table[name].tolist()] for name in columns]
    for record in zip(*values, strict=True):
        yield dict(zip(names, record, strict=True))


def plain(value: Any) -> Any:
    """Turn None, NaN, NaT and pandas' NA into None; leave everything else."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with `digits` significant digits: 0.0123, 1.23, 1,234."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    decimals = 0
    if value:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    if decimals > 6:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{decimals}f}".replace("-", "−")


def fixed(value: float | None, decimals: int = 2) -> str:
    """Write a number with so many decimals."""
    return NOTHING if value is None else _true_minus(f"{value:,.{decimals}f}")


def signed(value: float | None, decimals: int = 2) -> str:
    """Write a number with its sign, with a true minus."""
    return NOTHING if value is None else _true_minus(f"{value:+,.{decimals}f}")


def percent(value: float | None) -> str:
    """Write a share (0..1) as a percentage: < 0.01 %, 0.04 %, 3.4 %, 12 %."""
    if value is None:
        return NOTHING
    share = 100.0 * value
    if 0 < share < 0.005:
        return "< 0.01 %"
    decimals = 0 if abs(share) >= 9.95 or share == 0 else 1 if abs(share) >= 0.995 else 2
    return _true_minus(f"{share:.{decimals}f}") + " %"


def points(value: float | None) -> str:
    """Write a difference of shares (−1..1) in percentage points: +12, −3, 0."""
    return NOTHING if value is None else signed(100.0 * value, 0)


def count(value: float | None) -> str:
    """Write a whole number with thousands separated."""
    return NOTHING if value is None else f"{int(value):,}"


def p_value(value: float | None) -> str:
    """Write a p- or q-value: ``< 0.001``, ``0.013``, ``0.41``."""
    if value is None:
        return NOTHING
    if value < 0.001:
        return "< 0.001"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _true_minus(text: str) -> str:
    """A typographic minus, and no sign before what rounds to nothing."""
    if not any(digit in text for digit in "123456789"):
        return text.lstrip("+-")
    return text.replace("-", "−")
