"""Trains the network of the bundled sample anew, as a command."""

from __future__ import annotations

import sys
import time
from dataclasses import fields
from pathlib import Path

from pipeline.errors import UserError
from stages.cli import Options, command

N_HELD_OUT = 600
WHOLE = ("seed", "n_scenes", "epochs", "threads", "workers")
OPTIONS = {
    "out": "file to write (default: the shipped weights, pipeline/sample/sample_net.safetensors)",
    "seed": "decides scenes, initial weights and order (default: 0)",
    "n_scenes": "scenes to render and train on",
    "epochs": "how often each scene is seen",
    "threads": "threads of the training; bits are equal only with the same number",
    "workers": "processes that render",
}


def job(options: Options) -> None:
    """Render scenes, train the sample's network on them, write its weights, say its accuracy."""
    from pipeline.sample.network import WEIGHTS
    from pipeline.sample.training import HELD_OUT_SEED, Recipe, accuracy, render_set, save, train

    given = {name: _number(name, options[name]) for name in WHOLE if name in options}
    recipe = Recipe(**given)
    out = Path(options.get("out", WEIGHTS))
    defaults = ", ".join(f"{each.name} {getattr(recipe, each.name)}" for each in fields(recipe))
    print(f"training the sample's network: {defaults}", flush=True)
    start = time.monotonic()
    network = train(recipe, lambda line: print(f"{time.monotonic() - start:6.0f} s  {line}"))
    save(network, recipe, out)
    score = accuracy(network, render_set(HELD_OUT_SEED, N_HELD_OUT, workers=recipe.workers))
    print(f"{out}: {score:.1%} of {N_HELD_OUT} held-out scenes right")


def _number(name: str, text: str) -> int:
    least = 0 if name == "seed" else 1
    if not text.isascii() or not text.isdecimal() or int(text) < least:
        raise UserError(f"{name.upper()}={text} is no number from {least} upward")
    return int(text)


if __name__ == "__main__":
    sys.exit(command(job, OPTIONS))
