"""Networks: loading them, finding their layers, cutting them, running them fast."""

from __future__ import annotations

from pipeline.models.cut import Cut, Forward, cut
from pipeline.models.layers import LayerInfo, choose_layer, list_layers
from pipeline.models.network import Network
from pipeline.models.registry import list_models, load_network

__all__ = [
    "Cut",
    "Forward",
    "LayerInfo",
    "Network",
    "choose_layer",
    "cut",
    "list_layers",
    "list_models",
    "load_network",
]
