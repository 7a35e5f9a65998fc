"""The run that options describe: one there is already, or a new one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import CARRIED_OUT, is_given, make_config, read_options
from ..errors import UserError, option
from ..models import canonical, consent
from .ownership import is_run
from .prepare import prepare
from .workspace import Workspace


def find_run(options: Mapping[str, Any]) -> Workspace:
    """Find the run that options name, or prepare the one they describe.

    With ``run`` of an existing run, and no option that decides the outcome, that run is taken as
    it was made.

    Parameters
    ----------
    options : mapping
        Options of `Config` by name, besides ``run`` (its folder) and ``config`` (a TOML file of
        options, which those given go before).

    Raises
    ------
    UserError
        An option is not possible, the dataset or network cannot be used, or the run was made
        otherwise.
    """
    given = {name: value for name, value in options.items() if is_given(value)}
    run = _folder(given.pop("run")) if "run" in given else None
    if "config" in given:
        given = read_options(Path(given.pop("config"))) | given
    if "model" in options and is_given(options["model"]):  # and not where a file says so
        given["model"] = canonical(str(given["model"]))
        consent.allow(given["model"])
    if run is not None and is_run(run) and not set(given) - {*CARRIED_OUT, "model"}:
        made = Workspace.open(run).config
        if given.get("model", made.model) != made.model:
            return prepare(make_config(given), run)
        return prepare(make_config(made.model_dump() | given), run, as_made=True)
    return prepare(make_config(given), run)


def _folder(run: str | Path) -> Path:
    """Return the folder of a run; refuse what would make one that is not where it seems."""
    text = str(run)
    if text.startswith("~") and not Path(text).exists():
        raise UserError(f"{option('run', run)}: write the home folder out, as {Path.home()}")
    if "://" in text:
        raise UserError(f"{option('run', run)} is no folder of this machine")
    return Path(run)
