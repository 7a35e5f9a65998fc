"""Two runs side by side: which concept of one is which of the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch

from .. import nmf
from ..errors import UserError
from .run import Run, open_run


@dataclass(frozen=True)
class Comparison:
    """Concepts of two runs, matched one to one.

    Attributes
    ----------
    pairs : DataFrame
        A row per pair, by the first run's concepts: concept_a, label_a, concept_b, label_b, cosine
        of their directions.
    only_a, only_b : tuple of int
        Concepts without a partner, where one run has more than the other.
    """

    pairs: pd.DataFrame
    only_a: tuple[int, ...]
    only_b: tuple[int, ...]


def compare(a: Run | str | Path, b: Run | str | Path) -> Comparison:
    """Match the concepts of two runs on the same layer, by the cosine of their directions.

    Raises
    ------
    UserError
        One of them is no run, or their activations have different channels.
    """
    a, b = (each if isinstance(each, Run) else open_run(each) for each in (a, b))
    if a.bank.W.shape[0] != b.bank.W.shape[0]:
        raise UserError(
            f"the runs' activations have {a.bank.W.shape[0]} and {b.bank.W.shape[0]} channels;"
            " only runs on the same layer can be compared"
        )
    partners, cosines = nmf.match(torch.from_numpy(a.bank.W), torch.from_numpy(b.bank.W))
    labels = [run.table("concepts").set_index("concept_id")["top_label"] for run in (a, b)]
    rows = [
        (left, labels[0][left], right, labels[1][right], cosine)
        for left, (right, cosine) in enumerate(
            zip(partners.tolist(), cosines.tolist(), strict=True)
        )
        if right >= 0
    ]
    columns = ["concept_a", "label_a", "concept_b", "label_b", "cosine"]
    pairs = pd.DataFrame(rows, columns=columns)
    only_a = set(range(a.bank.W.shape[1])) - set(pairs["concept_a"])
    only_b = set(range(b.bank.W.shape[1])) - set(pairs["concept_b"])
    return Comparison(pairs, tuple(sorted(only_a)), tuple(sorted(only_b)))
