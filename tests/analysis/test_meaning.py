"""What a run's concepts mean, asked for call by call, and printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.analysis.explain import explain_alone
from pipeline.analysis.meaning import Meaning
from pipeline.analysis.report import list_concepts
from pipeline.analysis.run import Run, open_run
from pipeline.config import make_config
from pipeline.errors import UserError
from pipeline.jobs.classify import classify
from pipeline.jobs.discover import discover_run
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.runs.prepare import prepare
from pipeline.sample import CLASSES, render_scene, write_sample
from pipeline.store import read_classification
from tests.calling import call


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    base = tmp_path_factory.mktemp("meaning")
    write_sample(base / "sample", n_images=160)
    options = {"dataset": str(base / "sample" / "images"), "model": "sample", "k": "12"}
    discover_run(prepare(make_config(options), base / "run"))
    return open_run(base / "run")


def test_splits_sum_to_the_networks_logits(run: Run) -> None:
    image_ids = run.table("images").image_id[:40].tolist()
    found = run.meaning.split(image_ids)
    logits = torch.cat(
        [
            torch.from_numpy(arrays["logits"][np.isin(arrays["image_id"], image_ids)])
            for arrays in run.workspace.activations.iterate(["logits", "image_id"])
        ]
    )
    assert found.exact.all()
    assert found.image_id.tolist() == image_ids  # as asked, not as stored
    stored = np.concatenate(
        [arrays["image_id"] for arrays in run.workspace.activations.iterate(["image_id"])]
    )
    logits = logits[[stored[np.isin(stored, image_ids)].tolist().index(each) for each in image_ids]]
    # Stored activations are float16, and the network may have run in bfloat16.
    assert found.logit.to_numpy() == pytest.approx(logits.max(1).values.numpy(), abs=0.15)
    parts = found.filter(regex=r"^(bias|concept_\d+|residual)$")
    assert parts.shape[1] == 2 + run.workspace.bank.k
    assert parts.sum(axis=1).to_numpy() == pytest.approx(found.logit.to_numpy(), abs=1e-4)
    of_car = run.meaning.split(image_ids, class_id=0)
    assert of_car.logit.to_numpy() == pytest.approx(logits[:, 0].numpy(), abs=0.15)
    assert set(of_car.label) == {run.workspace.class_names[0]}
    assert run.meaning.split(image_ids[::-1]).equals(found[::-1].reset_index(drop=True))
    with pytest.raises(UserError, match="a class is a number from 0 to 15, this is 'car'"):
        run.meaning.split(image_ids, class_id="car")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no image 1 in"):
        run.meaning.split([1])
    with pytest.raises(UserError, match="no image was asked for"):
        run.meaning.split([])


def test_fidelity_grows_with_the_number_of_concepts(run: Run) -> None:
    W = run.bank.W
    rows = run.meaning.fidelity([2, 12], banks={"halved": W})
    whole = rows[rows.class_id.isna()].set_index(["k", "metric"]).value
    assert whole[2, "agreement"] < whole[12, "agreement"]
    assert whole[2, "kl"] > whole[12, "kl"] > 0
    assert whole[12, "kl_halved"] == pytest.approx(whole[12, "kl"], rel=1e-6)
    assert (2, "kl_halved") not in whole.index
    with pytest.raises(UserError, match=r"'other' has 5 concepts, and none of ks=\[2, 12\]"):
        run.meaning.fidelity([2, 12], banks={"other": W[:, :5]})
    assert whole[12, "kl_mean"] > whole[12, "kl"]
    stored = run.sql("select value from fidelity where metric = 'kl' and class_id is null")
    assert stored.value[0] == pytest.approx(whole[12, "kl"], rel=1e-6)
    classes = rows[(rows.metric == "agreement") & (rows.k == 12)].dropna(subset="class_id")
    assert classes.n.sum() == rows.n.max()


def test_the_order_of_contributions_beats_random_orders(run: Run) -> None:
    areas = run.meaning.areas().set_index("curve")
    assert (areas.ci_low > 0).all()
    assert (areas.gain < 1).all()
    stored = run.sql("select * from fidelity where level is not null order by metric, level")
    found = run.meaning.curves()
    assert stored.metric.value_counts().to_dict() == {"deletion": 11, "insertion": 11}
    assert stored[stored.metric == "deletion"].value.to_numpy() == pytest.approx(
        found.groupby("level").deletion.mean().to_numpy(), rel=1e-6
    )


def test_importance_of_a_class_is_that_of_its_images(run: Run) -> None:
    whole = run.meaning.importance()
    stored = run.table("concepts").set_index("concept_id")
    assert whole.concepts.contribution.is_monotonic_decreasing
    assert 0.3 < whole.rank_agreement <= 1
    ours = whole.concepts.set_index("concept_id").sort_index()
    assert ours.sobol_total.to_numpy() == pytest.approx(stored.sobol_total.to_numpy(), rel=1e-5)
    top = int(run.table("images").pred_class.mode()[0])
    found = run.meaning.importance(top, n_images=160)
    assert 0 < found.n < 30
    with pytest.raises(UserError, match="none of the 1 images measured is given class"):
        for class_id in (top, (top + 1) % len(CLASSES)):  # one image is not of both
            run.meaning.importance(class_id, n_images=1)
    with pytest.raises(UserError, match="a class is a number from 0 to"):
        run.meaning.importance(99)


def test_a_concepts_pixels_are_blurred_and_its_class_falls(run: Run) -> None:
    telling = run.meaning.importance().concepts.concept_id[0]
    found = run.meaning.blur(int(telling), n_images=12)
    assert found.n_images + found.n_unmatched <= 12
    assert {"label", "drop", "drop_random", "ci_low", "ci_high"} <= set(found.classes)
    assert set(found.classes.label) == set(CLASSES)
    assert found.classes.iloc[0]["drop"] > found.classes.iloc[0].drop_random
    assert found.classes["drop"].sum() == pytest.approx(0, abs=1e-6)
    with pytest.raises(UserError, match="there is no concept 12; the run has 0 to 11"):
        run.meaning.blur(12)


def test_without_its_concepts_an_image_is_taken_for_something_else(run: Run) -> None:
    images = run.table("images")
    image_id = int(images.image_id[5])
    nothing = run.meaning.ablate([], [image_id]).iloc[0]
    assert nothing.class_before == nothing.class_after == images.pred_class[5]
    assert nothing.prob_before == nothing.prob_after
    split = run.meaning.split([image_id])
    parts = split.filter(regex=r"^concept_").iloc[0].to_numpy(dtype=float)
    telling = (-parts).argsort()[:4].tolist()
    less = run.meaning.ablate(telling, [image_id]).iloc[0]
    assert less.prob_before == nothing.prob_before
    assert less.class_after != less.class_before
    # One image and one concept need no list, and an image may go by its path.
    one = run.meaning.ablate(telling[0], images.path[5])
    assert one.image_id.tolist() == [image_id]
    both = images.image_id[[7, 3]].tolist()
    assert run.meaning.ablate(telling, both).image_id.tolist() == both


def test_a_new_image_is_told_how_new_it_is(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    usual = run.explain(render_scene(99, 3, 160).image)
    assert usual.novelty is not None
    assert usual.novelty.n >= 20
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    new = run.explain(noise)
    assert new.novelty is not None
    assert new.novelty.residual > 95 > usual.novelty.residual
    x0, y0, x1, y1 = new.box
    assert 0 <= x0 < x1 <= 160
    assert 0 <= y0 < y1 <= 160
    print(new.describe())
    said = capsys.readouterr().out
    percentile = round(new.novelty.residual)
    assert f"that is the {percentile}th percentile of 160 images of the run" in said
    assert f"explained least at x {x0} to {x1}, y {y0} to {y1}" in said


def test_the_table_says_what_head_and_labels_say(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("concepts", [f"--run={run.folder}"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == list_concepts(run)
    lines = printed.splitlines()
    rows = run.table("concepts")
    assert lines[0] == "12 concepts of sample parts, 160 images"
    for row in rows.to_dict("records"):
        line = next(line for line in lines if line.startswith(f"{row['concept_id']:>7}  "))
        assert f" {row['kind']} " in line
        assert not isinstance(row["group"], str) or row["group"].split(" · ")[0] in line
    for kind, n in rows["kind"].value_counts().items():
        assert f"\n{n:>7}  {kind}: " in printed
    assert "agreement of the network on the concepts alone" in printed
    known = run.table("concept_labels").head_rank
    assert known.notna().all()
    assert known.between(1, len(CLASSES)).all()


def test_a_second_classification_is_the_same(run: Run) -> None:
    path = run.workspace.classes_path
    before, content = read_classification(path), path.read_bytes()
    path.unlink()
    classify(run.workspace)
    assert path.read_bytes() == content
    assert len(np.unique(before.p)) > 3


@pytest.mark.slow
def test_networks_with_tokens_are_asked_the_same(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", n_images=20, size=64)
    options = {"dataset": str(tmp_path / "sample" / "images"), "model": "vit_b_32", "k": "3"}
    options |= {"weights": "random", "image_size": "64"}
    workspace = prepare(make_config(options), tmp_path / "run")
    for job in (extract, factorize, localize, classify):
        job(workspace)
    found = read_classification(workspace.classes_path)
    assert np.isnan(found.sobol_total).all()
    assert np.isfinite(found.importance).all()
    assert {row["metric"] for row in found.fidelity} >= {"agreement", "kl", "kl_svd"}
    meaning = Meaning(workspace)
    importance = meaning.importance(n_images=2)
    assert importance.concepts.sobol_total.sum() > 0.5
    image_ids = workspace.listing.frame.image_id[:2].tolist()
    split = meaning.split(image_ids)
    assert not split.exact.any()
    after = meaning.ablate([0, 1, 2], image_ids)
    assert (after.prob_after != after.prob_before).all()
    pixels = render_scene(99, 3, 64).image
    alone = explain_alone(workspace.cut, workspace.class_names, pixels, k=2)
    assert alone.novelty is None
    assert len(alone.heatmaps) == 2
