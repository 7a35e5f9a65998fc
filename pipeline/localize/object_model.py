"""What is object, and which concept a position is of: what was learned, and as arrays by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from .fine_model import HALO, FineModel
from .finer import FineForeground
from .foreground import Foreground
from .kin import Kin
from .whiten import Whitening
from .winners import Winners

Parts = Mapping[str, Mapping[str, Any]]
"""Arrays and numbers by name, by part: as they are stored."""


@dataclass(frozen=True)
class ObjectModel:
    """What is object: `coarse` from the concepts, `fine` from finer layers and groups of images.

    `fine` is None where it no longer went with the coarse part. `winners` says which concept's a
    position is.
    """

    coarse: Foreground
    fine: FineModel | None
    winners: Winners


def to_parts(model: ObjectModel) -> dict[str, dict[str, Any]]:
    """Return a model as arrays by part."""
    parts = {"coarse": _arrays(model.coarse), "winners": _arrays(model.winners)}
    if (fine := model.fine) is not None:
        parts["finer"] = _arrays(fine.kin) | _arrays(fine.foreground)
        for name, whitening in {"layer": fine.layers, "concept": fine.concepts}.items():
            for field, value in _arrays(whitening).items():
                parts["finer"][f"{name}_{field}"] = value
    return parts


def of_parts(parts: Parts, k: int) -> ObjectModel:
    """Return the model of k concepts that `to_parts` took apart.

    Raises
    ------
    KeyError, TypeError, ValueError
        Arrays are missing, others are there, or they do not fit.
    """
    return ObjectModel(Foreground(**parts["coarse"]), _fine(parts, k), Winners(**parts["winners"]))


def _arrays(part: Any) -> dict[str, Any]:
    return {field.name: getattr(part, field.name) for field in fields(part)}


def _fine(parts: Parts, k: int) -> FineModel | None:
    if "finer" not in parts:
        return _of_earlier_versions(parts["fine"], k) if "fine" in parts else None
    part = parts["finer"]
    layers, concepts = (
        Whitening(part[f"{of}_mean"], part[f"{of}_basis"]) for of in ("layer", "concept")
    )
    kin = Kin(part["labels"], part["centres"], part["levels"])
    own = FineForeground(part["weights"], part["offset"], int(part["own_rounds"]))
    return FineModel(layers, concepts, kin, own)


def _of_earlier_versions(part: Mapping[str, Any], k: int) -> FineModel:
    """Return what files before 1.2 hold: one linear map of the layers' channels, nothing else."""
    weights, spread = part["weights"], part["spread"]
    nothing = np.zeros((0, k), np.float32)
    return FineModel(
        Whitening(np.zeros_like(weights), np.eye(len(weights), dtype=np.float32)),
        Whitening(nothing.sum(0), nothing.T),
        Kin((), nothing, np.zeros(0, np.int64)),
        FineForeground(
            weights[None] / spread, (part["offset"] - part["threshold"]) / spread + HALO, 0
        ),
    )
