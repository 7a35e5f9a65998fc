"""The whole job: every stage in order, from images to tables and atlas."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..analysis.run import Run
from ..config import Config, Head, make_config
from ..errors import UserError
from ..images.spooled.given_source import give_images
from ..models import give
from ..runs.find import find_run, find_siblings
from ..runs.workspace import Workspace
from ..system.progress import say
from .execute import ALL, execute
from .other_number import opened
from .together import extract_together


def discover(
    dataset: Any = None,
    *,
    run: str | Path | None = None,
    from_run: str | Path | None = None,
    network: nn.Module | None = None,
    head: nn.Module | Head | None = None,
    reshape_transform: Callable[[Any], Any] | None = None,
    layers: str | Sequence[str | nn.Module] | None = None,
    **options: Any,
) -> Run:
    """Find the concepts a network uses over a whole image dataset.

    All stages in order; what an earlier call has made already is not made again.

    Parameters
    ----------
    dataset : str, Path, or images, optional
        As the option of that name; by default that of `run` where there is one, else the bundled
        sample. Or what the program holds: uint8 arrays (n, height, width, 3) or (n, height, width),
        with labels as ``(images, labels)``; a list or iterable of arrays, tensors or PIL images, of
        ``(image, label)`` or of dicts with ``image``, ``label``, ``name`` and ``split``; a dataset
        of torch or Hugging Face; a table of pandas; a list of paths. These are written once to
        where the run finds them again in another program; of an iterable without a length, as many
        as ``limit`` says.
    run : str or Path, optional
        The run's folder; named after its contents under ``runs/`` where not given.
    from_run : str or Path, optional
        Folder of another run, whose stored activations are taken in place of a forward pass: other
        concepts of the same images, network and layer. ``k``, ``active``, ``seed``,
        ``objective``, ``transform`` and ``balance`` may be others, all else is as there. Or ``at``,
        a number: so many concepts of its tree, in place of a fit.
    network : torch.nn.Module, optional
        In place of the option ``model``, a network that the program holds; it stays as it is.
        ``layer`` may then be the module of a layer. What finds the run again in another program
        needs the network again: ``open_run(folder, network=...)``.
    head : torch.nn.Module or {'auto', 'probe', 'none'}, optional
        What makes logits of the answer of `network`, where it is no part of it; or the option of
        that name.
    reshape_transform : callable, optional
        As pytorch-grad-cam takes it; positions are found without it.
    layers : str, or sequence of str or modules, optional
        In place of ``layer``, several: each gets a run, all from one forward pass. `run`, with the
        layer added, names their folders.
    **options
        Every other option of `Config` by its name, such as ``model="resnet50"`` or ``k=20``; and
        ``config``, a TOML file of options.

    Returns
    -------
    Run
        The finished run; with ``shard``, one whose images are extracted in part. With `layers` that
        of the first one, whose `Run.siblings` are the others.

    Raises
    ------
    UserError
        An option is not possible, dataset or network cannot be used, the run was made otherwise,
        or the disk is full.

    Examples
    --------
    >>> run = discover("photos/", model="resnet50", run="runs/pets")  # doctest: +SKIP
    >>> run.sql("from concepts order by energy desc")  # doctest: +SKIP
    >>> more = discover(from_run="runs/pets", k=100, run="runs/pets-100")  # doctest: +SKIP
    """
    module = head if isinstance(head, nn.Module) else None
    if module is None:
        options["head"] = head
    elif network is None:
        raise UserError("head is a module, which is put upon the answer of network: give both")
    if layers is not None:
        options["layers"] = layers
    if network is not None:
        options = give(options, network, module, reshape_transform)
    options = {**options, "dataset": _named(dataset, options), "run": run, "from_run": from_run}
    if layers is not None:
        return discover_siblings(find_siblings(options))[0]
    return discover_run(find_run(options))


def _named(dataset: Any, options: Mapping[str, Any]) -> str | None:
    """Return what opens a dataset; images that a program holds are written to where they are found.

    Options that are not possible are refused before that, for it may take long.
    """
    if dataset is None or isinstance(dataset, str | Path):
        return None if dataset is None else str(dataset)
    given = {name: value for name, value in options.items() if name not in ("config", "layers")}
    return give_images(dataset, make_config(given).limit)


def discover_run(workspace: Workspace) -> Run:
    """Carry out all stages of a prepared run that have something to make."""
    say(f"run        {workspace.folder}")
    execute(workspace, ALL if workspace.config.shard is None else ("extract",))
    return opened(Workspace.open(workspace.folder))


def discover_siblings(workspaces: Sequence[Workspace]) -> list[Run]:
    """Carry out all stages of runs at several layers, the forward pass once for all."""
    extract_together(workspaces)
    return [discover_run(workspace) for workspace in workspaces]


def _signature() -> inspect.Signature:
    """Return the signature with all options by name, for help and completion."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    known = [
        inspect.Parameter(name, keyword, default=field.default, annotation=field.annotation)
        for name, field in Config.model_fields.items()
        if name not in ("dataset", "head")
    ]
    fixed = [
        each
        for each in inspect.signature(discover).parameters.values()
        if each.kind != inspect.Parameter.VAR_KEYWORD
    ]
    config = inspect.Parameter("config", keyword, default=None, annotation="str | Path | None")
    return inspect.Signature([*fixed, *known, config], return_annotation=Run)


discover.__signature__ = _signature()  # type: ignore[attr-defined]
