"""A run at any number of concepts: cuts through its tree are runs, of no fit or forward pass."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pipeline
from pipeline import nmf
from pipeline.analysis.report import summary
from pipeline.analysis.run import open_run as open_alone
from pipeline.errors import UserError
from pipeline.jobs import extract as extraction
from pipeline.jobs import other_number
from pipeline.runs.fit import FitData, k_tree
from pipeline.runs.integrity import verify
from pipeline.sample import write_sample
from pipeline.store import read_bank, write_bank
from pipeline.system import files

K = 26  # the level above is of 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("numbers")
    write_sample(where / "sample", n_images=32)
    images = where / "sample" / "images"
    return pipeline.discover(images, model="sample", k=K, run=where / "run").folder


@pytest.fixture(scope="module")
def five(folder: Path) -> Path:
    return pipeline.open_run(folder).at(5).folder


@pytest.fixture(autouse=True)
def _no_forward_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("a shard was extracted")

    monkeypatch.setattr(extraction, "_run_shards", refuse)


def test_the_table_says_which_concepts_there_are_at_every_number(folder: Path) -> None:
    run = pipeline.open_run(folder)
    for n in range(1, K + 1):
        there = run.sql("from concept_tree where ? between n_least and n_most", [n])
        assert len(there) == n
        assert there["n_leaves"].sum() == K
    tree = run.table("concept_tree").set_index("concept_id")
    at_eight = tree.index[(tree["n_least"] <= 8) & (tree["n_most"] >= 8)]
    assert (tree.loc[at_eight, "level"] == np.where(at_eight < K, K, 8)).all()
    assert tree["level"].count() == K + (at_eight >= K).sum()
    leaves = tree.loc[: K - 1]
    assert leaves["energy"].to_numpy() == pytest.approx(run.table("concepts")["energy"].to_numpy())
    assert leaves["name"].equals(run.table("concepts")["name"].rename_axis("concept_id"))
    assert set(leaves["parent_id"].dropna()) == set(at_eight[at_eight >= K])
    assert set(leaves.index[leaves["parent_id"].isna()]) == set(at_eight[at_eight < K])
    assert leaves["share"].between(0, 1).all()
    assert (leaves["of_several"] == (leaves["share"] < 0.9)).all()
    last = tree.iloc[-1]
    assert pd.isna(last["merged_into"])
    assert (last["n_least"], last["n_leaves"]) == (1, K)
    for node, row in zip(range(2 * K - 1), tree.to_dict("records"), strict=True):
        if node >= K:
            made_of = tree[tree["merged_into"] == node]
            assert len(made_of) == 2
            assert row["energy"] == pytest.approx(made_of["energy"].sum())


def test_what_every_level_keeps_of_activations_and_answers_is_told(folder: Path) -> None:
    run = pipeline.open_run(folder)
    eight, every = run.table("concept_levels").to_dict("records")
    assert (eight["n_concepts"], every["n_concepts"]) == (8, K)
    assert eight["heldout_error"] > every["heldout_error"]
    assert every["heldout_error"] == pytest.approx(run.workspace.bank.heldout_error, 1e-3)
    own = run.sql("from fidelity where class_id is null").to_dict("records")
    for metric in ("agreement", "kl"):
        (row,) = (each for each in own if each["metric"] == metric)
        assert (every[metric], every["n_images"]) == (row["value"], row["n"])
        assert eight["n_images"] == row["n"]
    assert set(run.table("fidelity")["k"]) == {K}
    tree = run.workspace.bank.tree
    assert tree is not None
    measured = run.meaning.fidelity(8, banks={"level": tree.levels[1].W.numpy()})
    of_all = measured[measured["class_id"].isna()].set_index("metric")["value"]
    assert eight["agreement"] == pytest.approx(float(of_all["agreement_level"]), abs=1e-6)
    assert "concepts by number, of held-out images: 8 explain" in summary(run)


def test_a_cut_is_a_run_of_its_concepts(folder: Path, five: Path) -> None:
    run, whole = pipeline.open_run(five), pipeline.open_run(folder)
    nodes = run.table("concepts")["node"]
    there = whole.sql("from concept_tree where 5 between n_least and n_most")
    assert sorted(nodes) == sorted(there["concept_id"])
    tree = whole.workspace.bank.tree
    assert tree is not None
    cut = nmf.cut_tree(tree, 5)
    ours = run.workspace.bank.W
    for column, node in enumerate(nodes):
        w = cut.W[:, cut.nodes.tolist().index(node)].numpy()
        cosine = w @ ours[:, column] / np.linalg.norm(w) / np.linalg.norm(ours[:, column])
        assert cosine == pytest.approx(1, abs=1e-6)
    assert run.workspace.bank.tree is not None
    assert verify(five).is_whole
    assert "5 concepts of sample" in summary(run)
    for path in (folder / "activations").glob("shard-*"):
        assert (five / "activations" / path.name).stat().st_ino == path.stat().st_ino


def test_where_a_merged_concept_is_there_are_its_parts(folder: Path, five: Path) -> None:
    run, whole = pipeline.open_run(five), pipeline.open_run(folder)
    tree = whole.workspace.bank.tree
    assert tree is not None
    cut = nmf.cut_tree(tree, 5)
    lengths = np.linalg.norm(whole.workspace.bank.W, axis=0)
    seen = []
    for concept, node in enumerate(run.table("concepts")["node"]):
        parts = np.flatnonzero(cut.of_leaf == cut.nodes.tolist().index(node))
        for image in run.table("images")["image_id"][:24]:
            merged = run.grid_heatmap(image)[concept].ravel()
            summed = (whole.grid_heatmap(image)[parts] * lengths[parts, None, None]).sum(0).ravel()
            if merged.std() > 0.05:
                seen.append(np.corrcoef(merged, summed)[0, 1])
    assert len(seen) > 20
    assert np.median(seen) > 0.8


def test_what_is_there_is_not_made_again(
    folder: Path, five: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise AssertionError("it was made again")

    monkeypatch.setattr(other_number, "execute", refuse)
    run = pipeline.open_run(folder)
    assert run.at(5).folder == five
    assert run.at(K) is run


def test_numbers_that_there_are_not_are_refused(folder: Path) -> None:
    run = pipeline.open_run(folder)
    with pytest.raises(UserError, match=f"is more than the {K} concepts"):
        run.at(K + 1)
    with pytest.raises(UserError, match="a whole number from 1 upward"):
        run.at(0)
    with pytest.raises(UserError, match="open_run"):
        open_alone(folder).at(5)
    assert not folder.with_name(f"run-at-{K + 1}").exists()


@pytest.mark.parametrize("name", ["k", "seed", "active", "objective", "transform", "balance"])
def test_what_decides_a_fit_says_nothing_of_a_cut(folder: Path, tmp_path: Path, name: str) -> None:
    value: dict[str, Any] = {"k": 5, "seed": 1}
    with pytest.raises(UserError, match="takes the concepts of a tree as they are"):
        pipeline.discover(
            from_run=folder, at=5, run=tmp_path / "x", **{name: value.get(name, "none")}
        )
    assert not (tmp_path / "x").exists()


def test_a_number_of_a_tree_needs_a_run_that_has_it(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=4)
    with pytest.raises(UserError, match="name it by from_run"):
        pipeline.discover(tmp_path / "sample" / "images", model="sample", at=5, run=tmp_path / "r")


@pytest.mark.slow
def test_a_run_of_another_kind_in_its_place_is_left_alone(folder: Path) -> None:
    other = folder.with_name("run-at-4")
    pipeline.discover(from_run=folder, k=4, run=other)
    before = files.size(other)
    with pytest.raises(UserError, match="not of the tree of"):
        pipeline.open_run(folder).at(4)
    assert files.size(other) == before
    pipeline.clean(other)


def test_of_a_run_that_was_fitted_anew_the_earlier_cut_is_not_taken(
    folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    made = pipeline.open_run(source).at(3).folder
    assert made == tmp_path / "source-at-3"
    bank = source / "bank" / "bank.h5"
    again = read_bank(bank)
    bank.unlink()
    write_bank(bank, replace(again, W=again.W * 2))
    (source / "bank" / "bank.json").unlink()
    with pytest.raises(UserError, match=r"had before it was fitted anew; clean\("):
        pipeline.open_run(source).at(3)
    with pytest.raises(UserError, match="had before it was fitted anew"):
        pipeline.discover(from_run=source, at=3, run=made)
    pipeline.clean(made)
    assert not made.exists()


@pytest.mark.slow
def test_it_is_made_again_of_the_same_tree_and_of_no_other(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(folder, source)
    made = pipeline.discover(from_run=source, at=3, run=tmp_path / "three").folder
    W = read_bank(made / "bank" / "bank.h5").W
    (made / "bank" / "bank.h5").unlink()
    again = pipeline.discover(run=made)
    assert np.array_equal(again.workspace.bank.W, W)
    (made / "bank" / "bank.h5").unlink()
    (source / "bank" / "bank.h5").unlink()
    with pytest.raises(UserError, match=r"the 3 concepts of .* which is not there"):
        pipeline.discover(run=made)


@pytest.mark.slow
def test_a_run_from_a_cut_is_fitted_and_has_a_tree_of_its_own(five: Path, tmp_path: Path) -> None:
    run = pipeline.discover(from_run=five, k=3, run=tmp_path / "three")
    assert (run.workspace.config.at, run.workspace.record.tree_of) == (None, None)
    assert run.table("concepts")["node"].isna().all()
    assert len(run.table("concept_tree")) == 5
    two = pipeline.open_run(five).at(2)
    assert sorted(two.table("concepts")["node"]) == sorted(
        pipeline.open_run(five).sql("from concept_tree where 2 between n_least and n_most")[
            "concept_id"
        ]
    )


@pytest.mark.slow
def test_as_many_as_images_carry(folder: Path, tmp_path: Path) -> None:
    run = pipeline.discover(from_run=folder, k="tree", run=tmp_path / "tree")
    assert run.workspace.bank.k == 8  # of fewer than 32 images to fit
    data = FitData(run.workspace.activations, run.workspace.ids("fit"))
    assert [
        k_tree(replace(data, fit_ids=frozenset(range(n)))) for n in (1, 6, 8, 31, 500, 10**5)
    ] == [1, 6, 8, 8, 128, 512]
