"""Whose code may run: what the user named in this process, or in one that started it.

A run says which function makes its network. A run that somebody else made could name any function,
so what only a run names is not run.
"""

from __future__ import annotations

import os

from .. import plugins
from ..errors import UserError, option
from .code_source import CODE, is_code

VARIABLE = "CONCORDANCE_CODE"
"""Environment variable of what was named, a name a line: processes that are started inherit it."""


def allow(model: str) -> None:
    """Take note that the user named a network; only functions need that."""
    if runs_code(model) and model not in _named():
        os.environ[VARIABLE] = "\n".join([*_named(), model])


def check(model: str) -> None:
    """Refuse a function that only a run names.

    Raises
    ------
    UserError
        It says how to name it.
    """
    if runs_code(model) and model not in _named():
        raise UserError(
            f"the network is made by code, {model}, which may be anyone's and is run where you name"
            f" it only: pass {option('model', model)}, or open_run(folder, network={model!r}), or"
            f" set {VARIABLE} to that name"
        )


def runs_code(model: str) -> bool:
    """Say whether a network is made by a function that is imported for it."""
    kind = model.partition(":")[0]
    return kind == CODE or (kind not in plugins.names(plugins.NETWORKS) and is_code(model))


def _named() -> list[str]:
    return os.environ.get(VARIABLE, "").splitlines()
