"""Labels of an image as one text, and back."""

from __future__ import annotations

from collections.abc import Sequence

BETWEEN = ";"
"""What stands between several labels of an image in one cell of a table."""


def joined(labels: Sequence[str]) -> str | None:
    """Return labels as one text, with `BETWEEN` between them; None where there are none."""
    return BETWEEN.join(labels) if labels else None


def labels_in(text: str | None) -> tuple[str, ...]:
    """Return the labels that a text of a table holds, each once."""
    parts = (each.strip() for each in (text or "").split(BETWEEN))
    return tuple(dict.fromkeys(filter(None, parts)))
