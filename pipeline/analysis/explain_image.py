"""Any image explained in one call: by the concepts of a run, or by some of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from torch import nn

from ..config import OF_AN_IMAGE, SAMPLE, make_config
from ..errors import UserError, option, suggest
from ..images import ImageLike, PixelRule, load_image
from ..images.deep import KINDS
from ..models import canonical, choose_layer, configured, consent, cut, give
from .explain import N_CATEGORIES, explain_alone
from .explanation import Explanation
from .explanations import Explanations
from .run import Run, open_run

N_CONCEPTS = 5
"""Concepts of an image by itself, where no number is given."""


@overload
def explain(
    image: ImageLike,
    run: str | Path | Run | None = None,
    *,
    k: int | None = None,
    network: nn.Module | None = None,
    head: nn.Module | None = None,
    reshape_transform: Callable[[Any], Any] | None = None,
    top: int | None = None,
    **options: Any,
) -> Explanation: ...


@overload
def explain(
    image: ImageLike,
    run: str | Path | Run | None = None,
    *,
    k: Sequence[int],
    network: nn.Module | None = None,
    head: nn.Module | None = None,
    reshape_transform: Callable[[Any], Any] | None = None,
    top: int | None = None,
    **options: Any,
) -> Explanations: ...


def explain(
    image: ImageLike,
    run: str | Path | Run | None = None,
    *,
    k: int | Sequence[int] | None = None,
    network: nn.Module | None = None,
    head: nn.Module | None = None,
    reshape_transform: Callable[[Any], Any] | None = None,
    top: int | None = None,
    **options: Any,
) -> Explanation | Explanations:
    """Explain any image: by the concepts of a run, or factorized by itself.

    Parameters
    ----------
    image : str, Path, PIL.Image.Image or ndarray
        As of `pipeline.images.load_image`.
    run : str, Path or Run, optional
        By whose concepts; without it the image alone.
    k : int or sequence of int, optional
        Number of concepts of an image by itself; 5 by default. Of several, one explanation each,
        to see what few of them merge and many split.
    network, head, reshape_transform : optional
        Of an image by itself: a network that the program holds, as of `discover`; ``layer`` may
        be the module of a layer.
    top : int, optional
        Of an image by itself: classes that the picture names for each concept; 2 by default.
    **options
        Of an image by itself: the others of `OF_AN_IMAGE`, as of `Config`.

    Returns
    -------
    Explanation or Explanations
        The latter of several numbers of concepts.

    Raises
    ------
    UserError
        The image cannot be read, the run is none, or an option is not possible.
    """
    if network is not None:
        options = give(options, network, head, reshape_transform)
    elif head is not None:
        raise UserError("head is a module, which is put upon the answer of network: give both")
    given = options if k is None else {"k": k, **options}
    _check_options(given if top is None else {**given, "top": top}, run)
    if run is not None:
        named = str(given["model"]) if "model" in given else None
        return (run if isinstance(run, Run) else open_run(run, network=named)).explain(image)
    config = make_config({"k": N_CONCEPTS, **given})
    levels = None if config.levels is None else dict.fromkeys(KINDS, config.levels)
    pixels = load_image(image, PixelRule(config.on_damage, levels))
    if isinstance(config.k, str):
        raise UserError(f"{option('k', k)} is not possible for one image; pass numbers")
    model = SAMPLE if config.model == "auto" else config.model
    consent.allow(canonical(model))
    loaded = configured(config, model)
    layer = cut(loaded, choose_layer(loaded, config.layer))
    n_named = min(N_CATEGORIES, len(loaded.classes)) if top is None else top
    found = {
        each: explain_alone(
            layer, loaded.classes, pixels, each, config.resize, config.seed, n_named
        )
        for each in config.k
    }
    return found[config.k[0]] if len(found) == 1 else Explanations(found)


def _check_options(given: Mapping[str, Any], run: object) -> None:
    """Refuse options that would change nothing."""
    for name in given:
        if name not in (*OF_AN_IMAGE, "top"):
            near = suggest(name, OF_AN_IMAGE)
            raise UserError(
                f"{option(name)} is no option of an image;"
                f" {near or 'there are ' + ', '.join(map(option, OF_AN_IMAGE))}"
            )
        names_code = name == "model" and consent.runs_code(str(given[name]))
        if run is not None and not names_code:  # which must be named to be run
            raise UserError(
                f"{option(name)} is for an image by itself; a run's concepts are fixed, leave it"
                f" out or {option('run')}"
            )
