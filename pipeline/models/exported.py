"""Traces a network with torch.export, for those that torch.fx cannot: transformers above all."""

from __future__ import annotations

import builtins
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn

from .trace import Trace
from .translation import translate

_LENGTH = builtins.len

MOST_IMAGES = 1 << 16
"""Images of a batch, at most; torch.export wants a bound."""


class ExportError(Exception):
    """torch.export cannot trace a network; the text is its reason, in a line."""


def trace(module: nn.Module, noise: torch.Tensor) -> Trace:
    """Trace a network for batches of any size.

    Parameters
    ----------
    module : Module
        In `eval` mode; takes images and gives one tensor.
    noise : Tensor (batch, 3, height, width)
        Some input, of two images at least.

    Raises
    ------
    ExportError
        What it computes hangs on values, or on the number of images.
    """
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    try:
        with torch.no_grad(), _quietly(), _lengths_of_any_batch():
            program = torch.export.export(
                _Whole(module), (noise,), dynamic_shapes=({0: batch},), strict=False
            )
            graph = program.module()
    except Exception as error:  # torch.export has an exception for everything
        raise ExportError(_reason(error)) from error
    assert isinstance(graph, fx.GraphModule)
    return translate(graph)


class _Whole(nn.Module):
    """A network under one name, which all paths of its modules begin with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Any:
        return self.network(images)


@contextmanager
def _lengths_of_any_batch() -> Iterator[None]:
    """Let ``len(images)`` depend on the batch as ``images.shape[0]`` does.

    Python makes a plain number of what ``len`` returns, and the network one of two images.
    """
    known = _LENGTH

    def length(value: Any) -> Any:
        return value.shape[0] if isinstance(value, torch.Tensor) else known(value)

    builtins.len = length
    try:
        yield
    finally:
        builtins.len = known


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what torch.export says to its own developers from the user."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _reason(error: Exception) -> str:
    return (
        next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        or type(error).__name__
    )
