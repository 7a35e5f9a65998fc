"""What the head says of a run's concepts, in one HDF5 file beside the bank.

Notation: w_j direction and c_j context vector of concept j, D the bank's decoder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline import files

ENCODING = "concordance.classification"
VERSION = "1.0"


@dataclass(frozen=True)
class Classification:
    """What the head says, by concept.

    Parameters
    ----------
    context, direction : ndarray
        float32 (k, classes), logits of D(c_j) and D(w_j), tiled.
    nothing : ndarray
        float32 (classes,), logits of D(0).
    z_context, z_direction : ndarray
        float32 (k, classes), standardised under the null.
    p : ndarray
        float64 (k,), empirical p of the context vector's largest z.
    significant : ndarray
        bool (k,), after Benjamini-Hochberg.
    importance, deletion_effect, insertion_effect : ndarray
        float64 (k,), NaN where no image measured holds the concept.
    foreground_weights : ndarray
        float32 (classes, k), see `pipeline.localize.Foreground`.
    foreground_threshold : float
        See there.
    fidelity : list of dict
        Rows of the table ``fidelity``.
    """

    context: NDArray[np.float32]
    direction: NDArray[np.float32]
    nothing: NDArray[np.float32]
    z_context: NDArray[np.float32]
    z_direction: NDArray[np.float32]
    p: NDArray[np.float64]
    significant: NDArray[np.bool_]
    importance: NDArray[np.float64]
    deletion_effect: NDArray[np.float64]
    insertion_effect: NDArray[np.float64]
    foreground_weights: NDArray[np.float32]
    foreground_threshold: float
    fidelity: list[dict[str, Any]]


def write_classification(path: Path, found: Classification) -> None:
    """Write the outcome to its file."""
    with files.write_hdf5(path) as file:
        file.attrs.update({"encoding-type": ENCODING, "encoding-version": VERSION})
        for field in fields(found):
            value = getattr(found, field.name)
            if field.name == "fidelity":
                file.attrs["fidelity"] = json.dumps(value)
            else:
                file[field.name] = value


def read_classification(path: Path) -> Classification:
    """Read what `write_classification` wrote."""
    with h5py.File(path, "r") as file:
        values = {
            field.name: file[field.name][()]
            for field in fields(Classification)
            if field.name != "fidelity"
        }
        return Classification(**values, fidelity=json.loads(file.attrs["fidelity"]))
