"""Columns of ``concepts``: what kind each concept is of, and what the network takes it for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from ..classify.kinds import kinds
from .column import FLOAT, INTS, TEXT, Column, Facts

N_NAMED = 4
"""Classes of a group that are named."""


ODDS = (
    "odds of being of that among the images that hold it, over those among all images: a claim asks"
    " for four times; null where fewer than eight of the images looked at hold it"
)


def _column(name: str, type_: pa.DataType, meaning: str, unit: str = "") -> Column:
    return Column(name, type_, meaning, unit, lambda of: of.verdicts[name], is_later=True)


VERDICTS = (
    _column("kind", TEXT, "class, group, shared, background, place or none: see docs/METHODS.md"),
    _column(
        "class_q",
        FLOAT,
        "q of its being taken for its best class, by the network and by its images; 1 where too few"
        " of the images that hold it are of that class",
        "probability",
    ),
    _column("class_odds", FLOAT, ODDS, "ratio"),
    _column(
        "group",
        TEXT,
        "the class or related classes it is taken for, the most probable first; null: none",
    ),
    _column("group_classes", INTS, "those classes"),
    _column(
        "group_q",
        FLOAT,
        "q of its being taken for them, by the network and by its images; 1 as in class_q",
        "probability",
    ),
    _column("group_odds", FLOAT, ODDS, "ratio"),
    _column(
        "group_mass",
        FLOAT,
        "probability of these classes where it stands, mean of the tested images",
        "probability",
    ),
    _column(
        "group_moved",
        FLOAT,
        "the same where its kind of maps were moved to other images",
        "probability",
    ),
    _column("group_share", FLOAT, "share of the tested images that are of these classes", "share"),
    _column(
        "inside",
        FLOAT,
        "share of its strength on co-localized objects, in its strongest images",
        "share",
    ),
)


def verdict_rows(facts: Facts, telling: list[list[str]]) -> pd.DataFrame:
    """Return what kind each concept is of, and what it is taken for.

    Parameters
    ----------
    facts : Facts
    telling : list of list of str
        By concept the labels that go with it: see `pipeline.tables.concept_labels`.

    Returns
    -------
    DataFrame
        k rows, a column for each of `VERDICTS`; null where nothing is claimed or known.
    """
    head, k = facts.head, facts.bank.k
    single, group = head.single, head.group
    inside = np.full(k, np.nan) if head.inside is None else head.inside
    is_place = np.array([bool(each) for each in head.place] or [False] * k)
    labels = [[facts.class_of_label.get(each, -1) for each in row] for row in telling]
    groups: list[list[int]] = [[] for _ in range(k)]
    if group is not None:
        groups = [[int(each) for each in row if each >= 0] for row in group.classes]
    unknown = np.full(k, np.nan)
    return pd.DataFrame(
        {
            "kind": kinds(single, group, inside, labels, is_place),
            "class_q": unknown if single is None else single.q,
            "class_odds": unknown if single is None or single.odds is None else single.odds,
            "group": [_named(each, facts.class_names) if each else None for each in groups],
            "group_classes": [each or None for each in groups],
            "group_q": unknown if group is None else group.q,
            "group_odds": unknown if group is None or group.odds is None else group.odds,
            "group_mass": unknown if group is None else group.mass,
            "group_moved": unknown if group is None else group.moved,
            "group_share": unknown if group is None else group.agreed,
            "inside": inside,
        }
    ).astype(dict.fromkeys(("kind", "group", "group_classes"), object))


def _named(classes: list[int], class_names: tuple[str, ...]) -> str:
    """Write a group: its most probable classes, and how many more there are."""
    names = [class_names[each] for each in classes]
    more = f" +{len(names) - N_NAMED}" if len(names) > N_NAMED else ""
    return " · ".join(names[:N_NAMED]) + more
