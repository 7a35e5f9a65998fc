"""What the dataset says of concepts: labels that hold them, errors with and without, agreement."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, fisher_exact
from sklearn.metrics import matthews_corrcoef

from pipeline.classify.statistics import fisher, mantel_haenszel, newcombe
from pipeline.tables import best_labels, error_rows, label_rows


def test_labels_show_where_the_network_fails() -> None:
    labels = [("cat",)] * 40 + [("dog",)] * 60
    holds = np.zeros((100, 2), bool)
    holds[:20, 0] = True
    holds[:, 1] = True
    wrong = np.zeros(100)
    wrong[:18] = 1
    found = label_rows(holds, labels, wrong).set_index(["concept_id", "label"])
    cat = found.loc[(0, "cat"), :].to_dict()
    assert [cat[each] for each in ("n", "precision", "recall", "lift")] == [20, 1.0, 0.5, 2.5]
    assert (cat["error_rate_with"], cat["error_rate_without"]) == (0.9, 0.0)
    assert 0.6 < cat["ci_low"] < 0.9 < cat["ci_high"]
    assert cat["q_value"] < 1e-6
    assert (0, "dog") not in found.index
    everywhere = found.loc[(1, "cat"), :].to_dict()
    assert everywhere["error_rate_with"] == 18 / 40
    assert np.isnan(everywhere["error_rate_without"])
    assert np.isnan(everywhere["q_value"])


def test_labels_without_classes_have_no_error_rates() -> None:
    found = label_rows(np.ones((4, 1), bool), [("a",), ("a",), (), ("b",)], np.full(4, np.nan))
    assert found["precision"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found["error_rate_with"].isna().all()


def test_each_of_several_labels_counts() -> None:
    rng = np.random.default_rng(0)
    names = ["cat", "dog", "grass"]
    members = rng.random((400, 3)) < [0.5, 0.3, 0.2]
    labels = [tuple(name for name, each in zip(names, row, strict=True) if each) for row in members]
    holds = rng.random((400, 2)) < np.where(members[:, :2], 0.8, 0.2)
    wrong = (rng.random(400) < 0.3).astype(float)
    found = label_rows(holds, labels, wrong)
    known = members.any(1)
    assert len(found) == 6
    for row in found.to_dict("records"):
        held = holds[known, row["concept_id"]]
        member = members[known, names.index(row["label"])]
        assert row["n"] == (held & member).sum()
        assert row["precision"] == member[held].mean()
        assert row["recall"] == held[member].mean()
        assert row["phi"] == pytest.approx(matthews_corrcoef(member, held))
        table = [[(held & member).sum(), held.sum()], [member.sum(), known.sum()]]
        a, b, c, n = table[0][0], table[0][1], table[1][0], table[1][1]
        exact = fisher_exact([[a, b - a], [c - a, n - b - c + a]], alternative="greater").pvalue
        assert row["association_q"] >= exact * 0.999
        assert row["error_rate_with"] == wrong[known][held & member].mean()
    # The network's errors are compared among images of the same labels.
    same = error_rows(holds, labels, wrong)
    combined = error_rows(holds, [("+".join(each),) if each else () for each in labels], wrong)
    pd.testing.assert_frame_equal(same, combined)


def test_newcombe_gives_the_published_interval() -> None:
    # Newcombe (1998), table II, 56/70 against 48/80: 0.0524 to 0.3339.
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_fisher_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        n1, n0 = rng.integers(1, 60, 2)
        a, c = rng.integers(0, n1 + 1), rng.integers(0, n0 + 1)
        expected = fisher_exact([[a, n1 - a], [c, n0 - c]]).pvalue
        assert fisher(int(a), int(n1), int(c), int(n0)) == pytest.approx(expected, abs=1e-9)


def test_a_concept_is_not_blamed_for_standing_in_a_hard_class() -> None:
    rng = np.random.default_rng(0)
    hard = np.repeat([True, False], 500)
    labels = [("hard" if each else "easy",) for each in hard]
    holds = np.column_stack([rng.random(1000) < np.where(hard, 0.8, 0.1), rng.random(1000) < 0.3])
    wrong = (rng.random(1000) < np.where(hard, 0.6, 0.05) + 0.3 * holds[:, 1]).astype(float)
    found = error_rows(holds, labels, wrong)
    crude = wrong[holds[:, 0]].mean() - wrong[~holds[:, 0]].mean()
    assert crude > 0.3
    assert found.error_ci_low[0] < 0 < found.error_ci_high[0]
    assert found.error_q[0] > 0.05
    assert found.error_ci_low[1] < 0.3 < found.error_ci_high[1]
    assert found.error_q[1] < 1e-6


def test_one_stratum_is_the_plain_difference() -> None:
    value, low, high, p = mantel_haenszel(*(np.array([each]) for each in (56, 70, 48, 80)))
    assert value == pytest.approx(0.2)
    assert (low, high) == pytest.approx((0.0575, 0.3425), abs=0.005)
    assert 0.001 < p < 0.02
    nothing = mantel_haenszel(*(np.array([each]) for each in (5, 10, 0, 0)))
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("times", [1, 100, 100_000])
def test_strata_of_any_size_are_pooled_exactly(times: int) -> None:
    """Against the formula in fractions: products of four counts pass what integers hold."""
    tables = [tuple(times * n for n in each) for each in ((34, 60, 36, 80), (9, 20, 36, 100))]
    off, spread = Fraction(0), Fraction(0)
    for a, n1, c, n0 in tables:
        n, m = n1 + n0, a + c
        off += a - Fraction(n1 * m, n)
        spread += Fraction(n1 * n0 * m * (n - m), n * n * (n - 1))
    expected = chi2.sf(float((abs(off) - Fraction(1, 2)) ** 2 / spread), 1)
    value, low, high, p = mantel_haenszel(*(np.array(part) for part in zip(*tables, strict=True)))
    assert p == pytest.approx(expected, rel=1e-6, abs=1e-300)
    assert low < value < high
    of_one = mantel_haenszel(*(np.array(part) // times for part in zip(*tables, strict=True)))
    assert value == pytest.approx(of_one[0])
    assert high - low == pytest.approx((of_one[2] - of_one[1]) / np.sqrt(times))


def test_as_many_labels_as_images_take_no_table_of_both() -> None:
    rng = np.random.default_rng(0)
    holds, labels = rng.random((20_000, 4)) < 0.1, [(str(n),) for n in range(20_000)]
    tracemalloc.start()
    rows = label_rows(holds, labels, np.zeros(20_000))
    error_rows(holds, labels, np.zeros(20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == holds.sum()
    assert (rows["n"] == 1).all()
    assert peak < 200e6  # the table in bytes of one bit each would be 400 MB


def test_the_label_that_goes_with_a_concept_is_named_and_chance_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = [(each,) for each in ("cat", "dog", "owl") for _ in range(100)]
    holds = np.zeros((300, 2), bool)
    holds[:80, 0] = True
    holds[150:155, 0] = True
    holds[:, 1] = rng.random(300) < 0.3
    rows = label_rows(holds, labels, np.full(300, np.nan))
    best = best_labels(rows, 3)
    assert best.dataset_label[0] == "cat"
    assert best.dataset_precision[0] == pytest.approx(80 / 85)
    assert best.dataset_lift[0] == pytest.approx(80 / 85 * 3)
    assert best.dataset_label[[1, 2]].isna().all()
    phi = np.corrcoef(holds[:, 0], np.arange(300) < 100)[0, 1]
    assert rows.phi[0] == pytest.approx(phi)
