"""Objects: which concepts are foreground, the finer layer, the image's edges, in closed form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.images import Grid, between_grids
from pipeline.localize import (
    FineForeground,
    FineModel,
    Kin,
    Whitening,
    WinnersFit,
    affinities,
    centred,
    find_kin,
    fit_fine,
    fit_foreground,
    fit_whitening,
    of_parts,
    refine,
    stack_layers,
    to_parts,
    unit_length,
    working_shape,
)
from pipeline.localize.fine_model import HALO
from pipeline.localize.finer import RIDGE
from pipeline.localize.foreground import WIDTH, border, otsu
from pipeline.localize.scores import iou
from pipeline.localize.winners import SHARPNESS

N = 12
Maps = NDArray[np.float32]


def scenes(n: int = 40, seed: int = 0) -> tuple[Maps, NDArray[np.bool_]]:
    """Heatmaps of four concepts: two parts of an object, a halo around it, the background."""
    rng = np.random.default_rng(seed)
    H = np.zeros((n, N, N, 4), np.float32)
    masks = np.zeros((n, N, N), bool)
    for index in range(n):
        y, x = rng.integers(1, 6, 2)
        masks[index, y : y + 5, x : x + 5] = True
        H[index, y : y + 2, x : x + 5, 0] = rng.uniform(0.8, 1.2)
        H[index, y + 2 : y + 5, x : x + 5, 1] = rng.uniform(0.8, 1.2)
    H[..., 2] = 0.1 * masks
    H[..., 3] = ~masks * rng.uniform(0.8, 1.2, (n, N, N)).astype(np.float32)
    return H, masks


def test_what_lies_along_the_border_is_background() -> None:
    H, masks = scenes()
    found = fit_foreground(H, [("a",)] * len(H), np.eye(4, dtype=np.float32))
    assert found.groups == ("a",)
    assert found.shares.shape == (2, 4)
    assert (found.shares[:, :2] > 0.8).all()
    assert (found.shares[:, 3] == 0).all()
    strength = found.maps(H, [("a",)] * len(H))
    assert ((strength >= found.threshold) == masks).all()
    # In closed form: s_j = 1 - (b_j / i_j) / max(b / i).
    edge = border(N, N)
    ratio = H[:, edge].mean((0, 1)) / H[:, ~edge].mean((0, 1))
    assert found.shares[0] == pytest.approx(1 - ratio / ratio[3], abs=1e-6)


def test_strength_is_the_length_of_the_foreground_part() -> None:
    rng = np.random.default_rng(0)
    H, W = rng.random((3, 5, 6, 4), np.float32), rng.random((7, 4), np.float32)
    found = fit_foreground(H, [("x",), ("y",), ("x",)], W)
    part = (H * found.weights([("x",), ("y",), ("unheard of",)])[:, None, None]) @ W.T
    expected = np.sqrt(np.linalg.norm(part, axis=-1))
    assert found.maps(H, [("x",), ("y",), ("unheard of",)]) == pytest.approx(expected, rel=1e-4)
    assert (found.weights([("unheard of",)])[0] == found.shares[0]).all()


def test_a_group_decides_for_itself_once_it_has_images_enough() -> None:
    """What is background to most may be the object of one group, as grass in pictures of lawns."""
    H, _ = scenes(200)
    groups = [("many",)] * 200
    own, masks = scenes(100, seed=1)
    swapped = own[..., [3, 1, 2, 0]]
    swapped[..., 1] = 0
    swapped[..., 3] = masks
    swapped[..., 0] = ~masks
    both = np.concatenate([H, swapped])
    W = np.eye(4, dtype=np.float32)
    found = fit_foreground(both, groups + [("few",)] * 100, W)
    many, few = found.weights([("many",), ("few",)])
    assert many[0] > many[3]
    assert few[3] > few[0]
    alone = fit_foreground(np.concatenate([H, swapped[:1]]), groups + [("few",)], W)
    one = alone.weights([("few",)])[0]
    assert one[0] > 0.5 > one[3]  # one image does not overrule the dataset


def test_what_is_object_in_one_of_an_images_groups_is_object_in_it() -> None:
    H, _ = scenes(60)
    swapped = H[..., [3, 1, 2, 0]]
    groups = [("cat",)] * 60 + [("grass",)] * 60 + [("cat", "grass")] * 60
    found = fit_foreground(np.concatenate([H, swapped, H]), groups, np.eye(4, dtype=np.float32))
    cat, grass, both, none = found.weights([("cat",), ("grass",), ("cat", "grass"), ()])
    assert (both == np.maximum(cat, grass)).all()
    assert (none == found.shares[0]).all()
    # Images of both are evidence for each.
    alone = [("cat",)] * 60 + [("other",)] * 60 + [("cat",)] * 60
    of_cats = fit_foreground(np.concatenate([H, swapped, H]), alone, np.eye(4, dtype=np.float32))
    assert of_cats.weights([("cat",)])[0] == pytest.approx(cat, abs=1e-6)


def test_grids_without_an_inside_are_all_foreground() -> None:
    H = np.random.default_rng(0).random((5, 2, 2, 3), np.float32)
    found = fit_foreground(H, [("a",)] * 5, np.eye(3, dtype=np.float32))
    assert (found.weights([("a",)]) == 1).all()


def test_images_all_alike_hold_no_object() -> None:
    H = np.ones((4, 6, 6, 1), np.float32)
    found = fit_foreground(H, [("a",)] * 4, np.eye(1, dtype=np.float32))
    assert not (found.maps(H, [("a",)] * 4) >= found.threshold).any()
    assert otsu(np.zeros(0, np.float32)) == 1
    rng = np.random.default_rng(0)
    for shape in ((24, 4, 4), (9, 3)):  # no pictures of colours
        values = rng.random(shape).astype(np.float32)
        assert otsu(values) == otsu(values.reshape(-1))


def fine_scenes() -> tuple[Maps, Maps, NDArray[np.bool_]]:
    """Features on a fine grid that tell object from background, and a coarse map with a halo."""
    rng = np.random.default_rng(3)
    n, size = 60, 24
    masks = np.zeros((n, size, size), bool)
    halo = np.zeros((n, size, size), np.float32)
    for index in range(n):
        y, x = rng.integers(4, 12, 2)
        masks[index, y : y + 8, x : x + 8] = True
        halo[index, y - 3 : y + 11, x - 3 : x + 11] = 1
    features = rng.normal(0, 0.5, (n, size, size, 6)).astype(np.float32)
    features[..., 0] += 3 * masks
    features[..., 1] -= 2 * masks
    return (features * [1, 10, 1, 1, 100, 1] + 5).astype(np.float32), halo, masks


def learned(features: Maps, halo: Maps) -> NDArray[np.bool_] | None:
    """Learn from features and a coarse map alone, without groups; return the masks."""
    whitening = fit_whitening(features, 6)
    members = np.zeros((len(features), 0), np.float32)
    Z = whitening.apply(features)
    found = fit_fine(Z, halo, members)
    return None if found is None else found.evidence(Z, members) >= 0


def test_finer_features_take_away_the_halo() -> None:
    features, halo, masks = fine_scenes()
    mask = learned(features, halo)
    assert mask is not None
    assert iou(halo > 0.5, masks) < 0.4
    assert iou(mask, masks) > 0.95
    moved = learned(features * 7 - 3, halo)  # neither scale nor offset of a channel matters
    assert moved is not None
    assert (moved == mask).mean() > 0.999


def test_the_finer_layer_must_agree_with_the_concepts() -> None:
    features, halo, _ = fine_scenes()
    assert learned(np.zeros_like(features), halo) is None
    mask = learned(features, 1 - halo)
    # Started from the background, background is what is learned: the two sides have no names.
    assert mask is not None
    assert mask.mean() > 0.5


def kinds_of_object(n: int, shared: float, beside: float) -> tuple[Maps, Maps, NDArray[np.bool_]]:
    """Images of two kinds, in turn, whose objects differ from the ground by a channel of opposite
    sign, which one map cannot tell: whitened features, a coarse map, masks.

    All objects share a channel a little, enough to begin with; a strip beside each is of a look of
    its own.
    """
    rng = np.random.default_rng(5)
    features = rng.normal(0, 0.3, (n, 12, 12, 8)).astype(np.float32)
    masks = np.zeros((n, 12, 12), bool)
    for mask, own in zip(masks, features, strict=True):
        y, x, start = rng.integers(1, 6, 3)
        mask[y : y + 5, x : x + 5] = True
        own[start : start + 5, :, 2:] += beside * rng.choice([-1, 1], 6)
    signs = np.where(np.arange(n) % 2, 1, -1)[:, None, None]
    features[..., 0] += np.where(masks, signs, -signs)
    features[..., 1] += shared * masks
    coarse = (masks + rng.normal(0, 0.6, masks.shape)).astype(np.float32)
    return fit_whitening(features, 8).apply(features), coarse, masks


def test_each_group_learns_what_its_own_images_say() -> None:
    Z, coarse, masks = kinds_of_object(60, 1.1, 0.0)
    labels = [(("odd", "even")[index % 2],) for index in range(60)]
    kin = Kin(("even", "odd"), np.zeros((0, 1), np.float32), np.zeros(0, np.int64))
    members = kin.members(np.ones((60, 12, 12, 1), np.float32), labels)
    found = fit_fine(Z, coarse, members)
    assert found is not None
    alone = replace(found, own_rounds=0)
    by_group, by_nothing = (
        iou(alone.evidence(Z, each) >= 0, masks) for each in (members, 0 * members)
    )
    assert by_group > 0.85
    assert by_nothing < by_group - 0.1
    by_image = iou(found.evidence(Z, 0 * members) >= 0, masks)
    assert by_image > by_nothing + 0.02


def test_labels_help_where_they_say_much_and_harm_little_where_they_do_not() -> None:
    """Images are of two kinds, which their concepts tell roughly; labels may or may not."""
    n = 120
    Z, coarse, masks = kinds_of_object(n, 0.7, 1.0)
    rng = np.random.default_rng(1)
    H = (rng.random((n, 2, 2, 4)) / 20).astype(np.float32)
    H[np.arange(n), :, :, np.arange(n) % 2] += 1

    def found(labels: list[tuple[str, ...]]) -> float:
        members = find_kin(H, labels).members(H, labels)
        fine = fit_fine(Z, coarse, members)
        assert fine is not None
        return iou(fine.evidence(Z, members) >= 0, masks)

    kinds, without = [f"kind {i % 2}" for i in range(n)], found([()] * n)
    assert found([(kind,) for kind in kinds]) > without + 0.2
    assert found([(kind, "picture") for kind in kinds]) > without + 0.1
    assert found([(kind,) if i < n // 2 else () for i, kind in enumerate(kinds)]) > without
    for n_each in (1, 2, 3, 24):  # a label of images of either kind, learned before larger groups
        wrong = found([(f"any {i // n_each}",) for i in range(n)])
        assert wrong > without - 0.005
    assert found([("large",) if i < 80 else (f"{i}",) for i in range(n)]) > without - 0.005


def test_images_are_grouped_by_labels_and_by_concepts() -> None:
    rng = np.random.default_rng(0)
    n = 220
    kinds = np.arange(n) % 2
    H = (rng.random((n, 2, 2, 4)) / 20).astype(np.float32)
    H[np.arange(n), :, :, kinds] += 1
    labels = [("a",), ("b",), ("a", "b"), ()] * (n // 4)
    found = find_kin(H, labels)
    assert found.labels == ("a", "b")
    assert found.levels.tolist() == [2, 8, 36]
    members = found.members(H, labels)
    assert members.shape == (n, 2 + 46)
    assert members[:4, :2].tolist() == [[1, 0], [0, 1], [0.5, 0.5], [0, 0]]
    for level in np.split(members[:, 2:], [2, 10], axis=1):
        assert (level.sum(1) == 1).all()
    two = members[:, 2:4]
    assert (two.argmax(1) == kinds).all() or (two.argmax(1) == 1 - kinds).all()
    one = find_kin(H[:5], [("a",)] * 5)
    assert one.labels == ()
    assert one.members(H[:5], [("a",)] * 5).shape == (5, 0)


def test_whitened_directions_have_no_covariance() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.normal(0, 1, (4_000, 6)) @ rng.normal(0, 1, (6, 6))
    X = np.column_stack([mixed, np.ones(4_000)]).astype(np.float32)
    found = fit_whitening(X.reshape(40, 10, 10, 7), 3)
    Z = found.apply(X)
    assert np.cov(Z.T) == pytest.approx(np.eye(3), abs=1e-3)
    standard = (mixed - mixed.mean(0)) / mixed.std(0)
    values, U = np.linalg.eigh(standard.T @ standard / len(standard))
    expected = standard @ U[:, -3:] / np.sqrt(values[-3:])
    assert np.abs(np.corrcoef(Z.T, expected.T)[:3, 3:]).max(1) == pytest.approx(1, abs=1e-4)
    turned = fit_whitening(X, 6, even=False).apply(X)
    assert np.cov(turned.T) == pytest.approx(np.diag(values), abs=1e-3)
    square = np.square(turned).sum(1)
    assert square == pytest.approx(np.square(standard).sum(1), rel=1e-3)  # a rotation
    nothing = fit_whitening(np.ones((3, 2, 2, 5), np.float32), 3)
    assert nothing.apply(np.ones((1, 2, 2, 5), np.float32)).shape == (1, 2, 2, 0)


def test_a_linear_map_of_earlier_versions_is_read() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=5).astype(np.float32)
    old = {"weights": weights, "offset": 0.3, "threshold": 1.5, "spread": 2.0}
    H = rng.random((2, 3, 3, 4)).astype(np.float32)
    coarse = vars(fit_foreground(H, [(), ()], np.eye(4, dtype=np.float32)))
    winners = {"weights": np.zeros((5, 4), np.float32), "offset": np.zeros(4, np.float32)}
    found = of_parts({"coarse": coarse, "fine": old, "winners": winners}, 4)
    assert found.fine is not None
    maps = rng.random((2, 6, 6, 5)).astype(np.float32)
    raised = np.repeat(np.repeat(H, 2, 1), 2, 2)
    evidence = found.fine.evidence(maps, raised, H, [("label a",), ()])
    assert evidence == pytest.approx((maps @ weights + 0.3 - 1.5) / 2, abs=1e-5)
    again = of_parts(to_parts(found), 4)
    assert again.fine is not None
    same = again.fine.evidence(maps, raised, H, [(), ()])
    assert (same == evidence).all()
    with pytest.raises(ValueError, match="weights of 5 features and 0 groups are"):
        bad = to_parts(found)
        bad["finer"]["weights"] = bad["finer"]["weights"][:, :3]
        of_parts(bad, 4)


def test_less_is_object_where_there_are_finer_layers() -> None:
    rng = np.random.default_rng(0)
    H = rng.random((2, 3, 3, 4)).astype(np.float32)
    concepts = Whitening(np.zeros(4, np.float32), np.eye(4, dtype=np.float32))
    nobody = Kin((), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    found = []
    for n_directions in (0, 2):
        layers = Whitening(np.zeros(5, np.float32), np.zeros((5, n_directions), np.float32))
        weights = np.ones((1, n_directions + 4), np.float32)
        fine = FineModel(layers, concepts, nobody, FineForeground(weights, 0.1, own_rounds=0))
        maps = np.zeros((*H.shape[:3], 5), np.float32)
        found.append(fine.evidence(maps, H, H, [(), ()]))
    assert found[0] == pytest.approx(np.sqrt(H).sum(-1) + 0.1, rel=1e-5)
    assert found[1] == pytest.approx(found[0] - HALO, abs=1e-5)


def test_a_centred_gaussian_covers_a_quarter_of_the_image() -> None:
    bump = centred((60, 90))
    # Its half maximum is an ellipse of half-axes σ √(2 ln 2) in sides.
    assert (bump >= 0).mean() == pytest.approx(np.pi * 2 * np.log(2) * WIDTH**2, abs=0.01)
    assert bump[30, 45] == bump.max()
    assert bump.std() == pytest.approx(1)


def test_layers_meet_on_the_finest_grid() -> None:
    coarse_centres, fine_centres = np.arange(0.0, 64.0, 16.0), np.arange(0.0, 64.0, 8.0)
    coarse = Grid(coarse_centres, coarse_centres, 64)
    fine = Grid(fine_centres, fine_centres, 64)
    rows = np.broadcast_to(coarse.centres_y[:, None], (4, 4)).astype(np.float32)
    ramp = rows[None, ..., None].copy()
    own = np.zeros((1, 8, 8, 2), np.float32)
    features, grid = stack_layers([ramp, own], [coarse, fine])
    assert grid is fine
    assert features.shape == (1, 8, 8, 3)
    # Linear between centres, constant beyond the last.
    assert features[0, :, 3, 0] == pytest.approx(np.minimum(fine.centres_y, 48))
    assert between_grids(ramp, coarse, coarse) == pytest.approx(ramp)


def picture(seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A disc of one colour on another, with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:150, :200]
    mask = (rows - 70) ** 2 + (columns - 90) ** 2 < 40**2
    image = np.where(mask[..., None], [200, 120, 40], [60, 130, 80])
    return np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8), mask


def test_masks_follow_the_edges_of_the_image() -> None:
    image, mask = picture()
    rows, columns = np.mgrid[:150, :200]
    rough = np.exp(-((rows - 78) ** 2 + (columns - 80) ** 2) / (2 * 30.0**2))
    evidence = ((rough - 0.5) / rough.std()).astype(np.float32)
    assert working_shape(200, 150) == (150, 200)
    before = iou(evidence > 0, mask)
    found = refine(image, evidence)
    assert found.shape == mask.shape
    assert before < 0.75
    assert iou(found, mask) > 0.85


def test_large_images_are_refined_small_and_come_back_whole() -> None:
    image, mask = picture()
    large = image.repeat(4, axis=0).repeat(4, axis=1)
    shape = working_shape(800, 600)
    assert shape == (168, 224)
    evidence = np.full(shape, -1.0, np.float32)
    evidence[60:100, 75:125] = 1.5
    found = refine(large, evidence)
    assert found.shape == (600, 800)
    assert iou(found, mask.repeat(4, axis=0).repeat(4, axis=1)) > 0.9


def test_what_was_not_seen_is_no_object() -> None:
    image, _ = picture()
    evidence = np.full((150, 200), 5.0, np.float32)
    evidence[:, :50] = np.nan
    found = refine(image, evidence)
    assert not found[:, :48].any()
    assert found[:, 55:].all()


def test_tiny_images_are_refined() -> None:
    assert refine(np.zeros((8, 9, 3), np.uint8), np.ones((8, 9), np.float32)).all()


def test_affinity_is_the_angle_with_a_concepts_direction() -> None:
    rng = np.random.default_rng(0)
    W, h = rng.random((9, 4), np.float32), rng.random(4, np.float32)
    H = np.broadcast_to(h, (1, 5, 5, 4)).copy()  # alike everywhere: neighbours change nothing
    v = W @ h
    cosines = v @ W / np.linalg.norm(v) / np.linalg.norm(W, axis=0)
    assert affinities(H, W)[0, 2, 2] == pytest.approx(cosines * np.linalg.norm(v), rel=1e-4)


def test_cells_vote_with_their_neighbours() -> None:
    single = np.zeros((1, 11, 11, 2), np.float32)
    single[0, 5, 5] = [1, 0]
    spread = affinities(single, np.eye(3, 2, dtype=np.float32) * np.array([4, 2], np.float32))[0]
    assert spread[..., 0].sum() == pytest.approx(4, rel=1e-4)
    assert spread[5, 4, 0] / spread[5, 5, 0] == pytest.approx(np.exp(-1 / 2), rel=1e-3)
    assert spread[4, 4, 0] / spread[5, 5, 0] == pytest.approx(np.exp(-1), rel=1e-3)
    assert not spread[..., 1].any()


def test_assignments_are_learned_by_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    features: Maps = rng.random((6, 5, 4, 7), np.float32)
    features *= np.arange(1, 8, dtype=np.float32)
    near = rng.random((6, 5, 4, 3), np.float32)
    fit = WinnersFit(7, 3)
    for part in (slice(0, 1), slice(1, 6)):
        fit.add(features[part], near[part])
    found = fit.solve()
    X, Y = features.reshape(-1, 7), near.reshape(-1, 3)
    Y = (Y / Y.max(1, keepdims=True)) ** SHARPNESS
    exact = make_pipeline(StandardScaler(), Ridge(RIDGE * len(X))).fit(X, Y)
    assert X @ found.weights + found.offset == pytest.approx(exact.predict(X), abs=1e-4)


def test_features_say_where_a_concept_ends() -> None:
    """Two concepts meet within a cell; only the finer layer knows where."""
    rng = np.random.default_rng(1)
    side, n = 12, 40
    edge = rng.integers(2, side - 2, n)
    right = np.arange(side) >= edge[:, None]  # (n, side), columns
    fine = np.stack([~right, right], -1)[:, None].repeat(side, 1).astype(np.float32)
    fine += rng.random((n, side, side, 2), np.float32) / 4
    coarse = fine.reshape(n, 3, 4, 3, 4, 2).mean((2, 4))
    centres = [(np.arange(m) + 0.5) * 24 / m for m in (3, side)]
    grids = [Grid(each, each, image_size=24) for each in centres]
    features, grid = stack_layers([unit_length(coarse), unit_length(fine)], grids)
    assert np.linalg.norm(features[..., 2:], axis=-1) == pytest.approx(1, rel=1e-5)
    fit = WinnersFit(4, 2)
    near = affinities(coarse, np.eye(2, dtype=np.float32))
    fit.add(features, between_grids(near, grids[0], grid))
    truth = np.broadcast_to(right[:, None], (n, side, side))
    learned = (fit.solve().maps(features, 0.1).argmax(-1) == truth).mean()
    raised = (between_grids(near, grids[0], grid).argmax(-1) == truth).mean()
    assert learned > 0.99 > raised


def test_a_shard_without_images_teaches_nothing() -> None:
    fit = WinnersFit(4, 2)
    fit.add(np.zeros((0, 3, 3, 4), np.float32), np.zeros((0, 3, 3, 2), np.float32))
    found = fit.solve().maps(np.ones((1, 3, 3, 4), np.float32), 1.0)
    assert found.shape == (1, 3, 3, 2)
    assert np.isfinite(found).all()


def test_a_model_is_plain_data() -> None:
    H, _ = scenes(4)
    found = fit_foreground(H, [("a",)] * 4, np.eye(4, dtype=np.float32))
    nothing = replace(found, shares=np.zeros_like(found.shares))
    assert (nothing.maps(H, [("a",)] * 4) == 0).all()
