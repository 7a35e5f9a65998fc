"""Classes are called as ImageNet's where the last layer bears that out, else by numbers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pipeline
from pipeline.models import class_names, load_network
from pipeline.models.imagenet_head import NO, PAIRS, YES, likeness

timm: Any = import_module("timm")

HEADS = {
    "squeezenet1_1": "classifier.1",
    "mobilenet_v2": "classifier.1",
    "tf_efficientnet_lite0": "classifier",
}
"""Networks with ImageNet's classes of which there are real weights, and their last layers."""


def head(assets: Path, name: str) -> torch.Tensor:
    state = load_file(assets / "weights" / f"{name}.safetensors")
    return state[f"{HEADS[name]}.weight"].float().flatten(1)


@pytest.mark.parametrize("name", HEADS)
def test_real_heads_are_far_from_all_controls(assets: Path, name: str) -> None:
    weight, generator = head(assets, name), torch.Generator().manual_seed(0)
    found = likeness(weight)
    names = class_names.imagenet()
    others = {
        "alphabetical": weight[sorted(range(1000), key=names.__getitem__)],
        "reversed": weight.flip(0),
        "moved by one": weight.roll(1, 0),
        "moved by three": weight.roll(-3, 0),
        "drawn": torch.randn(weight.shape, generator=generator),
    } | {f"order {i}": weight[torch.randperm(1000, generator=generator)] for i in range(20)}
    controls = {what: likeness(rows) for what, rows in others.items()}
    print(f"{name}: {found:.1f}, controls at most {max(controls.values()):.2f}")
    assert found > 3 * YES
    assert max(controls.values()) < NO, controls


def test_birds_are_not_called_fish(assets: Path) -> None:
    """965 kinds of birds of iNaturalist, and a few more to be 1,000."""
    state = load_file(assets / "weights" / "mobilenet_v2_inat_bird.safetensors")
    rows = state["classifier.1.weight"].float()
    rows = torch.cat([rows, rows[:35]])
    assert likeness(rows) < NO
    assert class_names.assumed(1000, rows)[0][0] == "class 0"


@pytest.mark.parametrize("source", ["torchvision", "timm", "given"])
@pytest.mark.parametrize("moved", [False, True], ids=["as it is", "in another order"])
def test_every_source_looks_at_the_head(
    assets: Path, tmp_path: Path, source: str, moved: bool
) -> None:
    name = "tf_efficientnet_lite0" if source == "timm" else "mobilenet_v2"
    state = load_file(assets / "weights" / f"{name}.safetensors")
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    if moved:
        for part in ("weight", "bias"):
            state[f"{HEADS[name]}.{part}"] = state[f"{HEADS[name]}.{part}"][order].contiguous()
    file = tmp_path / "weights.safetensors"
    save_file(state, file)
    if source == "given":
        held = load_network(name, file).module
        network = load_network(pipeline.models.give({}, held)["model"])
    else:
        network = load_network(f"timm:{name}" if source == "timm" else name, file)
    (note,) = [each for each in network.notes if each.startswith(class_names.ABOUT)]
    if moved:
        assert network.classes[:2] == ("class 0", "class 1")
        assert "not ImageNet's" in note
        assert "class_names takes a file" in note
    else:
        assert network.classes[:2] == ("tench", "goldfish")
        assert "are ImageNet's, as the last layer shows" in note


def test_nothing_is_claimed_of_what_cannot_be_seen(tmp_path: Path) -> None:
    names, note = class_names.assumed(1000)
    assert names[0] == "tench"
    assert note.startswith(class_names.ASSUMED)
    assert class_names.assumed(7, torch.zeros(7, 3)) == (tuple(f"class {i}" for i in range(7)), "")
    assert class_names.assumed(1000, torch.ones(1000, 4))[0][0] == "class 0"
    assert class_names.assumed(1000, torch.full((1000, 4), torch.nan))[0][0] == "class 0"
    assert load_network("squeezenet1_1", Path("random")).classes[0] == "tench"


def test_names_of_a_file_silence_what_was_said_of_them(tmp_path: Path) -> None:
    weights, names = tmp_path / "w.pt", tmp_path / "names.txt"
    torch.save(load_network("squeezenet1_1", Path("random")).module.state_dict(), weights)
    network = load_network("squeezenet1_1", weights)
    assert network.classes[0] == "class 0"
    assert "the names of the classes are not known" in network.notes[0]
    names.write_text("\n".join(f"n{index}" for index in range(1000)))
    network = load_network("squeezenet1_1", weights, class_names=names)
    assert (network.notes, network.classes[0]) == ((), "n0")


def test_pairs_are_of_classes_that_people_call_alike() -> None:
    names = class_names.imagenet()
    called = {frozenset((names[a], names[b])) for a, b in PAIRS}
    assert {frozenset(("cello", "violin")), frozenset(("barbell", "dumbbell"))} <= called
    assert all(abs(a - b) >= 25 for a, b in PAIRS)
    assert len({*sum(PAIRS, ())}) == 2 * len(PAIRS)


class Odd(nn.Module):
    """Has 1,000 answers that no one layer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.some = nn.Linear(4, 500)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        some = self.some(self.body(images).relu().mean((2, 3)))
        return torch.cat([some, -some], 1)


def test_a_head_that_is_not_seen_leaves_the_names_assumed() -> None:
    network = load_network(pipeline.models.give({}, Odd())["model"], image_size=32)
    assert network.classes[0] == "tench"
    assert network.notes[0].startswith(class_names.ASSUMED)
