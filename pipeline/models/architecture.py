"""Builds torchvision's architectures as a set of weights needs them: classes, options, size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import UserError, option
from ..images import InputSize, sides
from .weights import State

# Where the optional auxiliary classifiers of these two have their weights. Both were ported from a
# framework with inputs in [-1, 1]: torchvision's weights, and what is trained from them, need
# `transform_input`, which torchvision itself sets only on the way through its download.
_AUXILIARY = {"googlenet": "aux1.", "inception_v3": "AuxLogits."}

_POSITIONS = "encoder.pos_embedding"
_PATCHES = "conv_proj.weight"


def build(name: str, state: State | None, size: InputSize, n_classes: int, seed: int) -> nn.Module:
    """Build a torchvision architecture with the shapes that `state` has.

    Parameters
    ----------
    name : str
        A torchvision classification model.
    state : dict of str to Tensor, optional
        The weights that will be loaded; without it the random ones are to be used.
    size : int or (int, int)
        Side of the square input, or its height and width, pixels.
    n_classes : int
        Number of classes where there is no `state`.
    seed : int
        Seed of the random initialisation; the global generator is left as it was.

    Returns
    -------
    Module
        With random weights, or with arbitrary ones where there is a `state` to load.

    Raises
    ------
    UserError
        The architecture does not exist for this size.
    """
    options = _options(name, state, size)
    if state is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = _construct(name, size, num_classes=n_classes, **options)
            # A vision transformer starts with a last layer of zeros: all logits would be equal.
            last_layer(module).reset_parameters()
        return module
    with undrawn():
        module = _construct(name, size, num_classes=n_classes, **options)
        head = next(key for key, part in module.named_modules() if part is last_layer(module))
        weight = state.get(f"{head}.weight")
        if weight is not None and weight.ndim > 0 and len(weight) not in (0, n_classes):
            module = _construct(name, size, num_classes=len(weight), **options)
    return module


def last_layer(module: nn.Module) -> nn.Linear | nn.Conv2d:
    """Return the layer that computes the logits: the last linear map or convolution."""
    return [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)][-1]


def head_rows(module: nn.Module, n_classes: int) -> torch.Tensor | None:
    """Return the weights (n_classes, channels) of the last layer; None where it is another."""
    parts = [part for part in module.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    weight = parts[-1].weight.flatten(1) if parts else torch.empty(0, 0)
    return weight if len(weight) == n_classes > 0 else None


def reset(module: nn.Module, seed: int) -> None:
    """Draw all weights anew, by each layer's own rule, leaving the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in module.modules():
            if callable(draw := getattr(part, "reset_parameters", None)):
                draw()


def trained_size(name: str, state: State | None) -> int | None:
    """Return the input size a vision transformer's weights are made for; None for others."""
    if not _has_positions(name, state):
        return None
    assert state is not None
    n_positions = state[_POSITIONS].shape[1] - 1  # less the class token
    return math.isqrt(n_positions) * state[_PATCHES].shape[-1]


def fit_positions(name: str, state: State, size: InputSize) -> State:
    """Interpolate a vision transformer's position embedding to another input size.

    Source: torchvision's own `interpolate_embeddings`, which its fine-tuning recipes use.
    """
    if not _has_positions(name, state) or trained_size(name, state) == size:
        return state
    assert isinstance(size, int)  # the network was built for it
    from torchvision.models.vision_transformer import interpolate_embeddings

    return dict(interpolate_embeddings(size, state[_PATCHES].shape[-1], dict(state)))


def undrawn() -> TorchFunctionMode:
    """Leave the weights of networks that are made within the block as they come."""
    return _Undrawn()


def fit_stem(module: nn.Module, state: State) -> list[str]:
    """Give a ResNet the first layer of those for CIFAR, where its weights have it.

    That is a convolution of 3 × 3 without stride, and no pooling after it. Returns what the user is
    told.
    """
    weight, stem = state.get("conv1.weight"), getattr(module, "conv1", None)
    if weight is None or not isinstance(stem, nn.Conv2d) or not hasattr(module, "maxpool"):
        return []
    if weight.ndim != 4 or weight.shape[2:] != (3, 3) or stem.kernel_size != (7, 7):
        return []
    module.conv1 = nn.Conv2d(weight.shape[1], weight.shape[0], 3, 1, 1, bias=False)
    module.maxpool = nn.Identity()
    return ["the first layer is of 3 × 3 pixels, as for CIFAR: no pooling is taken to follow it"]


class _Undrawn(TorchFunctionMode):
    """Leaves new weights unset, since they are about to be loaded: VGG draws its own for 10 s."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_", "trunc_normal_", "erfinv_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _has_positions(name: str, state: State | None) -> bool:
    return (
        name.startswith("vit_")
        and state is not None
        and state.get(_POSITIONS, torch.empty(0)).ndim == 3
        and state.get(_PATCHES, torch.empty(0)).ndim == 4
    )


def _options(name: str, state: State | None, size: InputSize) -> dict[str, Any]:
    if name in _AUXILIARY:
        has_auxiliary = state is not None and any(key.startswith(_AUXILIARY[name]) for key in state)
        return {
            "aux_logits": has_auxiliary,
            "transform_input": True,
            # The alternative draws from a truncated normal by scipy: a minute, then overwritten.
            "init_weights": False,
        }
    if name.startswith("vit_"):
        if not isinstance(size, int):
            raise UserError(
                f"torchvision's {name} takes square images alone: pass {option('image_size')} as"
                " one number, or timm's network of that kind"
            )
        return {"image_size": size}
    if name.startswith("maxvit_"):
        return {"input_size": sides(size)}
    return {}


def _construct(name: str, size: InputSize, **options: Any) -> nn.Module:
    import torchvision  # takes a second and more

    # torch._assert, by which the vision transformer checks its size, raises AssertionError.
    try:
        module: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    except (ValueError, AssertionError) as error:
        height, width = sides(size)
        raise UserError(
            f"{name} does not exist for images of {width} × {height} pixels ({error}):"
            f" pass another {option('image_size')}"
        ) from error
    return module
