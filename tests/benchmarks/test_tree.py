"""The benchmark of the tree: its figures are those of planted parents, and of their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import tree as bench
from pipeline import nmf
from tests.nmf.test_tree import planted


def test_planted_parents_are_found_and_explain_as_much_as_free_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.nmf.levels.level_sizes", lambda k: (6,))
    found = bench.measure_tree("planted", planted(0)[0], planted(1)[0], 4, k=24)
    assert found.over_free > 0.97
    assert found.beside_parents > 0.97
    assert found.time_over_fit > 0
    assert "planted" in capsys.readouterr().out


def test_what_is_inherited_is_the_sum_of_what_leaves_explain_along_their_parents() -> None:
    V, W, _ = planted()
    _, above = nmf.grow([V], V, W, 4, sizes=(6,), fixed=True)
    tree = nmf.make_tree(V, W, 4, above)
    level = tree.levels[1]
    cut = nmf.cut_tree(tree, 6)
    H = nmf.encode(V, W, active=4)
    directions = cut.W / cut.W.norm(dim=0)
    h = torch.stack(
        [
            sum(
                (H[:, leaf] * (W[:, leaf] @ directions[:, node]) for leaf in range(24)
                 if cut.of_leaf[leaf] == node),
                torch.zeros(len(V)),
            )
            for node in range(6)
        ],
        dim=1,
    )  # fmt: skip
    left = float((V - h @ directions.T).norm() / V.norm())
    assert bench._inherited(tree, level, V, 4) == pytest.approx(1 - left**2, abs=1e-4)
    assert bench._inherited(tree, level, V, 4) <= 1 - level.error**2 + 1e-4
    assert 0 < bench._beside(tree, 0, V, 4) <= 1
    assert np.isfinite(level.error)
