"""The table ``concepts``: what a run knows of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..classify import NO_CLASS, top_classes
from .column import FLAG, FLOAT, INT, INT32, INTS, TEXT, VECTOR, Column, Facts, Table
from .concept_classes import probabilities
from .verdicts import VERDICTS


@dataclass(frozen=True)
class ConceptFacts(Facts):
    """What the columns of ``concepts`` are worked out from.

    Attributes
    ----------
    n_images, coverage : ndarray
        int64 and float64 (k,).
    labels, errors : DataFrame
        k rows each: see `pipeline.tables.concept_labels`.
    verdicts, names : DataFrame
        k rows: see `pipeline.tables.verdicts`; name, name_evidence.
    """

    n_images: NDArray[np.int64]
    coverage: NDArray[np.float64]
    labels: pd.DataFrame
    errors: pd.DataFrame
    verdicts: pd.DataFrame
    names: pd.DataFrame

    @cached_property
    def top(self) -> list[int | None]:
        """The class the head gives each context vector; None where the network has no classes."""
        found = top_classes(self.head.context).tolist()
        return [None if each == NO_CLASS else each for each in found]


def _labels_agree(of: ConceptFacts) -> pd.Series[Any]:
    """Say whether head and dataset call a concept the same; null where one of them says nothing."""
    agree = [
        of.class_of_label[label] == top
        if isinstance(label, str) and label in of.class_of_label
        else None
        for label, top in zip(of.labels["dataset_label"], of.top, strict=True)
    ]
    return pd.Series(agree, dtype=object)


def _sure(name: str) -> Callable[[ConceptFacts], Any]:
    """Give a column of what the bank knows of reappearance; null where it was not measured."""

    def values(of: ConceptFacts) -> Any:
        found = of.bank.reappearance
        return np.nan if found is None else getattr(found, name)

    return values


def _reappears_with(of: ConceptFacts) -> pd.Series[Any]:
    """List the partners of each concept that comes back with others alone; null: none."""
    found = of.bank.reappearance
    rows = [[]] * of.bank.k if found is None else found.partners.tolist()
    lists = [[other for other in each if other >= 0] or None for each in rows]
    return pd.Series(lists, dtype=object)


CONCEPTS = Table(
    "concepts",
    "a concept",
    (
        Column(
            "concept_id",
            INT32,
            "number of the concept, from 0, by energy",
            "",
            lambda of: np.arange(of.bank.k),
        ),
        Column("layer", TEXT, "the layer it lives in", "", lambda of: [of.bank.layer] * of.bank.k),
        Column(
            "n_images",
            INT,
            "images with at least one position where it is present",
            "images",
            lambda of: of.n_images,
        ),
        Column(
            "coverage",
            FLOAT,
            "share of all positions where it is present",
            "share",
            lambda of: of.coverage,
        ),
        Column(
            "energy",
            FLOAT,
            "share of ‖V‖² it explains; sums to 1 − error² over concepts",
            "share",
            lambda of: of.bank.energies,
        ),
        Column(
            "stability",
            FLOAT,
            "matched cosine between fits on disjoint halves of the images",
            "cosine",
            lambda of: of.bank.stability,
        ),
        Column(
            "reappears",
            FLOAT,
            "probability that in a fit on as many other images, from another start, its partner of"
            " a one-to-one matching has a cosine of at least 0.9 with it; null: not measured",
            "probability",
            _sure("probability"),
            is_later=True,
        ),
        Column(
            "reappears_low",
            FLOAT,
            "lower end of the 90 % interval of that cosine",
            "cosine",
            _sure("low"),
            is_later=True,
        ),
        Column("reappears_high", FLOAT, "upper end", "cosine", _sure("high"), is_later=True),
        Column(
            "reappears_with",
            INTS,
            "concepts with which it spans what rather comes back; null: it comes back alone, or no"
            " one or two others make it so",
            "",
            _reappears_with,
            is_later=True,
        ),
        Column(
            "presence_threshold",
            FLOAT,
            "strength from which on it counts as present, gauge units",
            "gauge units",
            lambda of: of.bank.thresholds,
        ),
        Column(
            "threshold_reason",
            TEXT,
            "how that threshold came about",
            "",
            lambda of: of.bank.threshold_reasons,
        ),
        Column(
            "importance",
            FLOAT,
            "mean drop of the predicted class's logit without it, logits",
            "logits",
            lambda of: of.head.importance,
        ),
        Column(
            "sobol_total",
            FLOAT,
            "Sobol's total index of the predicted class's logit, mean over images; null: any"
            " other head than pool and linear",
            "share",
            lambda of: of.head.sobol_total,
        ),
        Column(
            "deletion_effect",
            FLOAT,
            "mean drop of the predicted probability without it, where present",
            "probability",
            lambda of: of.head.deletion_effect,
        ),
        Column(
            "insertion_effect",
            FLOAT,
            "mean rise of the predicted probability by it alone, where present",
            "probability",
            lambda of: of.head.insertion_effect,
        ),
        Column(
            "top_class", INT32, "class the head gives its context vector", "", lambda of: of.top
        ),
        Column(
            "top_label",
            TEXT,
            "name of that class",
            "",
            lambda of: [None if each is None else of.class_names[each] for each in of.top],
        ),
        Column(
            "top_prob",
            FLOAT,
            "probability of that class",
            "probability",
            lambda of: probabilities(of.head.context, of.link).max(1) if of.class_names else np.nan,
        ),
        Column(
            "top_p",
            FLOAT,
            "p of its largest z among real positions of like norm without it",
            "probability",
            lambda of: of.head.p if of.class_names else np.nan,
        ),
        Column(
            "top_significant",
            FLAG,
            "better than chance after Benjamini-Hochberg at 0.05",
            "",
            lambda of: of.head.significant if of.class_names else None,
        ),
        *VERDICTS,
        Column(
            "dataset_label",
            TEXT,
            "label of the dataset that goes with it most; null: none does",
            "",
            lambda of: of.labels["dataset_label"],
        ),
        Column(
            "dataset_precision",
            FLOAT,
            "share of the images that hold it that have that label",
            "share",
            lambda of: of.labels["dataset_precision"],
        ),
        Column(
            "dataset_lift",
            FLOAT,
            "that share over the label's share of all images",
            "ratio",
            lambda of: of.labels["dataset_lift"],
        ),
        Column(
            "labels_agree",
            FLAG,
            "that label and the head's top class are the same; null: unknown",
            "",
            _labels_agree,
        ),
        Column(
            "error_excess",
            FLOAT,
            "how much more often the network errs with it than without, within labels",
            "difference of shares",
            lambda of: of.errors["error_excess"],
        ),
        Column(
            "error_ci_low",
            FLOAT,
            "lower end of the 95 % interval of that (Sato)",
            "difference of shares",
            lambda of: of.errors["error_ci_low"],
        ),
        Column(
            "error_ci_high",
            FLOAT,
            "upper end",
            "difference of shares",
            lambda of: of.errors["error_ci_high"],
        ),
        Column(
            "error_q",
            FLOAT,
            "p of the Cochran-Mantel-Haenszel test of that, after Benjamini-Hochberg",
            "probability",
            lambda of: of.errors["error_q"],
        ),
        Column(
            "place",
            TEXT,
            "the place in the frame that it is, as top edge; null: it is none, or not known",
            "",
            lambda of: [each or None for each in of.head.place or [None] * of.bank.k],
            is_later=True,
        ),
        Column(
            "place_share",
            FLOAT,
            "how much of it stays in the frame where images are moved: 0 goes with what they show,"
            " 1 stays; null: not known",
            "share",
            lambda of: np.nan if of.head.place_share is None else of.head.place_share,
            is_later=True,
        ),
        Column(
            "vector",
            VECTOR,
            "direction w_j, in transformed activation space",
            "activation",
            lambda of: list(of.bank.W.T),
        ),
        Column(
            "context_vector",
            VECTOR,
            "context vector c_j, in transformed activation space",
            "activation",
            lambda of: list(of.bank.context.T),
        ),
        Column(
            "name",
            TEXT,
            "what it is called, by people or else by the namer; null: no name",
            "",
            lambda of: of.names["name"],
            is_later=True,
        ),
        Column(
            "name_evidence",
            TEXT,
            "what the name rests on, with its numbers",
            "",
            lambda of: of.names["name_evidence"],
            is_later=True,
        ),
        Column(
            "node",
            INT32,
            "which concept of the tree it was taken from it is, as in concept_tree of that run;"
            " null: it was fitted",
            "",
            lambda of: (
                [None] * of.bank.k if of.bank.taken_nodes is None else of.bank.taken_nodes.tolist()
            ),
            is_later=True,
        ),
    ),
    order=("concept_id",),
)


def concept_rows(facts: ConceptFacts) -> pd.DataFrame:
    """Return the table ``concepts``."""
    values = {column.name: column.of(facts) for column in CONCEPTS.columns if column.of}
    return pd.DataFrame(values)
