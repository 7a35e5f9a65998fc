"""Activations of any size: tiny, huge, or none at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from pipeline import Run, explain, open_run
from pipeline.errors import UserError
from pipeline.jobs.discover import discover
from pipeline.sample import write_sample
from pipeline.sample.network import WEIGHTS

FACTORS = {"tiny": 3e-8, "huge": 1e17, "by a power of two": 2.0**-30}


def weigh(folder: Path, factor: float) -> Path:
    """Write weights of the sample's network that give its activations times a factor."""
    state = {name: each.float() for name, each in safetensors.torch.load_file(WEIGHTS).items()}
    state["parts.1.weight"] = state["parts.1.weight"] * factor
    state["parts.1.bias"] = state["parts.1.bias"] * factor
    if factor:
        state["head.weight"] = state["head.weight"] / factor
    path = folder / f"{factor}.safetensors"
    safetensors.torch.save_file(state, path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    write_sample(folder, n_images=60)
    return folder / "images"


def found(images: Path, folder: Path, factor: float, precision: str = "auto") -> Run:
    weights = weigh(images.parent, factor)
    options: dict[str, Any] = {"model": "sample", "k": "6", "precision": precision}
    options["weights"] = str(weights)
    return discover(dataset=str(images), run=str(folder), **options)


@pytest.fixture(scope="module")
def plain(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return found(images, tmp_path_factory.mktemp("plain") / "run", 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["auto", "fp32"])
@pytest.mark.parametrize("size", FACTORS)
def test_the_same_concepts_are_found_whatever_the_size_of_activations(
    images: Path, plain: Run, tmp_path: Path, size: str, precision: str
) -> None:
    run = found(images, tmp_path / "run", FACTORS[size], precision)
    assert (run.bank.W * plain.bank.W).sum(0) / (
        np.linalg.norm(run.bank.W, axis=0) * np.linalg.norm(plain.bank.W, axis=0)
    ) == pytest.approx(1, abs=1e-3)
    ours, theirs = run.table("concepts"), plain.table("concepts")
    assert ours["top_label"].tolist() == theirs["top_label"].tolist()
    assert ours["energy"].to_numpy() == pytest.approx(theirs["energy"].to_numpy(), abs=2e-3)
    assert ours["importance"].to_numpy() == pytest.approx(
        theirs["importance"].to_numpy(), rel=0.02, abs=0.02
    )
    image_id = int(run.table("images")["image_id"].iloc[0])
    assert np.isfinite(run.heatmap(image_id)).all()
    query = "select value from fidelity where metric in ('agreement', 'kl') and class_id is null"
    assert run.sql(query)["value"].to_numpy() == pytest.approx(
        plain.sql(query)["value"].to_numpy(), rel=0.02
    )
    again = open_run(run.folder).meaning.split([image_id])
    total = again.filter(like="concept_").sum(axis=1) + again["bias"] + again["residual"]
    assert total.to_numpy() == pytest.approx(again["logit"].to_numpy(), rel=1e-3)


def test_a_layer_of_zeros_is_said(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all activations of the layer are zero"):
        found(images, tmp_path / "run", 0.0)
    image = next(images.rglob("*.jpg"))
    with pytest.raises(UserError, match=r"all activations of layer parts.* are zero"):
        explain(image, model="sample", weights=weigh(tmp_path, 0.0))


@pytest.mark.parametrize("size", FACTORS)
def test_one_image_by_itself_too(images: Path, tmp_path: Path, size: str) -> None:
    image = next(images.rglob("*.jpg"))
    ours = explain(image, k=3, model="sample", weights=weigh(tmp_path, FACTORS[size]))
    theirs = explain(image, k=3, model="sample", weights=weigh(tmp_path, 1.0))
    assert ours.legend["label"].tolist() == theirs.legend["label"].tolist()
    assert ours.residual == pytest.approx(theirs.residual, abs=1e-2)
