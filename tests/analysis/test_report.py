"""Why K=auto took a number is one sentence that is true of its evidence."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest

from pipeline.analysis.report import chosen
from pipeline.analysis.run import Run


@pytest.mark.parametrize(
    ("k", "ks", "is_stable", "words"),
    [
        (8, (4, 8, 32), True, "8 concepts: of 4 to 32 the most that foretell channels of images"),
        (8, (4, 8, 32), False, "of 4 to 32 they foretell channels of images unseen best, but none"),
        (48, (4, 32, 48, 128), True, "of 4 to 128 the fewest, from 32 on, that foretell channels"),
        (32, (4, 32, 48), False, "nearly as well as the best do, but none stood out as stable"),
    ],
)
def test_why_a_number_was_taken(k: int, ks: tuple[int, ...], is_stable: bool, words: str) -> None:
    run: Any = SimpleNamespace(
        folder=Path("runs/pets"),
        workspace=SimpleNamespace(bank=SimpleNamespace(k=k, k_is_stable=is_stable)),
        table=lambda name: pd.DataFrame({"k": ks}),
    )
    _, said = chosen(cast(Run, run))
    assert words in said
    assert re.search("(?i)k='?tree", said)
    assert ("come back on halves" in said) == is_stable


def test_of_a_number_that_was_asked_for_there_is_nothing_to_say() -> None:
    run: Any = SimpleNamespace(
        folder=Path("runs/pets"),
        workspace=SimpleNamespace(bank=SimpleNamespace(k=7, k_is_stable=True)),
        table=lambda name: pd.DataFrame({"k": [7, 7]}),
    )
    assert chosen(cast(Run, run)) == []
