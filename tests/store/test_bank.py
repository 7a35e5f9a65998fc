"""Banks: what is said of how sure concepts are comes back from the file, and may be missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.nmf import Level, Reappearance, Tree
from pipeline.store import read_bank, write_bank
from tests.classify.fixture import make_bank

SURE = Reappearance(
    np.array([0.9, 0.2, np.nan]),
    np.array([0.8, 0.1, np.nan]),
    np.array([1.0, 0.7, np.nan]),
    np.array([[-1, -1], [0, 2], [-1, -1]]),
)


def test_how_sure_concepts_are_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "bank" / "bank.h5"
    write_bank(path, replace(make_bank(8, 3), reappearance=SURE))
    found = read_bank(path).reappearance
    assert found is not None
    for name, value in vars(SURE).items():
        assert np.array_equal(getattr(found, name), value, equal_nan=value.dtype.kind == "f")


def test_a_bank_of_an_earlier_version_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "bank" / "bank.h5"
    write_bank(path, make_bank(8, 3))
    with h5py.File(path, "r+") as file:
        file.attrs["encoding-version"] = "1.2"
    assert read_bank(path).reappearance is None


def a_tree(k: int = 5) -> Tree:
    rng = np.random.default_rng(0)
    pairs = np.array([[0, 3], [1, 2], [5, 4], [7, 6]])
    levels = (
        Level(torch.from_numpy(make_bank(8, k).W), np.arange(k), rng.random(k), 0.4, 0.41),
        Level(torch.rand(8, 3), np.array([4, 5, 6]), np.array([1, np.nan, 0.5]), 0.5),
        Level(torch.rand(8, 2), np.array([6, 7]), np.full(2, np.nan), 0.6, 0.61),
    )
    return Tree(pairs, rng.random(k - 1), torch.rand(8, k - 1), levels)


def test_a_tree_is_kept(tmp_path: Path) -> None:
    path, tree = tmp_path / "bank" / "bank.h5", a_tree()
    write_bank(path, replace(make_bank(8, 5), tree=tree, taken_nodes=np.array([4, 9, 2, 7, 1])))
    bank = read_bank(path)
    found = bank.tree
    assert found is not None
    assert bank.taken_nodes is not None
    assert bank.taken_nodes.tolist() == [4, 9, 2, 7, 1]
    assert np.array_equal(found.pairs, tree.pairs)
    assert np.array_equal(found.losses, tree.losses)
    assert torch.equal(found.joined, tree.joined)
    for a, b in zip(found.levels, tree.levels, strict=True):
        assert torch.equal(a.W, b.W)
        assert np.array_equal(a.nodes, b.nodes)
        assert np.array_equal(a.shares, b.shares, equal_nan=True)
        assert (a.error, str(a.heldout_error)) == (b.error, str(b.heldout_error))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("pairs", [[0, 3], [1, 2], [5, 4], [7, 9]], "merges concepts that are not there"),
        ("pairs", [[0, 3], [1, 3], [5, 4], [7, 6]], "merges concepts that are not there"),
        ("nodes", [0, 1, 2, 3, 4, 4, 5, 7, 6, 7], "other concepts at 3"),
        ("sizes", [5, 2, 3], "other concepts at 2|its levels are"),
        ("sizes", [4, 3, 3], "its tree is of 5 concepts"),
    ],
)
def test_what_is_no_tree_is_refused(
    tmp_path: Path, name: str, value: list[int], words: str
) -> None:
    path = tmp_path / "bank" / "bank.h5"
    write_bank(path, replace(make_bank(8, 5), tree=a_tree()))
    with h5py.File(path, "r+") as file:
        file[f"tree/{name}"][...] = np.array(value)
    with pytest.raises(UserError, match=words):
        read_bank(path)


def test_partners_are_concepts_of_the_bank(tmp_path: Path) -> None:
    path = tmp_path / "bank" / "bank.h5"
    far = replace(SURE, partners=np.array([[-1, -1], [0, 3], [-1, -1]]))
    write_bank(path, replace(make_bank(8, 3), reappearance=far))
    with pytest.raises(UserError, match="comes back with concept 3 of 3"):
        read_bank(path)
