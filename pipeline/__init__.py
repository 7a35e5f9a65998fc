"""Concordance: the visual concepts of a network over a whole image dataset."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "concordance":
    from .checkout import adopt

    adopt(__name__)  # from here on that name means the package concordance

if TYPE_CHECKING:
    from .analysis.compare import compare
    from .analysis.evaluate import evaluate
    from .analysis.explain_image import explain
    from .analysis.run import Run
    from .config import Config
    from .errors import UserError
    from .jobs.discover import discover
    from .jobs.other_number import open_run
    from .models.overview import describe_layers
    from .nmf.estimator import NMF
    from .runs.clean import clean
    from .runs.integrity import verify
    from .runs.status import status

_HOME = {
    "Config": ".config",
    "NMF": ".nmf.estimator",
    "Run": ".analysis.run",
    "UserError": ".errors",
    "clean": ".runs.clean",
    "compare": ".analysis.compare",
    "describe_layers": ".models.overview",
    "discover": ".jobs.discover",
    "evaluate": ".analysis.evaluate",
    "explain": ".analysis.explain_image",
    "open_run": ".jobs.other_number",
    "status": ".runs.status",
    "verify": ".runs.integrity",
}
"""Where each public name lives: torch and the rest are loaded when one is asked for."""

__all__ = [
    "NMF",
    "Config",
    "Run",
    "UserError",
    "clean",
    "compare",
    "describe_layers",
    "discover",
    "evaluate",
    "explain",
    "open_run",
    "status",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], "concordance"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
