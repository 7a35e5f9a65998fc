"""The layers of a network, as a command: which can be cut, how large they are, and why not."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.config import SAMPLE, make_config
from pipeline.models import choose_layer, list_layers, list_models, load_network
from stages.cli import CONFIG_HELP, Options, command

OPTIONS = {name: CONFIG_HELP[name] for name in ("model", "weights", "image_size")}


def job(options: Options) -> None:
    """List a network's layers; without MODEL, the networks there are."""
    if "model" not in options:
        print("\n".join(list_models()))
        return
    config = make_config(dict(options))
    model = SAMPLE if config.model == "auto" else config.model
    network = load_network(model, config.weights or Path("random"), image_size=config.image_size)
    chosen = choose_layer(network)
    print(f"{'layer':<40} {'kind':<18} {'channels':>8} {'grid':>9}  values")
    for layer in list_layers(network):
        values = "signed" if layer.signed else "non-negative"
        note = " (LAYER=auto)" if layer.name == chosen else ""
        note = note if layer.usable else f"; cannot be used: {layer.reason}"
        grid = f"{layer.height}×{layer.width}"
        print(f"{layer.name:<40} {layer.kind:<18} {layer.channels:>8} {grid:>9}  {values}{note}")


if __name__ == "__main__":
    sys.exit(command(job, OPTIONS))
