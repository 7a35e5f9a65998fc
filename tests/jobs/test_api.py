"""Everything a command does is one call in Python, which speaks as Python does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pipeline
from pipeline import Config, Run, UserError
from pipeline.sample import write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("api") / "sample"
    write_sample(folder, n_images=48, size=64)
    return folder


@pytest.fixture(scope="module")
def run(sample: Path) -> Run:
    return pipeline.discover(
        sample / "images", model="sample", k=3, image_size=64, run=sample.parent / "run"
    )


def test_a_call_gives_the_finished_run(run: Run) -> None:
    assert isinstance(run, Run)
    assert len(run.table("concepts")) == 3
    assert pipeline.status(run.folder).is_finished
    assert pipeline.verify(run.folder).is_whole


def test_it_prints_nothing_on_stdout(
    sample: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = pipeline.discover(
        sample / "images", model="sample", k=2, image_size=64, limit=24, run=tmp_path / "run"
    )
    again = pipeline.discover(run=made.folder)
    assert again.folder == made.folder
    assert capfd.readouterr().out == ""


def test_its_options_are_those_of_the_configuration() -> None:
    parameters = inspect.signature(pipeline.discover).parameters
    others = {"run", "from_run", "config", "network", "head", "reshape_transform", "layers"}
    assert set(Config.model_fields) | others == set(parameters)
    assert parameters["resize"].default == "squash"


@pytest.mark.slow
def test_another_dataset_does_not_go_on_with_a_run(run: Run, sample: Path) -> None:
    with pytest.raises(UserError, match=r"was begun with other images: .*; pass another run"):
        pipeline.discover("sample", run=run.folder)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kay": 3}, "unknown option kay; did you mean"),
        ({"k": 0}, "k=0 is not possible"),
        ({"resize": "stretch"}, "resize='stretch' is not possible"),
        ({"model": "resnet51"}, "there is no model 'resnet51'"),
        ({"device": "cuda:99"}, "device='cuda:99' is not possible"),
        ({"plugins": "none"}, "there is no plug-in 'none'"),
    ],
)
def test_what_is_wrong_is_said_in_pythons_words(
    sample: Path, tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(UserError) as caught:
        given = {"model": "sample", **options}
        pipeline.discover(sample / "images", run=tmp_path / "run", **given)
    assert str(caught.value).startswith(sentence)
    assert "make " not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_lost_file_is_told_with_a_call(run: Run) -> None:
    path = run.folder / "bank" / "bank.h5"
    aside = path.with_suffix(".aside")
    path.rename(aside)
    try:
        with pytest.raises(UserError, match=r"bank\.h5 is missing; discover\(run='.*'\) makes it"):
            pipeline.open_run(run.folder).bank.W  # noqa: B018
    finally:
        aside.rename(path)


def test_an_image_is_explained_by_a_run_or_by_itself(
    run: Run, sample: Path, tmp_path: Path
) -> None:
    image = next((sample / "images").rglob("*.jpg"))
    with Image.open(image) as picture:
        found = pipeline.explain(picture, run.folder)
        alone = pipeline.explain(np.asarray(picture), k=2, image_size=64)
    assert np.array_equal(found.heatmaps, pipeline.explain(image, run).heatmaps)
    assert len(alone.heatmaps) == 2
    assert "the network sees:" in found.describe()
    assert "data:image/jpeg" in found._repr_html_()
    found.save(tmp_path / "explained.png")
    with Image.open(tmp_path / "explained.png") as saved:
        assert saved.size == found.picture.shape[1::-1]
    with pytest.raises(UserError, match=r"k='many' is not possible"):
        pipeline.explain(image, k="many")  # type: ignore[arg-type]


def test_an_image_is_explained_by_several_numbers_of_concepts(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    found = pipeline.explain(image, k=(2, 4), image_size=64)
    assert list(found.by_k) == [2, 4]
    for k, each in found.by_k.items():
        alone = pipeline.explain(image, k=k, image_size=64)
        assert np.array_equal(alone.heatmaps, each.heatmaps)
    assert found.by_k[4].residual < found.by_k[2].residual
    assert re.findall(r"^\d+ concepts", found.describe(), re.MULTILINE) == [
        "2 concepts",
        "4 concepts",
    ]
    found.save(tmp_path / "several.png")
    with Image.open(tmp_path / "several.png") as saved:
        assert np.array_equal(np.asarray(saved), found.picture)
    assert found.picture.shape[0] > sum(each.picture.shape[0] for each in found.by_k.values())
    assert "4 concepts" in found._repr_html_()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 5}, r"k is for an image by itself; a run's concepts are fixed"),
        ({"model": "resnet50"}, r"model is for an image by itself"),
        ({"layr": "features"}, r"layr is no option of an image; did you mean 'layer'"),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    run: Run, sample: Path, options: dict[str, Any], sentence: str
) -> None:
    image = next((sample / "images").rglob("*.jpg"))
    with pytest.raises(UserError, match=sentence):
        pipeline.explain(image, run, **options)
    with pytest.raises(UserError, match="balance is no option of an image"):
        pipeline.explain(image, balance="class")


def test_runs_are_evaluated_and_compared(run: Run, sample: Path) -> None:
    found = pipeline.evaluate(run, sample / "objects")
    assert len(found.images) == 48
    assert found.by_label()["label"].iloc[-1] == "all"
    assert found.picture.dtype == np.uint8
    plain = pipeline.evaluate(run.folder, sample / "objects", refiner=None)
    assert not plain.images["j"].equals(found.images["j"])
    same = pipeline.compare(run, run.folder)
    assert same.pairs["cosine"].to_numpy() == pytest.approx(1)
    assert same.only_a == same.only_b == ()


def test_a_run_is_removed_but_not_what_is_beside_it(run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "bank").mkdir(parents=True)
    (copy / "run.json").write_bytes((run.folder / "run.json").read_bytes())
    (copy / "notes.txt").write_text("mine")
    assert pipeline.clean(copy) == [copy / "notes.txt"]
    assert [path.name for path in copy.iterdir()] == ["notes.txt"]
    with pytest.raises(UserError, match="is not a run"):
        pipeline.clean(copy)
