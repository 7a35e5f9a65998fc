"""Finds a network by its name and fills it with weights."""

from __future__ import annotations

from pathlib import Path

import torchvision

from pipeline.errors import UserError, suggest
from pipeline.files import sha256
from pipeline.models import architecture
from pipeline.models.network import Network
from pipeline.models.weights import State, digest, download_state, fill, read_state

RANDOM = Path("random")
SAMPLE = "sample"


def list_models() -> list[str]:
    """Return the names `load_network` knows: ``sample`` and torchvision's classification models."""
    return [SAMPLE, *torchvision.models.list_models(module=torchvision.models)]


def load_network(
    name: str, weights: Path | None = None, *, image_size: int | None = None, seed: int = 0
) -> Network:
    """Load a classification network for inference.

    Parameters
    ----------
    name : str
        A name from `list_models`.
    weights : Path, optional
        A ``.safetensors``, ``.pt`` or ``.pth`` file; the number of classes is read from it.
        ``Path("random")`` draws them instead (for benchmarks). By default torchvision's own
        weights are downloaded, or the shipped ones taken for ``sample``.
    image_size : int, optional
        Side of the square input, pixels; by default what torchvision's preset says.
    seed : int
        Seed of random weights.

    Returns
    -------
    Network
        In `eval` mode, float32, without gradients.

    Raises
    ------
    UserError
        The name is unknown, the weights are missing or do not fit, or the network cannot be made
        for images of that size.

    Examples
    --------
    >>> load_network("squeezenet1_1", Path("random")).classes[0]
    'tench'
    """
    if name not in list_models():
        near = suggest(name, list_models())
        raise UserError(
            f"there is no model {name!r}{': ' + near if near else ';'}"
            " 'make layers' without MODEL lists all models"
        )
    if image_size is not None and image_size < 1:
        raise UserError(f"images of {image_size} pixels are not possible: pass IMAGE_SIZE=224")
    load = _load_sample if name == SAMPLE else _load_torchvision
    network = load(name, weights, image_size, seed)
    network.module.eval().requires_grad_(False)
    return network


def _load_torchvision(name: str, weights: Path | None, size: int | None, seed: int) -> Network:
    default = torchvision.models.get_model_weights(name).DEFAULT
    preset = default.transforms()
    categories: list[str] = default.meta["categories"]
    state: State | None = None
    if weights is None:
        state, source, sha = download_state(name)
    elif weights != RANDOM:
        state, source, sha = read_state(weights), weights.name, sha256(weights)
    size = size or architecture.trained_size(name, state) or preset.crop_size[0]
    module = architecture.build(name, state, size, len(categories), seed)
    if state is None:
        source, sha = _drawn(seed), digest(module.state_dict())
    else:
        fill(module, architecture.fit_positions(name, state, size), name, weights or source)
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


def _load_sample(name: str, weights: Path | None, size: int | None, seed: int) -> Network:
    from pipeline.sample import network as sample

    module = sample.SampleNet()
    if weights == RANDOM:
        architecture.reset(module, seed)
        source, sha = _drawn(seed), digest(module.state_dict())
    else:
        file = weights or sample.WEIGHTS
        fill(module, read_state(file), name, file)
        source, sha = file.name, sha256(file)
    return Network(
        name=name,
        module=module,
        image_size=size or sample.IMAGE_SIZE,
        mean=sample.MEAN,
        std=sample.STD,
        classes=sample.CLASSES,
        weights_sha256=sha,
        weights_source=source,
    )


def _drawn(seed: int) -> str:
    return f"random (seed {seed})"


def _class_names(n_classes: int, categories: list[str]) -> tuple[str, ...]:
    """Name the classes as ImageNet does if there are as many, else by number."""
    if n_classes == len(categories):
        return tuple(categories)
    return tuple(f"class {index}" for index in range(n_classes))
