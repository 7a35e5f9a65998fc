"""How sure a concept is, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.analysis import sureness


@pytest.mark.parametrize(
    ("reappears", "mark", "times"),
    [
        (0.02, "~", "none of 10"),
        (0.31, "~", "3 of 10"),
        (0.5, " ", "5 of 10"),
        (1.0, " ", "10 of 10"),
        (None, " ", "–"),
        (np.nan, " ", "–"),
    ],
)
def test_a_row_in_words(reappears: float | None, mark: str, times: str) -> None:
    row = {"reappears": reappears, "reappears_with": None}
    assert (sureness.mark(row), sureness.times(row)) == (mark, times)


def test_tables_of_earlier_versions_mark_nothing() -> None:
    assert sureness.mark({"concept_id": 0}) == " "
    assert sureness.footnote(pd.DataFrame({"concept_id": [0, 1]})) == []


def test_the_footnote_names_those_that_come_back_least() -> None:
    table = pd.DataFrame(
        {
            "concept_id": range(12),
            "reappears": [0.9, 0.3, *np.linspace(0.31, 0.4, 9), 0.12],
            "reappears_with": [None, np.array([0, 4]), *[None] * 10],
        }
    )
    first, second = sureness.footnote(table)
    assert first.startswith("~: rather not found again")
    assert first.endswith("11 of 12:")
    assert "11 in 1 of 10 fits, 1 in 3 of 10 fits and as a subspace with 0 and 4, 2 in" in second
    assert second.endswith(", …")
    assert second.count("fits") == sureness.SOME
