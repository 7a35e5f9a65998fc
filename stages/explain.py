"""One image explained, as a command: a picture and what it says, against a run or by itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import files
from pipeline.classify.novelty import EVERY
from pipeline.config import SAMPLE, make_config
from pipeline.encode import load_image
from pipeline.errors import UserError
from pipeline.explain import Explanation, explain_alone
from pipeline.models import choose_layer, cut, load_network
from pipeline.run import open_run
from stages.cli import CONFIG_HELP, Options, command, finished_run

UNUSUAL = 95
"""Percentile from which on a region counts as one that no concept explains: one image in twenty."""

OPTIONS = {
    "image": "the image to explain",
    "run": "explain by the concepts of this run; without it, the image is factorized by itself",
    "out": "where the picture goes (PNG); default: explain-<name>.png, in the run's folder if any",
} | {
    name: CONFIG_HELP[name]
    for name in ("model", "weights", "layer", "k", "seed", "image_size", "resize")
}


def job(options: Options) -> None:
    """Explain one image: which concepts stand where, and what they say for its class."""
    if "image" not in options:
        raise UserError("IMAGE is missing; pass IMAGE=<file>")
    image = Path(options["image"])
    pixels = load_image(image)
    folder = finished_run(options) if "run" in options else Path()
    if "run" in options:
        found = open_run(folder).explain(pixels)
    else:
        found = _alone(options, pixels)
    out = Path(options.get("out") or folder / f"explain-{image.stem}.png")
    files.write_with(out, lambda path: Image.fromarray(found.picture).save(path, format="PNG"))
    print(describe(found))
    print(f"picture  {out}")


def describe(found: Explanation) -> str:
    """Write an explanation as text."""
    lines = ["the network sees:"]
    lines += [f"  {row.label:<32} {row.prob:5.1%}" for row in found.classes.itertuples()]
    lines += ["by the concepts:"]
    lines += [
        f"  {row.concept_id:>3} {row.label:<28} strength {row.max:5.2f}"
        f"  contribution {row.contribution:+7.3f}"
        for row in found.legend.itertuples()
    ]
    lines.append(f"not explained by any concept: {found.residual:.1%} of the activations' norm")
    if found.novelty is not None:
        lines += _novelty(found)
    return "\n".join(lines)


def _novelty(found: Explanation) -> list[str]:
    """Say how unusual the image is to the concepts, and where."""
    new = found.novelty
    assert new is not None
    among = "of its class" if new.class_id != EVERY else "of the run"
    x0, y0, x1, y1 = found.box
    region = f"explained least at x {x0} to {x1}, y {y0} to {y1}: {_ordinal(new.peak)} percentile"
    return [
        f"that is the {_ordinal(new.residual)} percentile of {new.n} images {among}",
        region + (", no concept explains this region" if new.peak >= UNUSUAL else ""),
    ]


def _ordinal(percentile: float) -> str:
    whole = round(percentile)
    endings = {1: "st", 2: "nd", 3: "rd"} if whole % 100 not in (11, 12, 13) else {}
    return f"{whole}{endings.get(whole % 10, 'th')}"


def _alone(options: Options, pixels: NDArray[np.uint8]) -> Explanation:
    given = {name: options[name] for name in CONFIG_HELP if name in options}
    config = make_config({"k": "5"} | given)
    if config.k == "auto" or len(config.k) != 1:
        raise UserError(f"K={options['k']} is not possible for one image; pass one number")
    model = SAMPLE if config.model == "auto" else config.model
    network = load_network(model, config.weights, image_size=config.image_size)
    layer = choose_layer(network, config.layer)
    return explain_alone(
        cut(network, layer),
        network.classes,
        pixels,
        config.k[0],
        config.resize,
        config.seed,
    )


if __name__ == "__main__":
    sys.exit(command(job, OPTIONS))
