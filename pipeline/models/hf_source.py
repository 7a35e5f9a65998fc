"""Image networks of Hugging Face, from a folder or the hub, with their own preprocessing.

transformers is imported when one is asked for; code that comes with a model is never run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, option
from ..images import InputSize, Scaling, size_of
from ..system.checksums import sha256
from ..system.optional import imported
from . import class_names, link
from .answer import Answer
from .fitting import fill_from
from .network import Network
from .source import IMAGENET_MEAN, IMAGENET_STD, NORMALISATION, RANDOM, Wanted
from .weights import digest

Triple = tuple[float, float, float]

FAILS = (OSError, RuntimeError, ValueError, LookupError, ImportError, TypeError, AttributeError)
"""What transformers raises where a model cannot be found, made or fetched."""

BILINEAR = 2
"""Pillow's number of it, by which an image processor says how it resizes."""

CLASSIFIER = "ForImageClassification"

NO_PROCESSING = f"{NORMALISATION}: the model has no image processor"


class HuggingFaceSource:
    """Image classifiers and backbones; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List none: what is named is a folder, or a model of the hub."""
        return ()

    def load(self, name: str, wanted: Wanted) -> Network:
        """Load a network with its own weights, those of a file, or random ones."""
        hub = imported("transformers", "transformers")
        folder = Path(name).expanduser()
        where = str(folder) if folder.is_dir() else name
        try:
            with _quietly(hub):
                config = hub.AutoConfig.from_pretrained(where)
                processing = _processing(hub, where)
                size = wanted.image_size or _input_size(config, processing)
                module = _make(hub, where, config, wanted)
        except FAILS as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{name} cannot be loaded by transformers ({reason}): {option('model')}=hf: takes a"
                " folder with config.json and weights, or the name of a model of the hub"
            ) from error
        source, sha = f"Hugging Face's {name}", ""
        notes = [] if processing else [NO_PROCESSING]
        if wanted.weights == RANDOM:
            source = wanted.drawn
        elif wanted.weights is not None:
            notes += fill_from(module, wanted, f"hf:{name}")
            source, sha = wanted.weights.name, sha256(wanted.weights)
        mean, std = _normalisation(processing)
        return Network(
            name=name,
            module=Answer(module, **_resized(module, config, size)),
            image_size=size,
            mean=mean,
            std=std,
            scaling=_scaling(processing),
            classes=class_names.from_numbers(config.id2label, f"{name}'s id2label")
            if _is_classifier(config)
            else (),
            weights_sha256=sha or digest(module.state_dict()),
            weights_source=source,
            link=link.said_by(module),
            notes=tuple(notes),
        )


SOURCE = HuggingFaceSource()


@contextmanager
def _quietly(hub: Any) -> Iterator[None]:
    """Keep transformers' bars and advice out of the job's own."""
    talk = hub.utils.logging
    level, shown = talk.get_verbosity(), talk.is_progress_bar_enabled()
    talk.set_verbosity(talk.CRITICAL)
    talk.disable_progress_bar()
    try:
        yield
    finally:
        talk.set_verbosity(level)
        if shown:
            talk.enable_progress_bar()


def _make(hub: Any, where: str, config: Any, wanted: Wanted) -> nn.Module:
    """Make a classifier; where there is none, the bare backbone, or the tower that sees images."""
    kind = hub.AutoModelForImageClassification if _is_classifier(config) else hub.AutoModel
    if hasattr(config, "vision_config"):  # one of text and images
        kind = getattr(hub, type(config).__name__.removesuffix("Config") + "VisionModel")
    module: nn.Module
    if wanted.weights is None:
        module = kind.from_pretrained(where, dtype=torch.float32)
        return module
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(wanted.seed)
        if hasattr(config, "vision_config"):
            module = kind(config.vision_config).float()
        else:
            module = kind.from_config(config, dtype=torch.float32)
    return module


def _is_classifier(config: Any) -> bool:
    return str((config.architectures or [""])[0]).endswith(CLASSIFIER)


def _processing(hub: Any, where: str) -> Mapping[str, Any]:
    """Return how a model's images are prepared; empty where it does not say."""
    names = ("preprocessor_config.json", "processor_config.json")
    if Path(where).is_dir() and not any((Path(where) / name).exists() for name in names):
        return {}  # which is no fault: what is assumed then is said
    try:
        found: Mapping[str, Any] = hub.AutoImageProcessor.from_pretrained(where).to_dict()
    except OSError:
        if Path(where).is_dir():
            raise
        return {}  # the hub has none
    return found


def _input_size(config: Any, processing: Mapping[str, Any]) -> InputSize:
    """Return the size of the input: what remains of images, or what the network is made for."""
    size = processing.get("crop_size") or processing.get("size") or {}
    if isinstance(size, int):
        return size
    if height := size.get("height"):
        return size_of(int(height), int(size.get("width") or height))
    return int(size["shortest_edge"]) if size.get("shortest_edge") else _made_for(config)


def _made_for(config: Any) -> InputSize:
    """Return the size of images that a network is made for."""
    size = getattr(getattr(config, "vision_config", config), "image_size", None) or 224
    return int(size) if isinstance(size, int) else size_of(*map(int, size))


def _resized(module: nn.Module, config: Any, size: InputSize) -> dict[str, bool]:
    """Have positions interpolated where a network is made for images of another size."""
    name = "interpolate_pos_encoding"
    takes = name in inspect.signature(module.forward).parameters
    return {name: True} if takes and size != _made_for(config) else {}


def _normalisation(processing: Mapping[str, Any]) -> tuple[Triple, Triple]:
    """Return mean and std of images in [0, 1]; a processor may rescale them otherwise first."""
    if not processing:
        return IMAGENET_MEAN, IMAGENET_STD
    one = 255 * (processing.get("rescale_factor") or 1 / 255)
    if not processing.get("do_rescale", True):
        one = 255.0
    if not processing.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1 / one, 1 / one, 1 / one)
    return _over(processing["image_mean"], one), _over(processing["image_std"], one)


def _over(values: float | Sequence[float], one: float) -> Triple:
    r, g, b = [values] * 3 if isinstance(values, int | float) else values
    return r / one, g / one, b / one


def _scaling(processing: Mapping[str, Any]) -> Scaling:
    """Return how images are scaled: bilinear where that is said, and what a crop leaves."""
    interpolation = "bilinear" if processing.get("resample") in (None, BILINEAR) else "bicubic"
    crop = processing.get("crop_pct") or 1.0
    size, left = processing.get("size") or {}, processing.get("crop_size") or {}
    if processing.get("do_center_crop") and isinstance(left, Mapping) and left.get("height"):
        short = size.get("shortest_edge") or min(size.get("height", 0), size.get("width", 0))
        crop = left["height"] / short if short else 1.0
    return Scaling(interpolation, min(1.0, float(crop)))  # type: ignore[arg-type]
