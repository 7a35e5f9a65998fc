"""The run that options describe, or the runs of several layers: there already, or new."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import CARRIED_OUT, is_given, make_config
from ..config_file import read_options
from ..errors import UserError, option
from ..models import canonical, choose_layer, consent
from ..system import files
from .estimate import bound_decoding, check_fits, of_all
from .inputs import load_inputs, tell
from .ownership import is_run
from .prepare import begin, intend, prepare
from .share import begin_from, options_from
from .workspace import Workspace

MORE_IMAGES = ("dataset", "limit")
"""Options that give a run more images."""


def find_run(options: Mapping[str, Any]) -> Workspace:
    """Find the run that options name, or prepare the one they describe.

    With ``run`` of an existing run, and no option that decides the outcome, that run is taken as
    it was made; with ``dataset`` or a larger ``limit`` beside it, it is given images it has not.

    Parameters
    ----------
    options : mapping
        Options of `Config` by name, besides ``run`` (its folder), ``config`` (a TOML file of
        options, which those given go before) and ``from_run`` (another run, whose activations it
        takes).

    Raises
    ------
    UserError
        An option is not possible, the dataset or network cannot be used, or the run was made
        otherwise.
    """
    given, run = _given(options)
    if "from_run" in given:
        return _find_from(_folder(given.pop("from_run")), given, run)
    if "at" in given:
        raise UserError(
            f"{option('at', given['at'])} takes concepts of the tree of another run: name it by"
            f" {option('from_run')}"
        )
    if run is not None and is_run(run) and not set(given) - {*CARRIED_OUT, "model", *MORE_IMAGES}:
        made = Workspace.open(run).config
        if given.get("model", made.model) != made.model:
            return prepare(make_config(given), run)
        as_made = not set(given) & {*MORE_IMAGES}
        return prepare(make_config(made.model_dump() | given), run, as_made=as_made)
    return prepare(make_config(given), run)


def _find_from(source: Path, given: dict[str, Any], run: Path | None) -> Workspace:
    """Find or prepare a run with the activations of another; beside that, where it has no name."""
    config = options_from(source, given)
    ending = config.digest() if config.at is None else f"at-{config.at}"
    folder = run or source.absolute().with_name(f"{source.name}-{ending}")
    begin_from(source, folder, config)
    return prepare(config, folder, as_made=True)


def find_siblings(options: Mapping[str, Any]) -> list[Workspace]:
    """Find or prepare runs that differ in their layers alone, to be made together.

    Parameters
    ----------
    options : mapping
        As of `find_run`, with ``layers``: names of layers, in one text with commas or several. The
        run of a layer is called as it is without them; with ``run``, that and the layer.

    Raises
    ------
    UserError
        As `find_run`; or one layer is named twice, or ``layer`` is given as well.
    """
    given, run = _given(options)
    layers = _layers(given.pop("layers"))
    if "from_run" in given:
        raise UserError(
            f"{option('from_run')} takes the activations of one layer: leave out {option('layers')}"
        )
    if "layer" in given:
        raise UserError(f"{option('layer')} and {option('layers')} are both given; leave one out")
    configs = [make_config(_options_of(given, run, layer)) for layer in layers]
    inputs = load_inputs(configs[0])
    intended = []
    for config in configs:
        layer = choose_layer(inputs.network, config.layer)
        folder = None if run is None else _of_layer(run, layer)
        intended.append(intend(config, folder, inputs))
    folders = {each.layer.layer: each.workspace.folder for each in intended}
    if len(folders) < len(intended):
        raise UserError(
            f"{option('layers', ','.join(layers))}: two of them are the same layer,"
            f" {' and '.join(each.layer.layer for each in intended)}"
        )
    if not all(each.workspace.is_finished() and not each.is_more for each in intended):
        check_fits(of_all([each.needed for each in intended]), [*folders.values()], configs[0])
    bound_decoding([each.layer for each in intended], configs[0], processes=1)
    for each in folders.values():
        files.check_writable(each)
    tell(inputs, configs[0])
    largest = max(each.bytes_per_image for each in intended)  # all have the same images in a shard
    names = {layer: folder.name for layer, folder in folders.items()}
    return [
        begin(
            each,
            bytes_per_image=largest,
            siblings={layer: name for layer, name in names.items() if layer != each.layer.layer},
        )
        for each in intended
    ]


def _of_layer(run: Path, layer: str) -> Path:
    return run.with_name(f"{run.name}-{layer.replace('/', '-')}")


def _options_of(given: dict[str, Any], run: Path | None, layer: str) -> dict[str, Any]:
    """Return the options of one of several runs: those it was made with where there are no others.

    As `find_run` has it.
    """
    free = {*CARRIED_OUT, "model", *MORE_IMAGES}
    if run is None or set(given) - free or not is_run(_of_layer(run, layer)):
        return {**given, "layer": layer}
    made = Workspace.open(_of_layer(run, layer)).config
    if given.get("model", made.model) != made.model:
        return {**given, "layer": layer}
    return made.model_dump() | given


def _given(options: Mapping[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """Return the options that are given, those of a file among them, and the run's folder."""
    given = {name: value for name, value in options.items() if is_given(value)}
    run = _folder(given.pop("run")) if "run" in given else None
    if "config" in given:
        given = read_options(Path(given.pop("config"))) | given
    if "model" in options and is_given(options["model"]):  # and not where a file says so
        given["model"] = canonical(str(given["model"]))
        consent.allow(given["model"])
    return given, run


def _layers(value: Any) -> list[str]:
    names = value.split(",") if isinstance(value, str) else [str(each) for each in value]
    found = [name.strip() for name in names]
    if not all(found):
        raise UserError(f"{option('layers', value)}: a name is empty")
    return found


def _folder(run: str | Path) -> Path:
    """Return the folder of a run; refuse what would make one that is not where it seems."""
    text = str(run)
    if text.startswith("~") and not Path(text).exists():
        raise UserError(f"{option('run', run)}: write the home folder out, as {Path.home()}")
    if "://" in text:
        raise UserError(f"{option('run', run)} is no folder of this machine")
    return Path(run)
