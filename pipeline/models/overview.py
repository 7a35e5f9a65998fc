"""All layers of a network in one table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..config import Head
from ..images import InputSize
from .layers import choose_layer, list_layers
from .registry import load_network


def describe_layers(
    model: str,
    weights: Path | None = None,
    *,
    image_size: InputSize | None = None,
    head: Head = "auto",
) -> pd.DataFrame:
    """List the layers of a network.

    Parameters
    ----------
    model : str
        As of `load_network`.
    weights : Path, optional
        By default none are loaded: layers do not depend on them.
    image_size : int or (int, int), optional
        Side of the input, pixels; the model's own by default.
    head : {'auto', 'probe', 'none'}
        Whether the network's own head counts, or is left aside.

    Returns
    -------
    DataFrame
        A row per layer, from the image to the logits: layer, kind, channels, height, width, signed,
        usable, reason, auto (whether it is the one taken by default).

    Raises
    ------
    UserError
        As of `load_network`.
    """
    network = load_network(model, weights or Path("random"), image_size=image_size, head=head)
    chosen = choose_layer(network)
    table = pd.DataFrame([asdict(layer) for layer in list_layers(network)])
    table = table.rename(columns={"name": "layer"})
    return table.assign(auto=table["layer"] == chosen)
