"""Classification networks of torchvision, with its weights or those of a file."""

from __future__ import annotations

from collections.abc import Iterable

import torchvision

from ..errors import UserError, suggest
from ..system.checksums import sha256
from . import architecture
from .network import Network
from .source import RANDOM, Wanted
from .weights import State, digest, download_state, fill, read_state


class TorchvisionSource:
    """torchvision's classification models; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List torchvision's classification models."""
        found: list[str] = torchvision.models.list_models(module=torchvision.models)
        return found

    def load(self, name: str, wanted: Wanted) -> Network:
        """Build a model and fill it; classes and size are read from the weights."""
        if name not in self.names():
            near = suggest(name, self.names())
            raise UserError(f"torchvision has no model {name!r}{': ' + near if near else ''}")
        default = torchvision.models.get_model_weights(name).DEFAULT
        preset = default.transforms()
        categories: list[str] = default.meta["categories"]
        state: State | None = None
        if wanted.weights is None:
            state, source, sha = download_state(name)
        elif wanted.weights != RANDOM:
            file = wanted.weights
            state, source, sha = read_state(file), file.name, sha256(file)
        size = wanted.image_size or architecture.trained_size(name, state) or preset.crop_size[0]
        module = architecture.build(name, state, size, len(categories), wanted.seed)
        if state is None:
            source, sha = wanted.drawn, digest(module.state_dict())
        else:
            fitted = architecture.fit_positions(name, state, size)
            fill(module, fitted, name, wanted.weights or source)
        n_classes = architecture.last_layer(module).weight.shape[0]
        return Network(
            name=name,
            module=module,
            image_size=size,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            classes=_class_names(n_classes, categories),
            weights_sha256=sha,
            weights_source=source,
        )


SOURCE = TorchvisionSource()


def _class_names(n_classes: int, categories: list[str]) -> tuple[str, ...]:
    """Name the classes as ImageNet does if there are as many, else by number."""
    if n_classes == len(categories):
        return tuple(categories)
    return tuple(f"class {index}" for index in range(n_classes))
