"""A configuration as a file: a run's ``config.toml``, and options written by hand."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from .config import Config, make_config
from .errors import UserError

ENCODING = {"encoding-type": "concordance.config", "encoding-version": "1.0"}


def dump_toml(config: Config) -> str:
    """Write a configuration as TOML; `load_toml` reads it back equal."""
    lines = []
    for name, value in (ENCODING | config.model_dump(mode="json")).items():
        if value is not None:
            # A JSON string, number or list of these is valid TOML, but for a bare DEL.
            text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{name} = {text}")
    return "\n".join(lines) + "\n"


def load_toml(path: Path) -> Config:
    """Read the configuration of a run, which `dump_toml` wrote.

    Raises
    ------
    UserError
        The file is missing, or is not a configuration of this version.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} is not a run: it has no {path.name}")
    try:
        return make_config(read_options(path))
    except UserError as error:
        named = str(path) in str(error)
        raise error if named else UserError(f"{path} cannot be used: {error}") from error


def read_options(path: Path) -> dict[str, Any]:
    """Read options from a TOML file: a run's ``config.toml``, or one written by hand.

    Raises
    ------
    UserError
        The file cannot be read, is no TOML, or says that it is of another kind or version.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file")
    try:
        options = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path} is no configuration: its values are nested too deep") from error
    found = {name: options.pop(name, value) for name, value in ENCODING.items()}
    if found != ENCODING:
        raise UserError(f"{path} holds {found}, not {ENCODING}; this version cannot read it")
    return options
