"""Any image explained in one call: by the concepts of a run, or by some of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..config import SAMPLE, make_config
from ..errors import UserError, option
from ..images import ImageLike, load_image
from ..models import choose_layer, cut, load_network
from .explain import explain_alone
from .explanation import Explanation
from .run import Run, open_run


def explain(
    image: ImageLike, run: str | Path | Run | None = None, *, k: int = 5, **options: Any
) -> Explanation:
    """Explain any image: by the concepts of a run, or factorized by itself.

    Parameters
    ----------
    image : str, Path, PIL.Image.Image or ndarray
        As of `pipeline.images.load_image`.
    run : str, Path or Run, optional
        By whose concepts; without it the image alone.
    k : int
        Number of concepts of an image by itself.
    **options
        Of an image by itself: model, weights, layer, seed, image_size, resize, as of `Config`.

    Raises
    ------
    UserError
        The image cannot be read, the run is none, or an option is not possible.
    """
    pixels = load_image(image)
    if run is not None:
        return (run if isinstance(run, Run) else open_run(run)).explain(pixels)
    config = make_config({**options, "k": k})
    if config.k == "auto" or len(config.k) != 1:
        raise UserError(f"{option('k', k)} is not possible for one image; pass one number")
    model = SAMPLE if config.model == "auto" else config.model
    network = load_network(model, config.weights, image_size=config.image_size)
    layer = cut(network, choose_layer(network, config.layer))
    return explain_alone(layer, network.classes, pixels, config.k[0], config.resize, config.seed)
