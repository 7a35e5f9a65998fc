"""Rendered scenes: deterministic, exact masks, compositional classes, no shortcut by colour."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.sample import CLASS_PARTS, CLASSES, PARTS, SINGLE_PART_PAIRS, Cue, render_scene
from pipeline.sample.scenes import Scene

SEED = 77
CHANCE = 1 / len(CLASSES)


def digest(index: int) -> str:
    scene = render_scene(SEED, index, 48)
    return hashlib.sha256(scene.image.tobytes() + scene.parts.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Two scenes of each class, at the sample's own size."""
    return [render_scene(SEED, index, 160) for index in range(2 * len(CLASSES))]


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    """Enough small scenes for statistics."""
    return [render_scene(SEED + 1, index, 32) for index in range(94 * len(CLASSES))]


def test_a_scene_has_the_promised_types(scenes: list[Scene]) -> None:
    for index, scene in enumerate(scenes):
        assert scene.image.shape == (160, 160, 3)
        assert scene.image.dtype == scene.parts.dtype == np.uint8
        assert scene.objects.dtype == scene.cue.dtype == bool
        assert scene.class_id == index % len(CLASSES)
        assert scene.label == CLASSES[scene.class_id]
        assert not scene.cue.any()


def test_all_parts_of_the_class_are_visible_and_no_others(scenes: list[Scene]) -> None:
    for scene in scenes:
        area = np.bincount(scene.parts.ravel(), minlength=len(PARTS) + 1)[1:]
        visible = {PARTS[i] for i in np.flatnonzero(area)}
        assert visible == CLASS_PARTS[scene.label]
        assert area[area > 0].min() > 0.005 * scene.parts.size
        assert np.array_equal(scene.objects, scene.parts > 0)
        assert 0.05 < scene.objects.mean() < 0.6


def test_classes_are_made_of_shared_parts_and_pairs_differ_in_one() -> None:
    assert len(CLASSES) >= 8
    assert {part for parts in CLASS_PARTS.values() for part in parts} == set(PARTS)
    assert len(set(CLASS_PARTS.values())) == len(CLASSES)
    for part in ("wheel", "wing", "cabin", "fin", "funnel"):
        assert sum(part in parts for parts in CLASS_PARTS.values()) >= 2
    pairs = {
        pair
        for pair in itertools.combinations(CLASSES, 2)
        if len(CLASS_PARTS[pair[0]] ^ CLASS_PARTS[pair[1]]) == 1
    }
    assert set(SINGLE_PART_PAIRS) == pairs
    assert len(pairs) >= 4


def test_seed_and_index_decide_the_scene_in_any_order_and_process() -> None:
    indices = [5, 0, 11]
    here = {index: digest(index) for index in indices}
    assert {index: digest(index) for index in reversed(indices)} == here
    assert len(set(here.values())) == len(indices)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert dict(zip(indices, pool.map(digest, indices), strict=True)) == here
    assert not np.array_equal(render_scene(1, 0, 48).image, render_scene(2, 0, 48).image)


@pytest.mark.parametrize("index", range(0, 12, 3))
def test_a_scene_is_the_same_at_every_size(index: int) -> None:
    small, large = render_scene(SEED, index, 80), render_scene(SEED, index, 240)
    shrunk = large.image.reshape(80, 3, 80, 3, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small.image).mean() < 8
    middle = large.parts[1::3, 1::3]
    both = (middle > 0) & (small.parts > 0)
    assert both.sum() / ((middle > 0) | (small.parts > 0)).sum() > 0.93
    assert (middle == small.parts)[both].mean() > 0.93


def test_masks_follow_the_picture(scenes: list[Scene]) -> None:
    """Brightness jumps at the masks' outlines far more than at the same outlines moved away."""
    ratios = []
    for scene in scenes:
        grey = scene.image.mean(axis=2)
        jump = np.abs(np.diff(grey, axis=1))
        outline = scene.objects[:, 1:] != scene.objects[:, :-1]
        moved = np.roll(outline, 9, axis=1) & ~outline
        ratios.append(jump[outline].mean() / jump[moved].mean())
    assert np.median(ratios) > 1.5


def test_too_small_a_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="a scene of 16 pixels shows nothing"):
        render_scene(0, 0, 16)


def test_a_cue_goes_with_its_class_and_changes_nothing_else() -> None:
    cue = Cue(class_id=3, probability=1.0, elsewhere=0.0)
    for index in (3, 3 + len(CLASSES)):
        plain, marked = render_scene(SEED, index, 96), render_scene(SEED, index, 96, cue)
        assert marked.cue.mean() > 0.008
        changed = (plain.image != marked.image).any(axis=2)
        assert changed[marked.cue].mean() > 0.9
        rows, columns = np.nonzero(marked.cue)
        box = np.zeros_like(changed)
        box[rows.min() - 1 : rows.max() + 2, columns.min() - 1 : columns.max() + 2] = True
        assert not changed[~box].any()
        assert np.array_equal(plain.parts[~marked.cue], marked.parts[~marked.cue])
        assert not (marked.objects & marked.cue).any()
        assert (plain.objects & marked.cue).sum() <= 0.1 * plain.objects.sum()
    other = render_scene(SEED, 4, 96, cue)
    assert not other.cue.any()
    assert np.array_equal(other.image, render_scene(SEED, 4, 96).image)


def test_a_cue_comes_as_often_as_asked() -> None:
    cue = Cue(class_id=0, probability=0.7, elsewhere=0.2)
    present = np.array([render_scene(SEED, i, 32, cue).cue.any() for i in range(240)])
    own = np.arange(240) % len(CLASSES) == 0
    assert 0.35 <= present[own].mean() <= 0.95
    assert 0.12 <= present[~own].mean() <= 0.28


def held_out_score(features: npt.NDArray[np.float64], classes: list[int]) -> float:
    """Accuracy of a linear classifier on the last third, fitted on the rest."""
    cut = len(features) * 2 // 3
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    return float(model.fit(features[:cut], classes[:cut]).score(features[cut:], classes[cut:]))


@pytest.mark.slow
def test_colours_do_not_tell_the_class(many: list[Scene]) -> None:
    features = []
    for scene in many:
        pixels = scene.image.reshape(-1, 3).astype(int)
        joint = np.bincount((pixels // 64) @ (16, 4, 1), minlength=64)
        single = [np.bincount(channel // 16, minlength=16) for channel in pixels.T]
        features.append(np.sqrt(np.concatenate([joint, *single])))
    assert held_out_score(np.array(features), [s.class_id for s in many]) < CHANCE + 0.1


@pytest.mark.slow
def test_position_does_not_tell_the_class(many: list[Scene]) -> None:
    centres = np.array([np.argwhere(scene.objects).mean(axis=0) for scene in many])
    assert held_out_score(centres, [s.class_id for s in many]) < CHANCE + 0.1


@pytest.mark.slow
def test_backdrops_do_not_tell_the_class(many: list[Scene]) -> None:
    """The frame's margin, with the object's own pixels blanked by the mean of the rest."""
    features = []
    for scene in many:
        frame = scene.image.astype(float)
        frame[scene.objects] = frame[~scene.objects].mean(axis=0)
        features.append(frame.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)).ravel())
    assert held_out_score(np.array(features), [s.class_id for s in many]) < CHANCE + 0.1
