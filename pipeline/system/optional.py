"""Packages that some sources of networks and images need, installed only by those who use them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import UserError


def imported(package: str, extra: str) -> Any:
    """Import a package.

    Parameters
    ----------
    package : str
    extra : str
        The extra of this project that brings it.

    Raises
    ------
    UserError
        It is not installed, or cannot be imported.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise UserError(f"{package} cannot be imported: {error}") from error
        raise UserError(
            f"{package} is not installed: pip install '{package}', or concordance[{extra}]"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(f"{package} cannot be imported: {error}") from error
