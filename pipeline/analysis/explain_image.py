"""Any image explained in one call: by the concepts of a run, or by some of its own."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..config import OF_AN_IMAGE, SAMPLE, make_config
from ..errors import UserError, option, suggest
from ..images import ImageLike, load_image
from ..models import choose_layer, cut, load_network
from .explain import explain_alone
from .explanation import Explanation
from .run import Run, open_run

N_CONCEPTS = 5
"""Concepts of an image by itself, where no number is given."""


def explain(
    image: ImageLike, run: str | Path | Run | None = None, *, k: int | None = None, **options: Any
) -> Explanation:
    """Explain any image: by the concepts of a run, or factorized by itself.

    Parameters
    ----------
    image : str, Path, PIL.Image.Image or ndarray
        As of `pipeline.images.load_image`.
    run : str, Path or Run, optional
        By whose concepts; without it the image alone.
    k : int, optional
        Number of concepts of an image by itself; 5 by default.
    **options
        Of an image by itself: the others of `OF_AN_IMAGE`, as of `Config`.

    Raises
    ------
    UserError
        The image cannot be read, the run is none, or an option is not possible.
    """
    given = options if k is None else {"k": k, **options}
    _check_options(given, run)
    pixels = load_image(image)
    if run is not None:
        return (run if isinstance(run, Run) else open_run(run)).explain(pixels)
    config = make_config({"k": N_CONCEPTS, **given})
    if config.k == "auto" or len(config.k) != 1:
        raise UserError(f"{option('k', k)} is not possible for one image; pass one number")
    model = SAMPLE if config.model == "auto" else config.model
    network = load_network(model, config.weights, image_size=config.image_size, seed=config.seed)
    layer = cut(network, choose_layer(network, config.layer))
    return explain_alone(layer, network.classes, pixels, config.k[0], config.resize, config.seed)


def _check_options(given: Iterable[str], run: object) -> None:
    """Refuse options that would change nothing."""
    for name in given:
        if name not in OF_AN_IMAGE:
            near = suggest(name, OF_AN_IMAGE)
            raise UserError(
                f"{option(name)} is no option of an image;"
                f" {near or 'there are ' + ', '.join(map(option, OF_AN_IMAGE))}"
            )
        if run is not None:
            raise UserError(
                f"{option(name)} is for an image by itself; a run's concepts are fixed, leave it"
                f" out or {option('run')}"
            )
