"""Suspects: what taking concepts out gives back, against closed forms and planted marks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logit
from scipy.stats import fisher_exact, ttest_1samp, wilcoxon

from pipeline.analysis.suspects import alike, unlabelled
from pipeline.classify import Answers
from pipeline.classify.harm import errors_by_chance, expected, harm
from pipeline.classify.removals import Removals, remove_each
from pipeline.classify.statistics import benjamini_hochberg
from pipeline.store import Suspects
from pipeline.tables import suspect_rows

from .fixture import make_bank, make_cut, seen


def _gains(gain: NDArray[np.float64], right: NDArray[np.bool_] | None = None) -> Removals:
    """Make the outcome of taking out the one concept there is."""
    n = len(gain)
    after = np.zeros(n, np.bool_) if right is None else right
    return Removals(np.arange(n), np.zeros(n, np.int64), after, gain, gain, np.zeros((1, 2)))


@pytest.mark.parametrize("model", ["resnet18", "squeezenet1_1"])
@pytest.mark.parametrize("groups", [False, True])
def test_removals_are_what_the_head_says_of_the_activations_less_the_concepts(
    model: str, groups: bool
) -> None:
    layer = make_cut(model)
    V, logits = seen(layer)
    bank = make_bank(V.shape[-1], 3)
    H, _ = bank.encode(V)
    together = np.eye(3, dtype=np.bool_)
    together[0, 1] = groups
    held = np.array([[1, 0, 1], [1, 1, 0], [0, 1, 1], [1, 1, 1]], np.bool_)
    own = logits.topk(2).indices.numpy()
    classes = np.stack([own[:, 1], [-1, -1, own[2, 0], -1]], axis=1)
    classes[3] = -1  # of it nothing is known
    found = remove_each(Answers(layer, bank), V, H, held, classes, together)
    assert list(zip(found.image, found.concept, strict=True)) == [
        (0, 0), (0, 2), (1, 0), (1, 1), (2, 1), (2, 2),
    ]  # fmt: skip
    drops = np.zeros((3, logits.shape[1]))
    before = layer.head(V).softmax(1).double().numpy()
    for row, (image, concept) in enumerate(zip(found.image, found.concept, strict=True)):
        v = V[image].clone()
        for each in np.flatnonzero(together[concept]):
            v -= H[image, ..., each, None] * torch.from_numpy(bank.W[:, each])
        after = layer.head(v[None])[0].softmax(0).double().numpy()
        mine = classes[image][classes[image] >= 0]
        gain = after[mine].max() - before[image][mine].max()
        assert found.gain[row] == pytest.approx(gain, abs=1e-5)
        rise = logit(after[mine].max()) - logit(before[image][mine].max())
        assert found.rise[row] == pytest.approx(rise, abs=1e-4)
        assert found.right[row] == (after.argmax() in mine)
        fall = before[image] - after
        fall[mine] = 0
        drops[concept] += fall
    np.testing.assert_allclose(found.drops, drops, atol=1e-5)
    others = together.sum(1) > 1
    answers, alone = Answers(layer, bank), np.eye(3, dtype=np.bool_)
    first = remove_each(answers, V, H, held, classes, alone)
    again = remove_each(answers, V, H, held & others, classes, together)
    put = first.but(again, others)
    order = np.lexsort((put.concept, put.image))
    for name in ("image", "concept", "right", "gain", "rise"):
        np.testing.assert_allclose(getattr(put, name)[order], getattr(found, name), atol=1e-5)
    np.testing.assert_allclose(put.drops, found.drops, atol=1e-5)


def test_gains_are_tested_by_the_paired_t_test() -> None:
    gain = np.random.default_rng(0).normal(0.02, 0.1, 60)
    held, right = np.zeros((100, 1), np.bool_), np.zeros(100, np.bool_)
    held[:60], right[:20] = True, True
    after = np.zeros(60, np.bool_)
    after[10:40] = True
    found = harm(_gains(gain, after), held, right, np.zeros(100, np.int64))
    assert found.p[0] == pytest.approx(ttest_1samp(gain, 0, alternative="greater").pvalue)
    assert found.p_rise[0] == pytest.approx(wilcoxon(gain, alternative="greater").pvalue)
    assert found.gain[0] == pytest.approx(gain.mean())
    assert (found.repaired[0], found.broken[0], found.n[0]) == (20, 10, 60)
    assert found.accuracy_with[0] == 20 / 60
    assert found.accuracy_ablated[0] == 0.5
    assert found.accuracy_without[0] == 0
    low = gain.mean() - 1.645 * gain.std(ddof=1) / np.sqrt(60)
    assert found.at_least[0] == pytest.approx(max(0.0, 0.6 * low))


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_few_images_are_not_enough(n: int) -> None:
    held = np.zeros((20, 1), np.bool_)
    held[:n] = True
    found = harm(_gains(np.full(n, 0.9)), held, np.zeros(20, np.bool_), np.arange(20))
    assert found.p[0] >= 0.05
    assert found.at_least[0] == 0 or n > 1


def test_no_harm_passes_as_seldom_as_said() -> None:
    rng = np.random.default_rng(1)
    held, right, label = np.ones((40, 1), np.bool_), np.zeros(40, np.bool_), np.zeros(40, np.int64)
    p = [harm(_gains(rng.standard_t(3, 40) / 20), held, right, label).p[0] for _ in range(1_000)]
    assert (np.array(p) <= 0.05).mean() <= 0.07
    assert (benjamini_hochberg(np.array(p)) <= 0.05).sum() <= 1


def test_errors_that_come_with_a_concept_help_a_gain_to_be_believed() -> None:
    # A p of 0.007 is one of 40 by itself, and sure where half of the images are wrong.
    rng = np.random.default_rng(3)
    k, n, mine = 40, 200, 40
    gain = np.concatenate([rng.normal(0, 0.1, mine) for _ in range(k)])
    gain[:mine] = rng.normal(0, 0.1, mine)
    gain[:mine] += 0.1 * 3 / np.sqrt(mine) - gain[:mine].mean()
    image = np.concatenate([np.arange(mine), *(rng.permutation(n)[:mine] for _ in range(k - 1))])
    concept = np.repeat(np.arange(k), mine)
    removals = Removals(image, concept, np.zeros(k * mine, np.bool_), gain, gain, np.zeros((k, 2)))
    held = np.zeros((n, k), np.bool_)
    held[image, concept] = True
    label = np.arange(n)
    even, uneven = np.ones(n, np.bool_), np.ones(n, np.bool_)
    even[::6] = False
    uneven[:20] = uneven[40:54] = False  # as many are wrong, half of the first concept's
    alone, with_errors = (harm(removals, held, right, label) for right in (even, uneven))
    assert (alone.p == with_errors.p).all()
    assert alone.p[0] < 0.01 < 0.05 < alone.q[0]
    assert with_errors.q[0] < 0.02
    assert (with_errors.q[1:] > 0.05).all()


def test_odds_that_rise_help_a_gain_to_be_believed() -> None:
    rng = np.random.default_rng(7)
    k, n = 40, 40
    gain = rng.normal(0, 0.1, (k, n))
    gain[0] += 0.1 * 2.5 / np.sqrt(n) - gain[0].mean()
    rise = gain.copy()
    rise[0] = np.abs(rise[0]) * np.where(np.arange(n) % 5, 1, -1)  # up in four of five images
    image, concept = np.tile(np.arange(n), k), np.repeat(np.arange(k), n)
    held, right, label = np.ones((n, k), np.bool_), np.ones(n, np.bool_), np.arange(n)
    with_odds, alone = (
        harm(
            Removals(image, concept, right[image], gain.ravel(), each.ravel(), np.zeros((k, 2))),
            held, right, label,
        )
        for each in (rise, gain)
    )  # fmt: skip
    assert (alone.p == with_odds.p).all()
    assert alone.p[0] < 0.05 < alone.q[0]
    assert with_odds.q[0] < 0.05
    assert (with_odds.q[1:] > 0.05).all()


def test_odds_alone_make_no_suspect() -> None:
    rise = np.abs(np.random.default_rng(8).normal(0.5, 0.1, 60))
    held, right, label = np.ones((60, 1), np.bool_), np.ones(60, np.bool_), np.arange(60)
    noise = np.random.default_rng(9).normal(-0.001, 0.01, 60)
    nothing = np.zeros(60, np.int64)
    removals = Removals(np.arange(60), nothing, right, noise, rise, np.zeros((1, 2)))
    found = harm(removals, held, right, label)
    assert found.p_rise[0] < 1e-6
    assert found.q[0] > 0.2


def test_errors_alone_make_no_suspect() -> None:
    rng = np.random.default_rng(4)
    held, right = np.zeros((100, 1), np.bool_), np.ones(100, np.bool_)
    held[:40], right[:40] = True, False
    found = harm(_gains(rng.normal(-0.01, 0.1, 40)), held, right, np.zeros(100, np.int64))
    assert found.p_errors[0] < 1e-9
    assert found.q[0] > 0.2


def test_errors_by_chance_are_those_of_permutations_within_labels() -> None:
    rng = np.random.default_rng(5)
    label = np.repeat([0, 1, 2, 3, 4], [30, 20, 12, 3, 2])  # the last two count as one
    held = rng.random((len(label), 3)) < [0.2, 0.5, 0.5]
    right = rng.random(len(label)) < np.where(held[:, 2], 0.5, 0.8)
    found = errors_by_chance(held, right, label)
    stratum, seen = np.minimum(label, 3), np.zeros(3)
    for _ in range(4_000):
        order = np.lexsort((rng.random(len(label)), stratum))
        within = np.empty(len(label), np.int64)
        within[np.lexsort((np.arange(len(label)), stratum))] = order
        seen += (held & ~right[within, None]).sum(0) >= (held & ~right[:, None]).sum(0)
    np.testing.assert_allclose(found, seen / 4_000, atol=0.03)
    one = errors_by_chance(held, right, np.zeros(len(label), np.int64))
    for concept, mine in enumerate(held.T):
        counts = [[(mine & ~right).sum(), (mine & right).sum()]]
        counts += [[(~mine & ~right).sum(), (~mine & right).sum()]]
        assert one[concept] == pytest.approx(fisher_exact(counts, alternative="greater").pvalue)


def test_no_harm_is_no_suspect_by_either_way() -> None:
    rng = np.random.default_rng(6)
    label, k, suspects = np.repeat(np.arange(10), 20), 20, 0
    for _ in range(100):
        held = rng.random((200, k)) < 0.2
        right = rng.random(200) < 0.5 + 0.04 * label
        image, concept = np.nonzero(held)
        # Of what is right there is less to gain: gains and errors are not independent.
        gain = rng.standard_t(3, len(image)) / 20 - np.where(right[image], 0.02, -0.02)
        removals = Removals(image, concept, right[image], gain, gain, np.zeros((k, 2)))
        suspects += int((harm(removals, held, right, label).q <= 0.05).any())
    assert suspects <= 10


def test_what_would_be_expected_has_the_labels_in_the_same_proportions() -> None:
    label = np.array([0] * 8 + [1] * 8 + [2] * 2)
    held = np.zeros((18, 2), np.bool_)
    held[[0, 1, 2, 8, 16, 17], 0] = True  # three of label 0, one of 1, all of 2
    held[:, 1] = True
    right = np.zeros(18, np.bool_)
    right[3:8] = True  # all of label 0 without it
    right[9:12] = True  # three of seven of label 1
    found = expected(held, right, label)
    assert found[0] == pytest.approx((3 * 1 + 1 * 3 / 7 + 2 * 8 / 12) / 6)
    assert np.isnan(found[1])


def test_presence_is_split_into_what_labels_account_for_and_what_not() -> None:
    rng = np.random.default_rng(2)
    label = np.repeat(np.arange(10), 100)
    held = np.stack([label == 3, rng.random(1_000) < 0.2, np.ones(1_000, np.bool_)], axis=1)
    found = unlabelled(held, label)
    assert found[0] == pytest.approx(0, abs=1e-9)
    assert found[1] == pytest.approx(1, abs=0.02)
    assert found[2] == 1
    assert unlabelled(held, np.arange(1_000)).tolist() == [1, 1, 1]


def test_parts_of_one_mark_stand_in_the_same_images() -> None:
    held = np.zeros((10, 4), np.bool_)
    held[:4, 0] = held[:3, 1] = held[2:9, 2] = True
    assert alike(held).astype(int).tolist() == [
        [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0],
    ]  # fmt: skip


def _row(**given: Any) -> dict[str, Any]:
    numbers = {"score": 0.1, "q_value": 0.001, "gain": 0.2, "spread": 1.0, "fixed": 0.9}
    counts = {"concept_id": 7, "n_images": 398, "n_labels": 10, "repaired": 61, "broken": 2}
    shares = {"accuracy_with": 0.54, "accuracy_without": 0.79, "accuracy_ablated": 0.69}
    named = {"to": [1, 0], "labels": ["n1", "b"], "place": "at the centre", "with_concepts": [3]}
    return numbers | counts | shares | named | {"background": 0.1} | given


def test_the_evidence_is_a_sentence() -> None:
    found = Suspects([_row()], 2_000, 10, "")
    row = suspect_rows(found, ["crate", "carton"], {"n1": "tench"}).iloc[0]
    assert row["pushes_to"] == ["carton", "crate"]
    assert row["pushes_from"] == ["tench", "b"]
    assert row["sentence"] == (
        "In 398 of 2,000 images, of all 10 labels, at the centre of the frame, mostly on the"
        " objects: with it 54 % are right, without it 79 %; taking it out (with concept 3) makes 61"
        " right and 2 wrong, which returns 60 % of the lost accuracy. It pushes to carton and crate"
        " from tench and b."
    )


def test_nothing_is_said_of_what_is_not_known() -> None:
    bare = _row(
        accuracy_without=None, place="", background=0.5, with_concepts=[], to=[], n_labels=1
    )
    row = suspect_rows(Suspects([bare], 398, 1, ""), ["crate"], {}).iloc[0]
    assert np.isnan(row["accuracy_without"])
    assert row["place"] is None
    assert row["sentence"] == (
        "In 398 of 398 images, of the one label: with it 54 % are right, and no image is without"
        " it; taking it out makes 61 right and 2 wrong."
    )
    assert suspect_rows(Suspects([], 0, 0, "why"), [], {}).empty
