"""What pages say in sentences is what the numbers say."""

from __future__ import annotations

import pytest

from pipeline.atlas.views.concept import errors_in_words


@pytest.mark.parametrize(
    ("excess", "q", "words", "others"),
    [
        (0.123, 0.004, "errs 12 percentage points more often where it is present", "less often"),
        (-0.43, 0.0004, "errs 43 percentage points less often where it is present", "−43"),
        (-0.17, 0.29, "it is not clear that the network errs more or less often", "errs 17"),
        (0.17, None, "the difference of +17 percentage points", "errs 17"),
    ],
)
def test_errors_are_more_or_less_often_or_not_clearly_either(
    excess: float, q: float | None, words: str, others: str
) -> None:
    told = {"error_ci_low": excess - 0.09, "error_ci_high": excess + 0.09}
    said = errors_in_words({"error_excess": excess, "error_q": q, **told})
    assert words in said
    assert others not in said
    assert f"{100 * (excess + 0.09):+.0f}".replace("-", "−") in said
