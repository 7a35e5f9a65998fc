"""Scores of localization: in closed form, and against scikit-learn."""

from __future__ import annotations

import contextlib
import io
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from benchmarks import partitions
from pipeline.analysis.evaluate import Evaluation, part_scores, score
from pipeline.analysis.truth import Truth, find_truth, match_truth, read_truth
from pipeline.errors import UserError
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
    assert found == {"j": 0.5, "precision": 0.92, "corloc": 1.0}
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


def test_truth_is_read_as_masks_labels_or_boxes(tmp_path: Path) -> None:
    labels = np.zeros((6, 8), np.uint8)
    labels[1:3, 2:5] = 7
    folder = tmp_path / "masks" / "some"
    folder.mkdir(parents=True)
    Image.fromarray(labels).save(folder / "a.png")
    Image.fromarray(np.stack([labels * 30] * 3, axis=-1)).save(folder / "b.png")
    Image.fromarray(labels > 0).save(folder / "c.png")
    (folder / "d.png").write_text("no picture")
    known = find_truth(tmp_path / "masks")
    assert sorted(known) == ["some/a", "some/b", "some/c", "some/d"]
    for name, value in (("a", 7), ("b", 1), ("c", 1)):
        truth = read_truth(known[f"some/{name}"], (8, 6))
        assert truth.labels is not None
        assert truth.boxes == [(2, 1, 5, 3)]
        assert truth.labels.max() == value
    with pytest.raises(UserError, match="is 8 × 6 pixels, its image is 9 × 6"):
        read_truth(known["some/a"], (9, 6))
    with pytest.raises(UserError, match="cannot be read as a mask"):
        read_truth(known["some/d"], (8, 6))
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("path,x0,y0,x1,y1\nsome/a.jpg,1,2,3,4\nsome/a.jpg,5,6,7,8\n")
    both = [(1, 2, 3, 4), (5, 6, 7, 8)]
    assert find_truth(boxes) == {"some/a": both, "some/a.jpg": both}
    boxes.write_text("path,x0,y0,x1\nsome/a.jpg,1,2,3\n")
    with pytest.raises(UserError, match="neither a folder of masks nor a CSV"):
        find_truth(boxes)
    with pytest.raises(UserError, match="neither a folder of masks nor a CSV"):
        find_truth(tmp_path / "missing")


@pytest.mark.parametrize(
    "row",
    [
        "a.jpg,5,2,5,8",  # no width
        "a.jpg,1,8,3,2",  # upside down
        "a.jpg,-1,2,3,4",
        "a.jpg,1.5,2,3,4",
        "a.jpg,1,,3,4",
        "a.jpg,1,2,inf,4",
        ",1,2,3,4",
        ".,1,2,3,4",
    ],
)
def test_what_is_no_box_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"path,x0,y0,x1,y1\nsome/a.jpg,0,0,3,4\n{row}\n")
    with pytest.raises(UserError, match=r"line 3: .* is no box"):
        find_truth(boxes)


def test_a_mask_is_that_of_one_image(tmp_path: Path) -> None:
    mask = Image.fromarray(np.ones((4, 4), np.uint8))
    (tmp_path / "scene").mkdir()
    for name in ("scene/1.0.png", "scene/1.1.png", "whole.png"):
        mask.save(tmp_path / name)
    known = find_truth(tmp_path)
    images = ["scene/1.0.jpg", "scene/1.1.jpg", "other.jpg", "whole.webp"]
    assert {image: Path(str(mask)).name for image, mask in match_truth(known, images).items()} == {
        "scene/1.0.jpg": "1.0.png",
        "scene/1.1.jpg": "1.1.png",
        "whole.webp": "whole.png",
    }
    with pytest.raises(UserError, match=r"whole\.png is named as two images, whole\.jpg and whole"):
        match_truth(known, ["whole.jpg", "whole.png"])
    (tmp_path / "whole.json").write_text("{}")  # lies there too, and is no mask
    assert find_truth(tmp_path) == known
    mask.save(tmp_path / "whole.tif")
    with pytest.raises(UserError, match="are named as the same image; keep one"):
        find_truth(tmp_path)


def test_boxes_are_of_the_path_they_name_before_that_without_its_ending(tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    rows = ["a.jpg,0,0,1,1", "a.png,0,0,2,2", "b,0,0,3,3", "d.jpg,0,0,4,4", "e.01,0,0,5,5"]
    boxes.write_text("\n".join(["path,x0,y0,x1,y1", *rows]))
    images = ["a.png", "a.jpg", "a.webp", "b.gif", "c.gif", "d.jpg", "d.png", "e.jpg", "e.01.png"]
    assert match_truth(find_truth(boxes), images) == {
        "a.png": [(0, 0, 2, 2)],
        "a.jpg": [(0, 0, 1, 1)],
        "b.gif": [(0, 0, 3, 3)],
        "d.jpg": [(0, 0, 4, 4)],
        "e.01.png": [(0, 0, 5, 5)],
    }


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_a_damaged_mask_is_one_sentence(tmp_path: Path, kind: str) -> None:
    whole = io.BytesIO()
    Image.fromarray(np.eye(40, dtype=np.uint8) * 200).save(whole, kind)
    data, rng = whole.getvalue(), np.random.default_rng(0)
    for _ in range(200):
        bad = bytearray(data[: int(rng.integers(1, len(data) + 1))])
        for place in rng.integers(0, len(bad), 3):
            bad[place] = int(rng.integers(256))
        (tmp_path / "mask").write_bytes(bad)
        with contextlib.suppress(UserError):
            assert read_truth(tmp_path / "mask", (40, 40)).labels is not None


def test_a_huge_mask_is_refused_undecoded(tmp_path: Path) -> None:
    Image.new("1", (9_000, 9_000)).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match="is 9000 × 9000 pixels, its image is 9 × 6"):
        read_truth(tmp_path / "mask.png", (9, 6))


def test_scores_are_summed_up_by_label() -> None:
    images = pd.DataFrame(
        {
            "label": ["a", "a", None],
            "j": [0.2, 0.4, 0.9],
            "precision": [1.0, 0.5, 0.0],
            "corloc": [0.0, 1.0, 1.0],
        }
    )
    found = Evaluation(images, {}, np.zeros((1, 1, 3), np.uint8)).by_label()
    assert found["label"].tolist() == ["a", "all"]
    assert found["images"].tolist() == [2, 3]
    assert found["j"].tolist() == pytest.approx([0.3, 0.5])


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
