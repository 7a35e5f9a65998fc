"""Planted concepts that are real activations: their number and their vectors come back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from pipeline import nmf
from pipeline.config import make_config
from pipeline.jobs.extract import extract
from pipeline.runs.prepare import prepare
from pipeline.sample import write_sample

Floats = NDArray[np.float64]

N_IMAGES, PER_IMAGE = 400, 16
RAREST = 50
"""How much more often the commonest concept stands somewhere than the rarest."""


@pytest.fixture(scope="module")
def activations(tmp_path_factory: pytest.TempPathFactory) -> Floats:
    """(positions, channels) of the bundled network on its sample."""
    folder = tmp_path_factory.mktemp("planted")
    write_sample(folder / "sample", n_images=48)
    return extracted(folder / "run", dataset=str(folder / "sample" / "images"), model="sample")


@pytest.fixture(scope="module", params=["squeezenet1_1", "mobilenet_v2"])
def photographs(
    request: pytest.FixtureRequest, assets: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Floats]:
    """A network's name and its (positions, channels) on photographs."""
    name = request.param
    V = extracted(
        tmp_path_factory.mktemp("planted") / "run",
        dataset=str(assets / "images" / "imagenette224"),
        model=name,
        weights=str(assets / "weights" / f"{name}.safetensors"),
        limit="60",
    )
    return name, V


def extracted(folder: Path, **options: str) -> Floats:
    workspace = prepare(make_config(options), folder)
    extract(workspace)
    parts = [arrays["V"].astype(np.float64) for arrays in workspace.activations.iterate(["V"])]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


@dataclass(frozen=True)
class Planted:
    """Positions (images × PER_IMAGE, channels), the image of each, and the concepts in them."""

    V: Tensor
    images: NDArray[np.int64]
    W: Tensor


def plant(activations: Floats, k: int, noise: float, seed: int, cut: bool = True) -> Planted:
    """Make V of k real activations as concepts.

    Frequencies fall evenly to 1 / RAREST; every second concept stands, in half of the images, only
    where its more common neighbour does. Noise has a given norm beside the signal and stands where
    there is signal, for elsewhere its mean would be a concept more: Gaussian of one size, `cut` off
    where V would fall below zero, or without a mean, see `_without_mean`.
    """
    rng = np.random.default_rng(seed)
    W = _columns(activations, k, rng)
    frequency = np.geomspace(0.5, 0.5 / RAREST, k)
    in_image = rng.random((N_IMAGES, k)) < np.sqrt(frequency)
    for j in range(1, k, 2):
        follows = rng.random(N_IMAGES) < 0.5
        share = np.sqrt(frequency[j] / frequency[j - 1])
        in_image[follows, j] = in_image[follows, j - 1] & (rng.random(follows.sum()) < share)
    n = N_IMAGES * PER_IMAGE
    there = np.repeat(in_image, PER_IMAGE, axis=0) & (rng.random((n, k)) < np.sqrt(frequency))
    signal = (there * rng.gamma(2, 0.5, (n, k))) @ W.T
    if cut:
        disturbed = rng.standard_normal(signal.shape) * (signal > 0)
        disturbed *= noise * np.linalg.norm(signal) / np.linalg.norm(disturbed)
        V = np.maximum(signal + disturbed, 0)
    else:
        V = _without_mean(signal, noise, rng)
    images = np.repeat(np.arange(N_IMAGES), PER_IMAGE)
    return Planted(torch.from_numpy(V.astype(np.float32)), images, torch.from_numpy(W))


def _without_mean(signal: Floats, noise: float, rng: np.random.Generator) -> Floats:
    """Draw values from Gamma distributions with the signal as means.

    Their variance is the same wherever a value that cannot be negative allows: up to 4 s².
    """

    def excess(variance: float) -> float:
        return float(np.minimum(variance, 4 * signal**2).sum() - noise**2 * (signal**2).sum())

    variance = brentq(excess, 0, 4 * signal.max() ** 2)
    V = np.zeros_like(signal)
    s = signal[signal > 0]
    v = np.minimum(variance, 4 * s**2)
    V[signal > 0] = rng.gamma(s**2 / v, v / s)
    return V


def _columns(activations: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Draw k activations as unit columns, correlated, but no two the same but for their size."""
    columns: list[Floats] = []
    for _ in range(10_000):
        v = activations[rng.integers(len(activations))]
        if np.linalg.norm(v) > 0:
            v = v / np.linalg.norm(v)
            if all(v @ other < 0.7 for other in columns):
                columns.append(v)
        if len(columns) == k:
            return np.stack(columns, axis=1)
    raise AssertionError(f"the layer has only {len(columns)} activations that differ")


def test_planted_concepts_come_back(activations: Floats) -> None:
    come_back(plant(activations, 6, noise=0.25, seed=1), 6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_concepts_come_back_from_noise_of_half_the_signal(
    photographs: tuple[str, Floats], seed: int
) -> None:
    """Cut noise has a mean; that of 1,280 dense channels is found as a concept, see METHODS.md."""
    name, V = photographs
    come_back(plant(V, 8, 0.5, seed, cut=name == "squeezenet1_1"), 8)


def come_back(planted: Planted, k: int) -> None:
    """Assert that the number of concepts planted is chosen, and that they are found."""
    cosines = (planted.W.T @ planted.W).fill_diagonal_(0)
    assert float(cosines.max()) > 0.2  # correlated
    choice = nmf.choose_k(planted.V, planted.images, (k - 2, k, k + 2, k + 4))
    assert (choice.k, choice.flagged) == (k, False)
    found = nmf.fit_sample(planted.V, k, W0=choice.W)
    assert float(nmf.match(planted.W, found.W)[1].min()) >= 0.98


def test_activations_whose_channels_know_nothing_of_each_other_have_no_stable_k(
    activations: Floats,
) -> None:
    planted = plant(activations, 6, 0.25, 2)
    nothing = nmf.shuffle_channels(planted.V, 17)
    assert nmf.choose_k(nothing, planted.images, (4, 6, 8)).flagged
