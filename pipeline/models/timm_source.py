"""Networks of timm, with its own preprocessing. timm is imported when one is asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import UserError, option, suggest
from ..images import InputSize, Interpolation, Scaling, size_of
from ..system.checksums import sha256
from ..system.optional import imported
from . import architecture, class_names
from .checkpoints import read_checkpoint
from .fitting import fitted
from .link import said_by
from .network import Network
from .source import RANDOM, Wanted
from .weights import State, digest, fill

FAILS = (OSError, RuntimeError, ValueError, LookupError, ImportError, TypeError, AssertionError)
"""What timm and its hub raise where a model cannot be made or fetched."""


class TimmSource:
    """timm's models; see `pipeline.models.source.NetworkSource`."""

    def names(self) -> Iterable[str]:
        """List none: timm's are asked for as ``timm:<name>``."""
        return ()

    def load(self, name: str, wanted: Wanted) -> Network:
        """Make a model with timm's weights, those of a file, or random ones."""
        timm = imported("timm", "timm")
        if not timm.is_model(name.partition(".")[0]):
            near = suggest(name.partition(".")[0], timm.list_models())
            raise UserError(f"timm has no model {name!r}{': ' + near if near else ''}")
        notes: list[str] = []
        if wanted.weights is None:
            module = _downloaded(timm, name, wanted)
            source, sha = f"timm's {name}", digest(module.state_dict())
        elif wanted.weights == RANDOM:
            module = _drawn(timm, name, wanted)
            source, sha = wanted.drawn, digest(module.state_dict())
        else:
            module, notes = _filled(timm, name, wanted, wanted.weights)
            source, sha = wanted.weights.name, sha256(wanted.weights)
        settings = timm.data.resolve_model_data_config(module)
        names, note = _names(timm, module, wanted)
        notes += [note] if note else []
        return Network(
            name=name,
            module=module,
            image_size=wanted.image_size or size_of(*settings["input_size"][1:]),
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            scaling=Scaling(_interpolation(settings), float(settings["crop_pct"])),
            classes=names,
            weights_sha256=sha,
            weights_source=source,
            link=said_by(module),
            notes=tuple(notes),
        )


SOURCE = TimmSource()


def _downloaded(timm: Any, name: str, wanted: Wanted) -> nn.Module:
    try:
        return _make(timm, name, wanted.image_size, pretrained=True)
    except FAILS as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"cannot fetch timm's weights of {name} ({reason}): pass a file of them as"
            f" {option('weights')}"
        ) from error


def _drawn(timm: Any, name: str, wanted: Wanted) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(wanted.seed)
        try:
            return _make(timm, name, wanted.image_size)
        except FAILS as error:
            raise _cannot_make(name, error) from error


def _filled(timm: Any, name: str, wanted: Wanted, file: Path) -> tuple[nn.Module, list[str]]:
    """Make a model of the classes that a file has, and fill it."""
    state, notes = read_checkpoint(file, wanted.weights_key)
    with torch.random.fork_rng(devices=[]):
        try:
            with architecture.undrawn():
                module: Any = _make(timm, name, wanted.image_size)
                state, more = fitted(module.state_dict(), state)
                n_classes = _n_classes(module, state)
                if n_classes != module.num_classes:
                    module.reset_classifier(n_classes)
        except FAILS as error:
            raise _cannot_make(name, error) from error
    found: nn.Module = module
    fill(found, _in_its_words(timm, name, found, state), f"timm:{name}", file)
    return found, notes + more


def _make(timm: Any, name: str, size: InputSize | None, **options: Any) -> nn.Module:
    """Make a model; those that are built for one size are built for this one."""
    module: nn.Module
    try:
        sized = {} if size is None else {"img_size": size}
        module = timm.create_model(name, **sized, **options)
    except TypeError:  # convolutions take any size, and no such argument
        module = timm.create_model(name, **options)
    return module


def _cannot_make(name: str, error: Exception) -> UserError:
    reason = str(error).partition("\n")[0]
    return UserError(f"timm cannot make {name} ({reason}): pass another {option('image_size')}")


def _n_classes(module: Any, state: State) -> int:
    """Return how many classes weights are of; 0 for those of a backbone."""
    head = module.pretrained_cfg.get("classifier") or "head"
    if not isinstance(head, str):
        head = head[0]  # a head for each of two outputs, which are averaged
    weight = state.get(f"{head}.weight", state.get(f"{head}.fc.weight"))
    return 0 if weight is None else len(weight)


def _in_its_words(timm: Any, name: str, module: nn.Module, state: State) -> State:
    """Bring weights to the names and sizes of a model, by timm's own rules for it."""
    entrypoint = timm.models.model_entrypoint(name.partition(".")[0])
    rules = sys.modules[entrypoint.__module__]
    bring = getattr(rules, "checkpoint_filter_fn", None) or getattr(rules, "_filter_fn", None)
    if bring is None or state.keys() == module.state_dict().keys():
        fits = bring is None or all(
            each.shape == state[key].shape for key, each in module.state_dict().items()
        )
        if fits:
            return state
    found: Mapping[str, torch.Tensor] = bring(dict(state), module)  # type: ignore[misc]
    return dict(found)


def _interpolation(settings: Mapping[str, Any]) -> Interpolation:
    """Return the nearest of the ways there are: timm knows Lanczos and random ones, too."""
    return "bilinear" if settings["interpolation"] == "bilinear" else "bicubic"


def _names(timm: Any, module: Any, wanted: Wanted) -> tuple[tuple[str, ...], str]:
    """Name a model's classes: as its configuration does, or as the subset of ImageNet it has."""
    cfg, n_classes = module.pretrained_cfg, int(module.num_classes)
    if cfg.get("label_names") and len(cfg["label_names"]) == n_classes:
        return tuple(map(str, cfg["label_names"])), ""
    subset = timm.data.infer_imagenet_subset({"num_classes": n_classes})
    if subset in (None, "imagenet-1k"):
        trained = wanted.weights != RANDOM
        head = architecture.head_rows(module, n_classes) if trained else None
        return class_names.assumed(n_classes, head)
    info = timm.data.ImageNetInfo(subset)
    note = f"{class_names.ASSUMED} those of {subset}"
    return tuple(info.index_to_description(index) for index in range(n_classes)), note
