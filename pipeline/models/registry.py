"""Finds a network by its name: ``<name>`` of a source of ours, or ``<source>:<name>`` of any."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from .. import plugins
from ..config import OF_A_NETWORK, Config, Head
from ..errors import UserError, command, option, suggest
from ..images import InputSize, Interpolation, sides
from . import program_source
from .class_names import ABOUT, read
from .code_source import CODE, absolute, is_code
from .margin import with_margin
from .network import Network
from .one_logit import two_sided
from .source import NORMALISATION, NetworkSource, Wanted

Triple = tuple[float, float, float]

SHORT = ("sample", "torchvision")
"""Sources whose networks need no source before their names."""


def list_models() -> list[str]:
    """Return the names that need no source before them: ``sample`` and torchvision's models."""
    known = {kind: _source(kind).names() for kind in SHORT}
    return [name for kind in sorted(known) for name in known[kind]]


def load_network(
    name: str,
    weights: Path | None = None,
    *,
    image_size: InputSize | None = None,
    seed: int = 0,
    mean: Triple | None = None,
    std: Triple | None = None,
    interpolation: Interpolation | None = None,
    class_names: Path | None = None,
    weights_key: str | None = None,
    head: Head = "auto",
) -> Network:
    """Load a network for inference.

    Parameters
    ----------
    name : str
        A name from `list_models`; ``timm:<name>``, ``hf:<name or folder>``, or another
        ``<source>:<name>`` where a plug-in is the source; ``package.module:function`` or
        ``file.py:function`` for a function of one's own that makes it; a ``.pt2`` file of
        torch.export.
    weights : Path, optional
        A ``.safetensors``, ``.pt`` or ``.pth`` file; the number of classes is read from it.
        ``Path("random")`` draws them instead (for benchmarks). By default torchvision's own
        weights are downloaded, or the shipped ones taken for ``sample``.
    image_size : int or (int, int), optional
        Side of the square input, or its height and width, pixels; by default the source's.
    seed : int
        Seed of random weights.
    mean, std : tuple of float, optional
        Normalisation of an RGB image in [0, 1]; by default the source's.
    interpolation : {'bilinear', 'bicubic'}, optional
        How images are scaled; by default the source's.
    class_names : Path, optional
        A file of the classes' names; see `pipeline.models.class_names.read`.
    weights_key : str, optional
        Under which key of the file the weights are; see `checkpoints.read_checkpoint`.
    head : {'auto', 'probe', 'none'}
        Whether the network's own head counts; all but ``auto`` leave it aside, and what it is
        before is a backbone.

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
    if image_size is not None and min(sides(image_size)) < 1:
        raise UserError(
            f"images of {image_size} pixels are not possible: see {option('image_size')}"
        )
    kind, rest = _find(name)
    network = _source(kind).load(rest, Wanted(weights, image_size, seed, weights_key))
    if kind not in SHORT:
        network = dataclasses.replace(network, name=canonical(name))
    network = two_sided(network) if head == "auto" else headless(network)
    network = _as_given(network, mean, std, interpolation, class_names)
    network.module.eval().requires_grad_(False)
    return network


def headless(network: Network) -> Network:
    """Return a network whose own classes count for nothing, nor what was assumed of them."""
    notes = tuple(note for note in network.notes if not note.startswith(ABOUT))
    spare = bool(network.classes)
    return dataclasses.replace(
        network, classes=(), link="softmax", notes=notes, has_spare_head=spare
    )


def configured(config: Config, model: str | None = None) -> Network:
    """Load the network of a configuration; `model` stands in for its own, which may be ``auto``."""
    given = {name: getattr(config, name) for name in OF_A_NETWORK} | {
        "image_size": config.input_size
    }
    network = load_network(model or config.model, config.weights, **given)
    return with_margin(network, config.layer, config.margin)


def _as_given(
    network: Network,
    mean: Triple | None,
    std: Triple | None,
    interpolation: Interpolation | None,
    class_names: Path | None,
) -> Network:
    """Return a network with what the user says of its images and classes."""
    scaling = network.scaling
    if interpolation is not None:
        scaling = dataclasses.replace(scaling, interpolation=interpolation)
    classes, notes = network.classes, network.notes
    if class_names is not None:
        classes = read(class_names)
        if len(classes) != len(network.classes):
            raise UserError(
                f"{class_names} names {len(classes)} classes, {network.name} has"
                f" {len(network.classes)}"
            )
        notes = tuple(note for note in notes if not note.startswith(ABOUT))
    if mean is not None and std is not None:
        notes = tuple(note for note in notes if NORMALISATION not in note)
    return dataclasses.replace(
        network,
        mean=mean or network.mean,
        std=std or network.std,
        scaling=scaling,
        classes=classes,
        notes=notes,
    )


def canonical(name: str) -> str:
    """Return the name by which a network is found from any folder."""
    kind, _, rest = name.partition(":")
    if kind == "hf" and Path(rest).expanduser().is_dir():
        return f"hf:{Path(rest).expanduser().resolve()}"
    if program_source.is_program(name):
        return program_source.absolute(name.removeprefix(f"{program_source.PROGRAM}:"))
    return absolute(name) if is_code(name) else name


def _find(name: str) -> tuple[str, str]:
    """Return the source of a network and what the source calls it."""
    kind, colon, rest = name.partition(":")
    if program_source.is_program(name) and kind not in plugins.names(plugins.NETWORKS):
        return program_source.PROGRAM, program_source.absolute(name)
    if colon and kind not in plugins.names(plugins.NETWORKS) and is_code(name):
        return CODE, absolute(name)
    if colon:
        return kind, rest
    for kind in SHORT:
        if name in _source(kind).names():
            return kind, name
    program_source.refuse_other_files(name)
    near = suggest(name, list_models())
    raise UserError(
        f"there is no model {name!r}{': ' + near if near else ';'} {command('layers')} lists all"
        f" models; others are called timm:<name>, hf:<name or folder>, file.py:<function>"
    )


def _source(kind: str) -> NetworkSource:
    source: NetworkSource = plugins.load(plugins.NETWORKS, kind)
    return source
