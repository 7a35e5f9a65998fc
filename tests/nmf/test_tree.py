"""The tree of concepts: planted parents come back, every number is a cut, mergers lose least."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import nmf
from pipeline.nmf.both import both_of, sum_of
from pipeline.nmf.levels import _nearest
from pipeline.nmf.merge import merge
from pipeline.nmf.pursuit import Pursuit

N_GROUPS, EACH, CHANNELS, POSITIONS = 6, 4, 60, 4_000


def planted(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Draw activations of which a position has one or two children of one or two parents.

    Children of one parent share nine tenths of their directions.
    """
    rng = np.random.default_rng(seed)
    parent = np.repeat(np.arange(N_GROUPS), EACH)
    shared = np.zeros((CHANNELS, N_GROUPS))
    for group in range(N_GROUPS):
        shared[group * 6 : group * 6 + 6, group] = rng.uniform(0.5, 1.5, 6)
    own = np.zeros((CHANNELS, len(parent)))
    own[36 + np.arange(len(parent)), np.arange(len(parent))] = 1.0
    W = 0.9 * shared[:, parent] / np.linalg.norm(shared[:, parent], axis=0) + 0.45 * own
    H = np.zeros((POSITIONS, len(parent)))
    for row in H:
        for group in rng.choice(N_GROUPS, rng.integers(1, 3), replace=False):
            children = group * EACH + rng.choice(EACH, rng.integers(1, 3), replace=False)
            row[children] = rng.uniform(0.5, 2.0, len(children))
    shuffled = rng.permutation(len(parent))
    V = torch.from_numpy(H @ W.T).float()
    return V, torch.from_numpy(W[:, shuffled]).float(), parent[shuffled]


def tree_of(
    V: torch.Tensor, W: torch.Tensor, active: int | None, sizes: tuple[int, ...]
) -> nmf.Tree:
    W, above = nmf.grow([V], V, W, active, sizes=sizes)
    return nmf.make_tree(V, W, active, above)


@pytest.mark.parametrize("active", [None, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_parents_come_back(active: int | None, seed: int) -> None:
    V, W, parent = planted(seed)
    tree = tree_of(V, W, active, (N_GROUPS,))
    found = nmf.cut_tree(tree, N_GROUPS).of_leaf
    assert len(np.unique(found)) == N_GROUPS
    assert len({*zip(found.tolist(), parent.tolist(), strict=True)}) == N_GROUPS
    assert tree.levels[0].shares.min() > 0.99
    assert np.array_equal(nmf.level_parents(tree, 0), found)


def test_of_a_level_as_much_is_explained_as_of_a_fit_of_that_number() -> None:
    V, W, _ = planted()
    tree = tree_of(V, W, 4, (N_GROUPS,))
    free = nmf.fit(nmf.ArrayBlocks(V), V, N_GROUPS, active=4)
    assert 1 - tree.levels[1].error ** 2 >= 0.99 * (1 - free.error**2)


def test_every_number_is_a_cut_and_each_cut_splits_one_concept_of_the_next() -> None:
    V, W, _ = planted()
    tree = tree_of(V, W, 4, (12, 5))
    before = None
    for n in range(1, tree.k + 1):
        cut = nmf.cut_tree(tree, n)
        assert cut.W.shape == (CHANNELS, n)
        assert float(cut.W.min()) >= 0
        assert sorted({*cut.of_leaf.tolist()}) == list(range(n))
        if before is not None:
            whole = {(int(a), int(b)) for a, b in zip(before.of_leaf, cut.of_leaf, strict=True)}
            assert len(whole) == n  # a concept of the finer cut lies in one of the coarser
        before = cut
    assert np.array_equal(nmf.cut_tree(tree, tree.k).of_leaf, np.arange(tree.k))
    for level in tree.levels:
        at = nmf.cut_tree(tree, level.n)
        assert np.array_equal(level.nodes, at.nodes)
        assert torch.equal(at.W, level.W)


def test_without_levels_mergers_are_those_of_merge() -> None:
    V, W, _ = planted()
    tree = tree_of(V, W, 4, ())
    pursuit = Pursuit.of(W, 4)
    stats = pursuit.stats(V, pursuit.codes(V))
    for n in (20, 6, 2):
        merged = torch.nn.functional.normalize(merge(W, stats, n), dim=0)
        cut = torch.nn.functional.normalize(nmf.cut_tree(tree, n).W, dim=0)
        assert float((merged.T @ cut).amax(1).min()) > 0.9999
    assert (tree.losses >= 0).all()
    assert tree.losses.sum() < 1


def test_with_few_concepts_a_position_leaves_move_for_their_parents_and_not_if_fixed() -> None:
    V, W, _ = planted()
    noise = torch.rand(W.shape, generator=torch.Generator().manual_seed(1))
    start = torch.nn.functional.normalize(W + 0.2 * noise, dim=0)
    moved, _ = nmf.grow([V], V, start, 4, sizes=(N_GROUPS,))
    assert not torch.equal(moved, start)
    kept, above = nmf.grow([V], V, start, 4, sizes=(N_GROUPS,), fixed=True)
    assert torch.equal(kept, start)
    assert np.bincount(above[0].parents, minlength=N_GROUPS).min() >= 1
    dense, _ = nmf.grow([V], V, start, None, sizes=(N_GROUPS,))
    assert torch.equal(dense, start)


def test_a_tree_is_the_same_again_bit_for_bit() -> None:
    V, W, _ = planted()
    a, b = (tree_of(V, W, 4, (12, 5)) for _ in range(2))
    assert np.array_equal(a.pairs, b.pairs)
    assert np.array_equal(a.losses, b.losses)
    for one, other in zip(a.levels, b.levels, strict=True):
        assert torch.equal(one.W, other.W)
        assert np.array_equal(one.shares, other.shares, equal_nan=True)


def test_every_parent_has_a_child_whatever_there_is() -> None:
    rng = np.random.default_rng(0)
    W = torch.from_numpy(np.repeat(rng.random((20, 3)), 5, axis=1)).float()  # five of each
    V = torch.from_numpy(rng.random((300, 15))).float() @ W.T
    V[:50] = 0
    tree = tree_of(V, W, 3, (9, 4))
    assert [each.n for each in tree.levels] == [15, 9, 4]
    for n in (9, 4):
        assert len(np.unique(nmf.cut_tree(tree, n).of_leaf)) == n


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_concepts_have_a_tree_too(k: int) -> None:
    rng = np.random.default_rng(k)
    W = torch.from_numpy(rng.random((10, k))).float()
    V = torch.from_numpy(rng.random((100, k))).float() @ W.T
    tree = tree_of(V, W, None, nmf.level_sizes(k))
    assert len(tree.pairs) == k - 1
    assert nmf.cut_tree(tree, 1).W.shape == (10, 1)


def test_measured_on_other_positions_shares_are_those_of_a_count() -> None:
    V, W, _ = planted()
    others, _, _ = planted(9)
    tree = nmf.measured(tree_of(V, W, 4, (N_GROUPS,)), [others[:1_500], others[1_500:]], 4)
    fine, coarse = (
        Pursuit.of(each.W, 4).codes(others).dense(torch.empty(len(others), each.n))
        for each in tree.levels
    )
    above = nmf.level_parents(tree, 0)
    for leaf in range(tree.k):
        h = fine[:, leaf].double() ** 2
        expected = float(h[coarse[:, above[leaf]] > 0].sum() / h.sum())
        assert tree.levels[0].shares[leaf] == pytest.approx(expected, abs=1e-6)
    back = fine @ tree.levels[0].W.T
    error = float((others - back).norm() / others.norm())
    assert tree.levels[0].heldout_error == pytest.approx(error, abs=1e-4)
    assert nmf.measured(tree, [], 4) is tree


def test_levels_are_a_factor_of_four_apart_and_end_well_below_the_leaves() -> None:
    assert nmf.level_sizes(512) == (128, 32, 8)
    assert nmf.level_sizes(1_024) == (128, 32, 8)
    assert nmf.level_sizes(32) == (8,)
    assert nmf.level_sizes(20) == ()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**16))
def test_nodes_of_a_number_are_what_its_mergers_leave(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alive, pairs = list(range(k)), []
    for step in range(k - 1):
        a, b = rng.choice(len(alive), 2, replace=False)
        pair = (alive[a], alive[b])
        pairs.append(pair)
        alive = [each for each in alive if each not in pair] + [k + step]
        found = nmf.nodes_at(np.array(pairs + [(0, 0)] * (k - 1 - len(pairs))), k - step - 1)
        assert sorted(alive) == found.tolist()


def test_forbidden_concepts_are_not_taken_up_whatever_they_would_explain() -> None:
    V, W, parent = planted()
    allowed = torch.from_numpy(parent < 3)
    every = Pursuit.of(W, 4).codes(V, allowed.expand(len(V), -1)).dense(torch.empty(len(V), 24))
    assert not every[:, ~allowed].any()
    alone = Pursuit.of(W[:, allowed], 4).codes(V).dense(torch.empty(len(V), int(allowed.sum())))
    assert torch.allclose(every[:, allowed], alone, atol=1e-4)


def test_parts_of_a_sample_that_are_read_one_by_one_sum_to_the_same() -> None:
    V, W, _ = planted()
    coarse = merge(W, both_of(V, W, None, 4).fine, 6)
    above = _nearest(W, coarse, both_of(V, W, coarse, 4))
    whole = sum_of([V], W, coarse, 4, above)
    parts = sum_of([V[:700].half(), V[700:]], W, coarse, 4, above)
    assert torch.allclose(whole.fine.HHt, parts.fine.HHt, rtol=2e-2, atol=1.0)
    assert np.allclose(whole.beside, parts.beside, rtol=2e-2, atol=1.0)


def test_leaves_descend_on_shortened_positions() -> None:
    V, W, _ = planted()
    coarse = merge(W, both_of(V, W, None, 4).fine, 6)
    above = _nearest(W, coarse, both_of(V, W, coarse, 4))
    allowed = (nmf.encode(V, coarse, active=4) > 0)[:, torch.from_numpy(above)]
    short = nmf.shortened(V, nmf.power_of(4))
    H = Pursuit.of(W, 4).codes(short, allowed).dense(torch.empty(len(V), 24))
    found = both_of(V, W, coarse, 4, above).leaves
    assert torch.allclose(found.HHt, (H.T @ H).double(), rtol=1e-3, atol=1e-2)
    assert torch.allclose(found.VHt, (short.T @ H).double(), rtol=1e-3, atol=1e-2)
