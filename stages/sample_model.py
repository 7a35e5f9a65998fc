"""Trains the network of the bundled sample anew, as a command."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

from pipeline import files
from pipeline.errors import UserError
from stages.cli import Options, command

N_HELD_OUT = 600
RECIPE = ("seed", "n_scenes", "epochs", "threads", "workers")
OPTIONS = {
    "out": "file to write (default: the shipped weights, pipeline/sample/sample_net.safetensors)",
    "seed": "decides scenes, initial weights and order (default: 0)",
    "n_scenes": "scenes to render and train on",
    "epochs": "how often each scene is seen",
    "threads": "threads of the training; bits are equal only with the same number",
    "workers": "processes that render",
    "n_held_out": f"fresh scenes to measure the accuracy on (default: {N_HELD_OUT})",
}


def job(options: Options) -> None:
    """Render scenes, train the sample's network on them, write its weights, say its accuracy."""
    from pipeline.sample.network import WEIGHTS
    from pipeline.sample.training import HELD_OUT_SEED, Recipe, accuracy, render_set, save, train

    given = {name: _number(name, options[name]) for name in RECIPE if name in options}
    recipe, out = Recipe(**given), Path(options.get("out", WEIGHTS))
    n_held_out = _number("n_held_out", options.get("n_held_out", str(N_HELD_OUT)))
    print(", ".join(f"{name} {value}" for name, value in asdict(recipe).items()), flush=True)
    start = time.monotonic()

    def log(line: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {line}", flush=True)

    files.check_writable(out.parent)
    network = train(recipe, log)
    save(network, recipe, out)
    score = accuracy(network, render_set(HELD_OUT_SEED, n_held_out, workers=recipe.workers))
    log(f"{out}: {score:.1%} of {n_held_out} held-out scenes right")


def _number(name: str, text: str) -> int:
    least = 0 if name == "seed" else 1
    if not text.isascii() or not text.isdecimal() or int(text) < least:
        raise UserError(f"{name.upper()}={text} is no number from {least} upward")
    return int(text)


if __name__ == "__main__":
    sys.exit(command(job, OPTIONS))
