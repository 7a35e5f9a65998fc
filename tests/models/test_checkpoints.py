"""Weights as trainers write them: wrapped, prefixed, averaged, in parts, for grey images."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from pipeline.errors import UserError
from pipeline.models import load_network
from pipeline.models.checkpoints import read_checkpoint
from pipeline.models.network import Normalize

State = dict[str, torch.Tensor]


def trained(n_classes: int = 7) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = torchvision.models.resnet18(num_classes=n_classes)
    return model.eval()


def prefixed(prefix: str) -> Callable[[State], Any]:
    return lambda state: {f"{prefix}{key}": value for key, value in state.items()}


def lightning(state: State) -> Any:
    return {
        "epoch": 3,
        "state_dict": prefixed("model.")(state) | {"criterion.weight": torch.ones(7)},
        "hyper_parameters": argparse.Namespace(rate=0.1, folder=Path("data")),
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
        "loss": np.float64(0.5),
    }


SAVED: dict[str, Callable[[State], Any]] = {
    "plain": dict,
    "torchvision's script": lambda state: {
        "model": state, "epoch": 9, "args": argparse.Namespace(lr=0.1, output_dir=Path()),
    },
    "lightning": lightning,
    "timm": lambda state: {"state_dict": state, "arch": "resnet18", "metric": 0.7, "version": 2},
    "own": lambda state: {"model_state_dict": state, "optimizer_state_dict": {"x": 1}},
    "net": lambda state: {"net": prefixed("module.")(state), "acc": 93.1},
    "averaged alone": lambda state: {"model_ema": state},
    "compiled": prefixed("_orig_mod."),
    "compiled and parallel": prefixed("module._orig_mod."),
    "backbone": prefixed("backbone."),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAVED)
@pytest.mark.parametrize("ending", ["pt", "pth.tar", "ckpt", "bin"])
def test_what_trainers_save_is_read(tmp_path: Path, kind: str, ending: str) -> None:
    model = trained()
    file = tmp_path / f"w.{ending}"
    torch.save(SAVED[kind](model.state_dict()), file)
    network = load_network("resnet18", file)
    assert len(network.classes) == 7
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    normal = Normalize(network)(images)
    with torch.no_grad():
        assert torch.equal(network.module(normal), model(normal))
    left_out = [note for note in network.notes if "1 tensors outside of model" in note]
    assert bool(left_out) == (kind == "lightning")


def test_of_several_one_is_taken_and_said_and_another_can_be_asked_for(tmp_path: Path) -> None:
    first, other = trained().state_dict(), trained().state_dict()
    other = {key: value + 1 for key, value in other.items()}
    file = tmp_path / "w.ckpt"
    torch.save({"model": first, "model_ema": {"module": other}, "teacher": {"net": other}}, file)
    found, notes = read_checkpoint(file)
    assert torch.equal(found["fc.bias"], first["fc.bias"])
    assert notes == ["the weights are those under 'model'; weights_key takes 'model_ema' instead"]
    for key in ("model_ema.module", "teacher.net"):
        found, notes = read_checkpoint(file, key)
        assert torch.equal(found["fc.bias"], other["fc.bias"])
        assert notes == []
    asked = load_network("resnet18", file, weights_key="model_ema")
    assert torch.equal(asked.module.state_dict()["fc.bias"], other["fc.bias"])
    with pytest.raises(UserError, match="nothing under weights_key='techer': did you mean 'teache"):
        read_checkpoint(file, "techer")


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_weights_in_parts(tmp_path: Path, ending: str) -> None:
    state = trained().state_dict()
    keys = sorted(state)
    parts = {f"w-{n}.{ending}": keys[n::3] for n in range(3)}
    for name, part in parts.items():
        saved = {key: state[key].clone() for key in part}
        if ending == "bin":
            torch.save(saved, tmp_path / name)
        else:
            safetensors.torch.save_file(saved, tmp_path / name)
    index = tmp_path / f"w.{ending}.index.json"
    weight_map = {key: name for name, part in parts.items() for key in part}
    index.write_text(json.dumps({"weight_map": weight_map}))
    found = load_network("resnet18", index).module.state_dict()
    assert all(torch.equal(found[key], value) for key, value in state.items())
    for name in ("../w.safetensors", "/etc/passwd", "", "gone.safetensors"):
        index.write_text(json.dumps({"weight_map": {"fc.bias": name}}))
        with pytest.raises(UserError, match=r"does not lie beside it|is missing"):
            read_checkpoint(index)


def test_a_last_layer_after_a_dropout(tmp_path: Path) -> None:
    model = trained()
    model.fc = nn.Sequential(nn.Dropout(0.2), nn.Linear(512, 5))
    torch.save(model.state_dict(), tmp_path / "w.pt")
    network = load_network("resnet18", tmp_path / "w.pt")
    assert len(network.classes) == 5
    assert torch.equal(network.module.state_dict()["fc.bias"], model.state_dict()["fc.1.bias"])


def test_weights_for_grey_images_see_grey(tmp_path: Path) -> None:
    model = trained()
    model.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    torch.save(model.state_dict(), tmp_path / "w.pt")
    network = load_network("resnet18", tmp_path / "w.pt", mean=(0.4,) * 3, std=(0.3,) * 3)
    assert any("grey images" in note for note in network.notes)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    grey = ((images / 255 * weights).sum(1, keepdim=True) - 0.4) / 0.3
    with torch.no_grad():
        found, expected = network.module(Normalize(network)(images)), model(grey)
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_stem_for_cifar(tmp_path: Path) -> None:
    model: Any = trained(10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    network = load_network("resnet18", tmp_path / "w.pt", image_size=32)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    normal = Normalize(network)(images)
    with torch.no_grad():
        assert torch.equal(network.module(normal), model(normal))
    assert any("CIFAR" in note for note in network.notes)


class Sneaky:
    """Would write a file if it were unpickled."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.where,))


def test_what_would_run_code_is_named_and_not_run(tmp_path: Path) -> None:
    torch.save({"model": trained().state_dict(), "x": Sneaky(tmp_path / "ran")}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="not a plain set of tensors") as caught:
        read_checkpoint(tmp_path / "w.pt")
    assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_what_does_not_fit_names_the_way_in(tmp_path: Path) -> None:
    torch.save(torchvision.models.vgg11(num_classes=3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"do not fit .*file\.py:function"):
        load_network("resnet18", tmp_path / "w.pt")
