"""Scores of localization: in closed form, and against scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    adjusted_rand_score,
    average_precision_score,
    normalized_mutual_info_score,
    precision_recall_curve,
)

from benchmarks import partitions
from pipeline.analysis.evaluate import part_scores, score
from pipeline.analysis.evaluation import Evaluation
from pipeline.localize import alignment
from pipeline.localize.alignment import align, average_precision, summary
from pipeline.localize.saliency import max_f, mean_absolute_error, precision_and_recall
from pipeline.localize.scores import (
    adjusted_rand_index,
    box_iou,
    box_of,
    contingency,
    iou,
    match_parts,
    normalized_mutual_information,
    strongest,
)
from pipeline.truth import Truth


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
def test_partitions_are_compared_as_scikit_learn_does(seed: int, a: int, b: int) -> None:
    rng = np.random.default_rng(seed)
    found, truth = rng.integers(0, a, 50), rng.integers(0, b, 50)
    truth = np.where(rng.random(50) < 0.5, found % b, truth)
    table = contingency(found[:20], truth[:20], a, b) + contingency(found[20:], truth[20:], a, b)
    assert table.sum() == 50
    nmi, ari = normalized_mutual_information(table), adjusted_rand_index(table)
    assert nmi == pytest.approx(normalized_mutual_info_score(truth, found), abs=1e-9)
    assert ari == pytest.approx(adjusted_rand_score(truth, found), abs=1e-9)


def test_boxes_are_of_the_largest_region() -> None:
    mask = np.zeros((10, 20), bool)
    assert box_of(mask) is None
    mask[1, 1] = True
    mask[4:8, 5:9] = True
    assert box_of(mask) == (5, 4, 9, 8)
    assert box_iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(2 / 6)
    assert box_iou((0, 0, 2, 2), (2, 0, 3, 2)) == 0
    assert box_iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1


def test_a_mask_is_scored() -> None:
    labels = np.zeros((10, 10), np.int64)
    labels[2:6, 2:6] = 3
    mask = np.zeros((10, 10), bool)
    mask[2:6, 2:4] = True
    found = score(mask, Truth(labels, [(2, 2, 6, 6)]))
    assert np.isnan(found.pop("mae"))
    assert found == {"j": 0.5, "precision": 0.92, "corloc": 1.0}
    void = np.zeros((10, 10), bool)
    void[:, 4:] = True
    assert score(mask, Truth(labels, [], void)) | {"mae": 0} == {
        "j": 1.0, "precision": 1.0, "corloc": 0.0, "mae": 0,
    }  # fmt: skip
    assert score(mask, Truth(labels, [(2, 2, 9, 9)]))["corloc"] == 0
    by_box = score(mask, Truth(None, [(8, 8, 9, 9), (2, 2, 4, 6)]))
    assert by_box["corloc"] == 1
    assert np.isnan(by_box["j"])
    assert score(np.zeros((10, 10), bool), Truth(labels, [(2, 2, 6, 6)]))["corloc"] == 0


def test_parts_are_pooled_over_images() -> None:
    truth = np.array([[0, 0, 19, 19], [4, 4, 4, 4]])
    same = np.array([[2, 2, 1, 1], [0, 0, 0, 0]])
    perfect = part_scores([(same, truth), (same, truth)])
    assert perfect == pytest.approx({"nmi": 1, "ari": 1, "fg_nmi": 1, "fg_ari": 1})
    merged = np.array([[1, 1, 1, 1], [0, 0, 0, 0]])
    half = part_scores([(merged, truth)])
    assert half["fg_nmi"] == pytest.approx(1)  # background counts only over whole images
    assert half["nmi"] < 1
    assert part_scores([(same, (truth > 0).astype(np.int64))]) == {}
    assert part_scores([]) == {}


def test_scores_are_summed_up_by_label() -> None:
    images = pd.DataFrame(
        {
            "label": ["a", "a;b", None],
            "labels": [("a",), ("a", "b"), ()],
            "j": [0.2, 0.4, 0.9],
            "precision": [1.0, 0.5, 0.0],
            "corloc": [0.0, 1.0, 1.0],
            "mae": [0.1, 0.3, 0.2],
        }
    )
    found = Evaluation(images, {}, np.zeros((1, 1, 3), np.uint8)).by_label()
    assert found["label"].tolist() == ["a", "b", "all"]
    assert found["images"].tolist() == [2, 1, 3]
    assert found["j"].tolist() == pytest.approx([0.3, 0.4, 0.5])


def test_peers_divide_as_they_say() -> None:
    rng = np.random.default_rng(0)
    H = rng.random((3, 6, 6, 4), np.float32)
    winners = strongest(np.moveaxis(H, -1, 1))
    assert (partitions.per_image(H).argmax(-1) == winners.argmax(1)).all()
    V = np.zeros((2, 5, 5, 3), np.float32)
    V[:, :2, :, 0], V[:, 2:, :, 2] = 4, 3
    two = partitions.kmeans(V, 2)
    assert (two.sum(-1) == 1).all()
    assert sorted(two.sum((0, 1, 2)).tolist()) == [20, 30]
    # Rows 0 and 1 lie along one axis, the rest along another: each is one singular vector.
    both = partitions.singular(V, 2)
    assert both.shape == (2, 5, 5, 4)
    lengths = (both**2).sum(-1)
    assert lengths == pytest.approx((V**2).sum(-1), rel=1e-4)
    assert ((both > 1e-3).sum(-1) == 1).all()


def test_masks_are_compared_by_what_they_share() -> None:
    found, truth = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    assert iou(found, truth) == 1
    found[0] = truth[:2] = True
    assert iou(found, truth) == iou(truth, found) == 0.5
    assert iou(found, ~truth) == 0


def test_boxes_that_share_a_side_or_nothing_share_no_area() -> None:
    box = (3, 5, 9, 13)
    assert box_iou(box, (7, 11, 10, 20)) == pytest.approx(4 / (48 + 27 - 4))
    for apart in ((9, 5, 12, 13), (3, 13, 9, 14), (9, 13, 10, 14), (20, 30, 21, 31)):
        assert box_iou(box, apart) == box_iou(apart, box) == 0
    assert box_iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0  # nothing, and nothing shared


def test_nothing_or_one_position_is_divided_alike() -> None:
    for table in (np.zeros((2, 2), np.int64), np.array([[1]])):
        assert normalized_mutual_information(table) == 1
        assert adjusted_rand_index(table) == 1


def test_parts_are_matched_on_some_images_and_scored_on_the_others() -> None:
    """By every one-to-one matching there is: the best total where chosen, scored elsewhere."""
    rng = np.random.default_rng(3)
    part_ids, k = [2, 5, 7], 4
    parts = rng.choice([0, *part_ids], (6, 5, 8)).astype(np.uint8)
    concepts = rng.random((6, k, 5, 8)) < 0.3
    # Another concept stands for a part in the images scored than in those chosen.
    choose = np.array([True, True, False, True, False, False])
    concepts[choose, 1] |= parts[choose] == 7
    concepts[~choose, 2] |= parts[~choose] == 7
    found = match_parts(concepts, parts, part_ids, choose)

    def pooled(images: NDArray[np.bool_], concept: int, part: int) -> float:
        return iou(concepts[images, concept], parts[images] == part)

    best = max(
        itertools.permutations(range(k), len(part_ids)),
        key=lambda order: sum(
            pooled(choose, concept, part) for concept, part in zip(order, part_ids, strict=True)
        ),
    )
    assert best[2] == 1
    expected = {
        part: pooled(~choose, concept, part) for concept, part in zip(best, part_ids, strict=True)
    }
    assert found.ious == pytest.approx(expected, abs=1e-12)
    assert found.mean == pytest.approx(sum(expected.values()) / 3)


def test_a_part_without_a_concept_scores_nothing() -> None:
    parts = np.tile(np.array([[1, 2, 0]], np.uint8), (2, 1, 1))
    concepts = (parts == 2)[:, None]
    found = match_parts(concepts, parts, [1, 2], np.array([True, False]))
    assert found.ious == {1: 0.0, 2: 1.0}
    assert found.mean == 0.5
    # A part that is in no image has nothing in common with an empty concept either.
    nothing = match_parts(concepts & False, parts, [9], np.array([True, False]))
    assert nothing.ious == {9: 0.0}


def test_the_strongest_map_is_so_after_scaling_each_by_its_own_range() -> None:
    maps = np.zeros((2, 2, 2, 2), np.float32)
    maps[0, 0] = [[10.0, 11.0], [12.0, 14.0]]
    maps[0, 1] = [[0.0, 1.0], [0.4, 0.9]]
    found = strongest(maps)
    assert found[0, 1].tolist() == [[False, True], [False, False]]
    assert (found.sum(axis=1) == 1).all()
    assert found[1, 0].all()  # where nothing is stronger, the first


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 5))
def test_average_precision_is_scikit_learns(seed: int, n: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    strength = rng.integers(0, 10**levels, (n, 4)).astype(np.float32)  # equal ones, too
    members = rng.random((n, 3)) < 0.4
    members[rng.integers(n, size=3), range(3)] = True
    expected = [
        [average_precision_score(member, strength[:, each]) for member in members.T]
        for each in range(4)
    ]
    for values in (2**22, 1):  # all labels at once, and one after the other
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(alignment, "VALUES", values)
            found = average_precision(strength, members)
        assert found == pytest.approx(np.array(expected), abs=1e-9)


def test_a_concept_of_each_label_is_chosen_on_one_half_and_scored_on_the_other() -> None:
    rng = np.random.default_rng(0)
    n = 400
    members = np.eye(4, dtype=bool)[rng.integers(0, 4, n)]
    strength = rng.random((n, 6)).astype(np.float32)
    strength[:, 5] += members[:, 0]  # tells the first label always,
    choose = rng.random(n) < 0.5
    strength[:, 2] += members[:, 1] & choose  # and this one the second where concepts are chosen
    found = align(strength, members, ["a", "b", "c", "d"], choose, "label")
    assert found["concept_id"].tolist()[:2] == [5, 2]
    assert found["ap"][0] == found["purity"][0] == 1
    assert found["ap"][1] < 0.4
    assert found["n"].tolist() == members[~choose].sum(0).tolist()
    scores = summary(found)
    assert scores["mAP"] == pytest.approx(found["ap"].mean())
    assert scores["coverage@0.3"] == (found["ap"] >= 0.3).mean()
    assert scores["purity@16"] == pytest.approx(found["purity"].mean())
    rare = members & (np.arange(n) < 40)[:, None]  # of fewer than sixteen
    found = align(members.astype(np.float32), rare, ["a", "b", "c", "d"], choose, "label")
    assert (found["n"] < 16).all() and (found["purity"] >= found["n"] / 16).all()
    alone = align(strength, members & choose[:, None], ["a", "b", "c", "d"], choose, "label")
    assert alone.empty
    assert summary(alone) == {}


def test_saliencys_measures_are_as_defined() -> None:
    rng = np.random.default_rng(1)
    S = np.rint(rng.random((5, 12, 9)) * 255).astype(np.float32) / 255
    G = rng.random((5, 12, 9)) < S  # strong where the object is, mostly
    assert mean_absolute_error(S[0], G[0]) == pytest.approx(np.abs(S[0] - G[0]).mean())
    curves = [precision_and_recall(s, g) for s, g in zip(S, G, strict=True)]
    for s, g, curve in zip(S, G, curves, strict=True):
        assert curve is not None
        precision, recall, thresholds = precision_recall_curve(g.ravel(), s.ravel())
        places = np.rint(thresholds * 255).astype(int)
        assert curve[0][places] == pytest.approx(precision[:-1])
        assert curve[1][places] == pytest.approx(recall[:-1])
    p, r = (np.mean([curve[part] for curve in curves if curve], 0) for part in (0, 1))
    assert max_f([curve for curve in curves if curve]) == pytest.approx(
        np.nanmax(1.3 * p * r / (0.3 * p + r))
    )
    exact = precision_and_recall(G[0].astype(np.float32), G[0])
    assert exact is not None
    assert max_f([exact]) == 1
    assert precision_and_recall(S[0], G[0] & False) is None
    assert np.isnan(max_f([]))
