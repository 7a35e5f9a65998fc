"""Classification networks of torchvision, with its weights or those of a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torchvision
from torch import nn

from ..errors import UserError, suggest
from ..images import Interpolation, Scaling
from ..system.checksums import sha256
from . import architecture, class_names
from .answer import Answer
from .checkpoints import read_checkpoint
from .fitting import fill_from, fitted
from .network import Network
from .source import IMAGENET_MEAN, IMAGENET_STD, RANDOM, Wanted
from .weights import State, digest, download_state, fill


class TorchvisionSource:
    """torchvision's classification models; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List torchvision's classification models, and those whose trunk can be taken."""
        found: list[str] = torchvision.models.list_models(module=torchvision.models)
        return [*found, *_with_trunks()]

    def load(self, name: str, wanted: Wanted) -> Network:
        """Build a model and fill it; classes and size are read from the weights."""
        if name not in self.names():
            near = suggest(name, self.names())
            raise UserError(f"torchvision has no model {name!r}{': ' + near if near else ''}")
        if name in _with_trunks():
            return _trunk(name, wanted)
        default = torchvision.models.get_model_weights(name).DEFAULT
        preset = default.transforms()
        n_categories = len(default.meta["categories"])
        state: State | None = None
        notes: list[str] = []
        if wanted.weights is None:
            state, source, sha = download_state(name)
        elif wanted.weights != RANDOM:
            file = wanted.weights
            state, notes = read_checkpoint(file, wanted.weights_key)
            source, sha = file.name, sha256(file)
            own = architecture.build(name, {}, preset.crop_size[0], n_categories, wanted.seed)
            state, more = fitted(own.state_dict(), state)
            notes += more
        size = wanted.image_size or architecture.trained_size(name, state) or preset.crop_size[0]
        module = architecture.build(name, state, size, n_categories, wanted.seed)
        if state is None:
            source, sha = wanted.drawn, digest(module.state_dict())
        else:
            notes += architecture.fit_stem(module, state)
            sized = architecture.fit_positions(name, state, size)
            fill(module, sized, name, wanted.weights or source)
        n_classes, given = len(architecture.last_layer(module).weight), wanted.is_filled
        names, note = class_names.assumed(
            n_classes, architecture.head_rows(module, n_classes) if given else None
        )
        if note and given:
            notes.append(note)
        return Network(
            name=name,
            module=module,
            image_size=size,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            classes=names,
            weights_sha256=sha,
            weights_source=source,
            scaling=_scaling(preset),
            notes=tuple(notes),
        )


SOURCE = TorchvisionSource()

TRUNK_SIZE = 512
"""Side of the input of trunks: near what they are trained on (520 and 800), and of even cells."""


def _with_trunks() -> list[str]:
    """List the networks that segment or detect, whose trunk has concepts, and no classes."""
    kinds = (torchvision.models.segmentation, torchvision.models.detection)
    return [name for kind in kinds for name in torchvision.models.list_models(module=kind)]


def _trunk(name: str, wanted: Wanted) -> Network:
    """Build a network that segments or detects, fill it, and take its trunk."""
    notes: list[str] = []
    default = torchvision.models.get_model_weights(name).DEFAULT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(wanted.seed)
        module = torchvision.models.get_model(name, weights=None, weights_backbone=None)
    source, sha = wanted.drawn, ""
    if wanted.weights is None:
        state, source, sha = download_state(name)
        fill(module, state, name, source)
    elif wanted.weights != RANDOM:
        notes = fill_from(module, wanted, name)
        source, sha = wanted.weights.name, sha256(wanted.weights)
    trunk: nn.Module = module.backbone
    return Network(
        name=name,
        module=Answer(trunk),
        image_size=wanted.image_size or TRUNK_SIZE,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        classes=(),
        weights_sha256=sha or digest(trunk.state_dict()),
        weights_source=source if wanted.weights is not None else str(default),
        notes=tuple(notes),
    )


def _scaling(preset: Any) -> Scaling:
    """Return how torchvision scales a model's images."""
    interpolation: Interpolation = (
        "bicubic" if preset.interpolation.value == "bicubic" else "bilinear"
    )
    return Scaling(interpolation, preset.crop_size[0] / preset.resize_size[0])
