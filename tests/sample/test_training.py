"""Training the sample's network: the same bytes twice, and it learns."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from safetensors import safe_open

from pipeline.sample import CLASSES, training, transformer
from pipeline.sample.batches import SceneSet, normalised, render_set
from pipeline.sample.network import load
from pipeline.sample.training import RECIPES, Recipe
from tests.calling import call

TINY = Recipe(n_scenes=48, epochs=2, batch_size=16, threads=1, workers=1)
ROOT = Path(__file__).resolve().parents[2]


def trained(recipe: Recipe, path: Path) -> tuple[bytes, list[str]]:
    lines: list[str] = []
    training.save(training.train(recipe, lines.append), recipe, path)
    return path.read_bytes(), lines


@pytest.mark.slow
def test_retraining_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    threads = torch.get_num_threads()
    first, lines = trained(TINY, tmp_path / "a.safetensors")
    torch.manual_seed(123)
    torch.rand(7)
    again, repeated = trained(TINY, tmp_path / "b.safetensors")
    assert again == first
    assert repeated == lines
    other, _ = trained(replace(TINY, seed=1), tmp_path / "c.safetensors")
    assert other != first
    torch.random.set_rng_state(state)
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_the_transformer_is_trained_to_the_same_bytes(tmp_path: Path) -> None:
    recipe = replace(RECIPES["vit"], n_scenes=32, epochs=2, batch_size=16, workers=1)
    first, lines = trained(recipe, tmp_path / "a.safetensors")
    again, repeated = trained(recipe, tmp_path / "b.safetensors")
    assert again == first
    assert repeated == lines
    state = transformer.load(tmp_path / "a.safetensors").state_dict()
    assert state.keys() == transformer.load().state_dict().keys()
    begun, shipped = state["stem.0.0.weight"], load().state_dict()["stem.0.weight"]
    assert not torch.equal(begun, shipped)
    assert torch.nn.functional.cosine_similarity(begun.ravel(), shipped.ravel(), 0) > 0.9


@pytest.mark.parametrize(
    ("given", "what"), [({"arch": "rnn"}, "is neither cnn nor vit"), ({"epochs": "0"}, "no number")]
)
def test_what_cannot_be_trained(
    given: dict[str, str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("sample-model", given) == 2
    assert what in capsys.readouterr().err


def test_the_file_holds_the_recipe_and_loads(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    trained(replace(TINY, epochs=1), path)
    with safe_open(path, framework="pt") as file:
        made = json.loads(file.metadata()["recipe"])
    assert made["n_scenes"] == 48
    assert made["epochs"] == 1
    assert load(path).head.out_features == len(CLASSES)


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path: Path) -> None:
    _, lines = trained(replace(TINY, epochs=20), tmp_path / "net.safetensors")
    losses = [float(found[1]) for line in lines if (found := re.search(r"loss ([\d.]+)", line))]
    assert len(losses) == 20
    # Of three batches an epoch, single ones differ by more than they gain; so does the precision.
    assert fmean(losses[-4:]) < 0.95 * fmean(losses[:4])


def test_accuracy_counts_the_right_answers() -> None:
    network = load()
    scenes = render_set(5, 30, workers=1)
    with torch.inference_mode():
        answers = network(normalised(scenes.images)).argmax(1)
    assert training.accuracy(network, SceneSet(scenes.images, answers), batch_size=7) == 1
    wrong = SceneSet(
        scenes.images, torch.where(torch.arange(30) < 6, (answers + 1) % len(CLASSES), answers)
    )
    assert training.accuracy(network, wrong, batch_size=7) == pytest.approx(0.8)


@pytest.mark.slow
def test_the_command_writes_weights_and_says_their_accuracy(tmp_path: Path) -> None:
    out = tmp_path / "new" / "net.safetensors"
    options = ["--n-scenes=16", "--epochs=1", "--threads=1", "--n-held-out=12"]
    done = subprocess.run(
        [sys.executable, "-m", "stages.sample_model", f"--out={out}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+\.\d% of 12 held-out scenes right", done.stdout)
    load(out)


@pytest.mark.parametrize(("name", "text"), [("epochs", "0"), ("seed", "-1"), ("n_scenes", "many")])
def test_the_command_refuses_what_is_no_number(
    name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("sample-model", {name: text}) == 2
    assert f"{name.upper()}={text} is no number from" in capsys.readouterr().err
