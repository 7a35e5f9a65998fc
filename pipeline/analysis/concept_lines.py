"""The concepts of a run as lines of text: name, kind, and what the labels say of each."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from ..errors import command
from ..escape import fitted
from ..runs.workspace import Workspace
from ..tables.concept_labels import LEAST_PHI, LEVEL
from . import kind_words, sureness
from .run import Run

NAME, KIND, LABELS, GROUP = 28, 10, 24, 28

N_SHOWN = 30
"""Concepts that the short listing has at most."""

N_LABELS = 2
"""Labels that a line names."""

KINDS = {
    "class": "the network takes it for that class where it stands, and its images are of it",
    "group": "the network takes it for one of related classes, and its images are of them",
    "shared": "several unlike labels of the dataset go with it",
    "background": "most of it stands beside the objects of its images; no class is claimed",
    "place": "it stands at a place in the frame, whatever is there",
    "none": "nothing of that is known",
}
"""What each kind says, in the order in which they are listed."""

LATER = ("name", "kind", "group", "group_mass", "group_share")
"""Columns that runs of earlier versions are without."""

Row = dict[Hashable, Any]


class ConceptLines:
    """The lines of a run's concepts.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Run) -> None:
        concepts = run.table("concepts").sort_values("energy", ascending=False, kind="stable")
        missing = {name: None for name in LATER if name not in concepts}
        self._rows: list[Row] = concepts.assign(**missing).to_dict("records")
        self._folder = run.folder
        self._labels, self._sure = _labels(run), sureness.footnote(concepts)

    def short(self) -> list[str]:
        """Write name, kind, labels and how much there is of each, one line a concept.

        Of many, those that the network's answers hang on most; without classes, the strongest.
        """
        lines = [
            f"{'concept':>7}  {'name':<{NAME}} {'kind':<{KIND}} {'its images are':<{LABELS}}"
            f" {'coverage':>8} {'energy':>6} {'stable':>6} {'images':>6}"
        ]
        shown = self._telling()
        for row in shown:
            images = fitted(self._images(row), LABELS)
            lines.append(f"{_first(row)} {images:<{LABELS}} {_amounts(row)}")
        if (n_more := len(self._rows) - len(shown)) > 0:
            lines.append(
                f"{n_more} more, on which less hangs: {command('concepts', run=self._folder)}"
                " lists all"
            )
        return [*lines, *self._legend(), *self._sure]

    def long(self) -> list[str]:
        """Write besides what each is taken for, and how the network's answers hang on it."""
        lines = [
            f"{'concept':>7}  {'name':<{NAME}} {'kind':<{KIND}} {'taken for':<{GROUP}}"
            f" {'there':>5}  {'its images are':<{LABELS}} {'drop':>6} {'errors':>7}"
            f" {'coverage':>8} {'energy':>6} {'stable':>6} {'images':>6}"
        ]
        for row in self._rows:
            images = fitted(self._images(row), LABELS)
            lines.append(
                f"{_first(row)} {fitted(_or_dash(row['group']), GROUP):<{GROUP}}"
                f" {_fixed(row['group_mass'], 5)}  {images:<{LABELS}}"
                f" {_fixed(row['importance'], 6)} {_excess(row):>7} {_amounts(row)}"
            )
        return [
            *lines,
            *self._legend(),
            *self._sure,
            "taken for, there: the classes that have most of the probability where it stands, and"
            " how much",
            "drop: of the predicted class's logit without it; errors: how much more often the"
            " network errs where it is, within labels (* better than chance)",
        ]

    def _telling(self) -> list[Row]:
        """Choose what the short listing shows."""
        if len(self._rows) <= N_SHOWN:
            return self._rows

        def weight(row: Row) -> float:
            drop = row["importance"]
            return float(-row["energy"] if drop is None or pd.isna(drop) else -abs(drop))

        chosen = sorted(range(len(self._rows)), key=lambda i: weight(self._rows[i]))[:N_SHOWN]
        return [self._rows[i] for i in sorted(chosen)]

    def _images(self, row: Row) -> str:
        """Say of what labels its images are; or how many of the tested ones are of its classes."""
        labels = self._labels.get(row["concept_id"])
        if labels is not None:
            return labels
        is_claimed = row["kind"] in ("class", "group") and not pd.isna(row["group_share"])
        return f"{row['group_share']:.0%} of these" if is_claimed else "–"

    def _legend(self) -> list[str]:
        """Say what the kinds that occur mean, and how many are of each."""
        found = [row["kind"] for row in self._rows if isinstance(row["kind"], str)]
        said = [f"{found.count(kind):>7}  {kind}: {KINDS[kind]}" for kind in KINDS if kind in found]
        return ["", *said] if said else []


class Names:
    """Labels as they are shown: with the name of their class, where that is another."""

    def __init__(self, workspace: Workspace) -> None:
        self._classes, self._names = workspace.class_of_label, workspace.class_names

    def of(self, label: str) -> str:
        """Return a label with its name."""
        name = self._names[self._classes[label]] if label in self._classes else label
        return label if name == label else f"{label} {name}"


def excess_is_telling(row: Row) -> bool:
    """Say whether the network errs more or less often with the concept, better than chance."""
    return bool(row["error_q"] <= LEVEL)


def _labels(run: Run) -> Mapping[Any, str]:
    """Return by concept the labels that go with it most, with the share of its images."""
    found = run.table("concept_labels")
    found = found[(found["association_q"] <= LEVEL) & (found["phi"] >= LEAST_PHI)]
    found = found.sort_values(["concept_id", "phi"], ascending=[True, False], kind="stable")
    names = Names(run.workspace)
    return {
        concept: " · ".join(
            f"{names.of(label)} {precision:.0%}"
            for label, precision in zip(rows["label"], rows["precision"], strict=True)
        )
        for concept, rows in found.groupby("concept_id").head(N_LABELS).groupby("concept_id")
    }


def _first(row: Row) -> str:
    name = fitted(_or_dash(kind_words.called(row)), NAME)
    return f"{row['concept_id']:>7}  {name:<{NAME}} {_or_dash(row['kind']):<{KIND}}"


def _amounts(row: Row) -> str:
    return (
        f"{row['coverage']:8.1%} {row['energy']:6.1%} {_fixed(row['stability'], 6)}"
        f"{sureness.mark(row)}{row['n_images']:6}"
    )


def _or_dash(text: object) -> str:
    return text if isinstance(text, str) else "–"


def _fixed(value: float | None, width: int) -> str:
    known = value is not None and not math.isnan(value)
    return f"{value:{width}.2f}" if known else f"{'–':>{width}}"


def _excess(row: Row) -> str:
    if pd.isna(row["error_excess"]):
        return "–"
    return f"{row['error_excess']:+.0%}{'*' if excess_is_telling(row) else ' '}"
