"""All layers of a network in one table."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from ..config import Head
from ..errors import option
from ..images import InputSize
from .layers import choose_layer, list_layers, why_auto
from .network import Network
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
        usable, reason (why not), auto (whether it is the one taken by default). Its ``attrs`` have
        ``why``, a sentence on the choice.

    Raises
    ------
    UserError
        As of `load_network`.
    """
    network = load_network(model, weights or Path("random"), image_size=image_size, head=head)
    chosen = choose_layer(network)
    table = pd.DataFrame([asdict(layer) for layer in list_layers(network)])
    table = table.rename(columns={"name": "layer"})
    table = table.assign(auto=table["layer"] == chosen)
    table.attrs["why"] = _why(network, bool(table.loc[table["auto"], "signed"].any()))
    return table


def _why(network: Network, signed: bool) -> str:
    """Say why that layer, and which transform fits what it gives on noise."""
    transform = (
        f"below 0, and {option('transform', 'auto')} keeps positive and negative parts apart"
    )
    if not signed:
        transform = f"of 0 and more, and {option('transform', 'auto')} takes them as they are"
    return f"{why_auto(network)}. On noise it has values {transform}."
