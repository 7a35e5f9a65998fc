"""What kind a concept is of, as a sentence with its numbers: for pages and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..classify.kinds import LEAST_ODDS
from ..escape import fitted

LONGEST = 60
"""Characters of a group's name in a sentence."""

Row = Mapping[Any, Any]


def kind_of(row: Row) -> str:
    """Return the kind of a row of ``concepts``; empty in tables of earlier versions."""
    found = row.get("kind")
    return found if isinstance(found, str) else ""


def called(row: Row) -> str | None:
    """Return what a concept is called: its name, else what it is taken for; None: nothing.

    A label that goes with it alone is no name: it may stand in a tenth of the images that hold it.
    Tables of earlier versions have the class the head gives it, else that label.

    Parameters
    ----------
    row : mapping
        A row of the table ``concepts``.
    """
    kind = kind_of(row)
    candidates = [
        row.get("name"),
        None if kind else row.get("top_label"),
        row.get("group") if kind in ("class", "group") else None,
        None if kind else row.get("dataset_label"),
    ]
    return next((each for each in candidates if isinstance(each, str) and each), None)


def in_words(row: Row) -> str:
    """Say what kind a concept is of, and what that rests on.

    Parameters
    ----------
    row : mapping
        A row of the table ``concepts``.
    """
    kind = kind_of(row)
    if not kind:
        return _as_before(row)
    said = {
        "class": f"The network takes what stands there for {_taken(row)}.",
        "group": f"The network takes what stands there for one of a group: {_taken(row)}.",
        "shared": "Several labels of the dataset go with it that are not all of one group of"
        " classes.",
        "background": f"Background: {_outside(row)} of it stands beside the objects of its images,"
        " and no class is claimed for it.",
        "place": f"A place in the frame ({_or(row.get('place'), 'an edge')}), whatever is there.",
        "none": f"It goes with no class, no group and no labels.{_refused(row)}",
    }[kind]
    return said if kind in ("class", "group") else f"{said}{_head(row)}"


def _taken(row: Row) -> str:
    mass, moved, share = (_percent(row.get(f"group_{each}")) for each in ("mass", "moved", "share"))
    if kind_of(row) == "class" and _is_one(row):
        return (
            f"{_name(row)} (probability {mass}, {moved} where its maps are moved to other images;"
            f" {share} of the tested images are of it, q = {_q(row.get('group_q'))})"
        )
    if kind_of(row) == "class":
        return f"{row.get('top_label')} (q = {_q(row.get('class_q'))})"
    return (
        f"{_name(row)} (together {mass}, {moved} where its maps are moved to other images; {share}"
        f" of the tested images are of them, q = {_q(row.get('group_q'))})"
    )


def _is_one(row: Row) -> bool:
    classes = row.get("group_classes")
    return classes is not None and len(classes) == 1


def _name(row: Row) -> str:
    return fitted(_or(row.get("group"), "–"), LONGEST)


def _outside(row: Row) -> str:
    inside = row.get("inside")
    return "most" if inside is None or pd.isna(inside) else f"{1 - inside:.0%}"


def _refused(row: Row) -> str:
    """Say of which classes too few of its images are, where the head takes it for some."""
    odds = row.get("group_odds")
    if not isinstance(row.get("group"), str) or odds is None or not odds < LEAST_ODDS:
        return ""
    return (
        f" Its strongest places look like {_name(row)}, but of all images that hold it few are of"
        f" that: the odds are {odds:.2g} times those of any image, and {LEAST_ODDS:.0f} is asked."
    )


def _head(row: Row) -> str:
    """Say what the head calls it, which is no verdict."""
    if not isinstance(row.get("top_label"), str):
        return ""
    return f" Shown nothing else, the head says {row['top_label']} ({row['top_prob']:.2f})."


def _as_before(row: Row) -> str:
    """Say what tables of earlier versions know."""
    if not isinstance(row.get("top_label"), str):
        return "This network has no classes."
    return f"The head calls it {row['top_label']} with probability {row['top_prob']:.2f}."


def _percent(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.0%}"


def _q(value: float | None) -> str:
    if value is None or pd.isna(value):
        return "–"
    return f"{value:.2g}" if value >= 0.001 else "0.001 or less"


def _or(text: object, other: str) -> str:
    return text if isinstance(text, str) and text else other
