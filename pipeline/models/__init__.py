"""Networks: loading them, finding their layers, cutting them, running them fast."""

from __future__ import annotations

from . import consent
from .cut import Cut, Forward, cut
from .given_source import give
from .layers import LayerInfo, choose_layer, list_layers, why_auto
from .network import Network
from .overview import describe_layers
from .registry import canonical, configured, list_models, load_network

__all__ = [
    "Cut",
    "Forward",
    "LayerInfo",
    "Network",
    "canonical",
    "choose_layer",
    "configured",
    "consent",
    "cut",
    "describe_layers",
    "give",
    "list_layers",
    "list_models",
    "load_network",
    "why_auto",
]
