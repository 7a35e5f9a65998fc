"""How the run went: how faithful the concepts are, what spoke for their number, settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..catalogue import Catalogue
from ..charts import Chart, Series, bars, line_chart
from ..formats import Row, fixed, percent, rows

_N_REJECTED = 100

_DECISIONS = {
    "agreement": (
        "Same yes or no as the network",
        "share of the decisions on classes, image by image",
    ),
    "kl": ("KL divergence from the network’s answer", "nats a class; lower is better"),
}
"""What measures are of independent classes."""

_MEASURES = (
    ("agreement", "Same top class as the network", "share of images", percent),
    ("kl", "KL divergence from the network’s answer", "nats; lower is better", fixed),
    (
        "accuracy",
        "Right by the dataset’s labels",
        "share of images; concepts of few classes leave few to err with, so it may exceed the"
        " network’s own",
        percent,
    ),
)
_SAID = ("probe_accuracy",)
"""What the facts of the run say already."""

_STANDINS = (
    ("", "the concepts alone"),
    ("_svd", "truncated SVD, same rank"),
    ("_mean", "the mean activation"),
    ("_blind", "the same answer to every class"),
    ("_network", "the network itself"),
)


def overview(book: Catalogue) -> dict[str, Any]:
    """Everything the front page says of the run."""
    tables = book.data.tables
    whole = _of_the_whole_bank(tables["fidelity"])
    return {
        "headline": _headline(whole),
        "speaker": book.data.speaker,
        "is_multi_label": book.data.is_multi_label,
        "fidelity": _fidelity(whole, _DECISIONS if book.data.is_multi_label else {}),
        "other_measures": _others(whole),
        "curves": _curves(tables["fidelity"]),
        "k_charts": _k_charts(tables["k_metrics"]),
        "k_facts": _k_facts(tables["k_metrics"]),
        "settings": dict(book.data.settings),
        "n_shown": len(book.images),
        "n_images": book.n_images,
        "rejected": list(rows(tables["rejected"].head(_N_REJECTED))),
        "n_rejected": len(tables["rejected"]),
        "n_damaged": _n_damaged(book),
    }


def _n_damaged(book: Catalogue) -> int:
    if "damage" not in book.data.sql("select * from images limit 0"):
        return 0  # tables of earlier versions
    return int(book.data.sql("select count(damage) as n from images")["n"].iloc[0])


def _of_the_whole_bank(table: pd.DataFrame) -> dict[str, Row]:
    """Measurements of no single concept, level or class, by metric; held out before fit."""
    whole = table["concept_id"].isna() & table["level"].isna() & table["class_id"].isna()
    ordered = table[whole].sort_values("split", ascending=True, kind="stable", na_position="first")
    return {str(each["metric"]): each for each in rows(ordered) if each["value"] is not None}


def _headline(whole: dict[str, Row]) -> dict[str, str] | None:
    if "agreement" not in whole:
        return None
    said = whole["agreement"]
    return {
        "value": percent(said["value"]),
        "n": f"{int(said['n'] or 0):,}",
        "split": "held-out" if said["split"] == "heldout" else str(said["split"] or ""),
        "svd": percent(whole["agreement_svd"]["value"]) if "agreement_svd" in whole else "",
        "mean": percent(said["baseline"]) if said["baseline"] is not None else "",
        "blind": percent(whole["agreement_blind"]["value"]) if "agreement_blind" in whole else "",
    }


def _fidelity(whole: dict[str, Row], words: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """For each measure the concepts beside what might stand in for them, as bars."""
    made = []
    for base, title, hint, text in _MEASURES:
        title, hint = words.get(base, (title, hint))
        found = [(name, whole[base + end]) for end, name in _STANDINS if whole.get(base + end)]
        if base not in whole:
            continue
        whole_scale = [] if base == "kl" else [1.0]
        drawn = bars([*(row["value"] for _, row in found), *whole_scale])[0][: len(found)]
        lines = [
            {"name": name, "text": text(row["value"]), "bar": bar, "own": at == 0}
            for at, ((name, row), bar) in enumerate(zip(found, drawn, strict=True))
        ]
        made.append({"title": title, "hint": hint, "lines": lines, "row": whole[base]})
    return made


def _curves(table: pd.DataFrame) -> list[tuple[str, Chart]]:
    """Measures by the share of concepts in place, such as the probability as they are deleted."""
    known = table[
        table["concept_id"].isna() & table["class_id"].isna() & table["level"].notna()
    ].dropna(subset=["value"])
    made = []
    for metric, rows_of_it in known.sort_values("level", kind="stable").groupby("metric"):
        at = list(rows(rows_of_it))
        lines = [Series("the strongest first", [(each["level"], each["value"]) for each in at])]
        against = [(each["level"], each["baseline"]) for each in at if each["baseline"] is not None]
        if against:
            lines.append(Series("in random orders", against))
        chart = line_chart(lines, size=(290, 160))
        if chart:
            made.append((str(metric), chart))
    return made


def _others(whole: dict[str, Row]) -> list[Row]:
    """Measurements that have no bars above."""
    drawn = {base + end for base, *_ in _MEASURES for end, _ in _STANDINS}
    return [row for metric, row in whole.items() if metric not in {*drawn, *_SAID}]


def _k_charts(table: pd.DataFrame) -> list[tuple[str, str, Chart]]:
    """(title, hint, chart) of what spoke for this k; nothing where only one k was tried."""
    chosen = [int(each) for each in table.loc[table["chosen"].eq(True), "k"].unique()]
    mark = float(chosen[0]) if chosen else None
    made: list[tuple[str, str, Chart]] = []
    for column, title, hint in (
        ("bicv_error", "Bi-cross-validated error", "lower is better"),
        ("heldout_error", "Held-out error", "falls for ever; it cannot choose k"),
        ("split_stability", "Split-half stability", "higher is better"),
    ):
        known = table.dropna(subset=[column])
        if known.empty or (column == "heldout_error" and made):
            continue
        values = known.assign(value=known[column].astype(float)).groupby("k")["value"]
        points = [(float(str(k)), float(mean)) for k, mean in values.mean().items()]
        ranges = list(zip(values.min().tolist(), values.max().tolist(), strict=True))
        chart = line_chart([Series(title, points, ranges)], log_x=True, mark=mark)
        if chart:
            made.append((title, hint, chart))
    return made


def _k_facts(table: pd.DataFrame) -> list[tuple[str, str]]:
    """What is known of the chosen k: means over the replicates."""
    of_it = table[table["chosen"].eq(True)]
    made = []
    for column, name in (
        ("error", "relative error"),
        ("heldout_error", "held out"),
        ("svd_error", "floor (truncated SVD)"),
        ("bicv_error", "bi-cross-validated"),
        ("split_stability", "split-half stability"),
        ("seed_stability", "seed stability"),
    ):
        known = of_it[column].dropna().astype(float)
        if len(known):
            made.append((name, fixed(float(known.mean()), 3)))
    return made
