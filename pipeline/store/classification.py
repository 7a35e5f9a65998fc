"""What the head says of a run's concepts, in one HDF5 file beside the bank.

Notation: w_j direction and c_j context vector of concept j, D the bank's decoder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import command
from ..system import files
from .chunks import write_texts
from .contents import Sizes
from .encoding import Encoding, open_hdf5

CLASSIFICATION = Encoding("concordance.classification", "1.3", oldest="1.2")


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
    importance, sobol_total, deletion_effect, insertion_effect : ndarray
        float64 (k,), NaN where no image measured holds the concept, or where not measured.
    usual_classes, usual_n : ndarray
        int64 (m,): classes with residuals of their own (-1: all), and images they are from.
    usual_residual, usual_peak : ndarray
        float32 (m, 101): quantiles of what is left unexplained, see `pipeline.classify.Quantiles`.
    fidelity : list of dict
        Rows of the table ``fidelity``.
    place_share : ndarray
        float64 (k,), see `pipeline.classify.Place`; NaN where not known.
    place : tuple of str
        The place in the frame that a concept is, by concept; empty where it is none, or not known.
    """

    context: NDArray[np.float32]
    direction: NDArray[np.float32]
    nothing: NDArray[np.float32]
    z_context: NDArray[np.float32]
    z_direction: NDArray[np.float32]
    p: NDArray[np.float64]
    significant: NDArray[np.bool_]
    importance: NDArray[np.float64]
    sobol_total: NDArray[np.float64]
    deletion_effect: NDArray[np.float64]
    insertion_effect: NDArray[np.float64]
    usual_classes: NDArray[np.int64]
    usual_residual: NDArray[np.float32]
    usual_peak: NDArray[np.float32]
    usual_n: NDArray[np.int64]
    fidelity: list[dict[str, Any]]
    place_share: NDArray[np.float64]
    place: tuple[str, ...]


def write_classification(path: Path, found: Classification) -> None:
    """Write the outcome to its file."""
    with files.write_hdf5(path) as file:
        file.attrs.update(CLASSIFICATION.stamp())
        for field in fields(found):
            value = getattr(found, field.name)
            if field.name == "fidelity":
                file.attrs["fidelity"] = json.dumps(value)
            elif field.name == "place":
                write_texts(file, "place", value)
            else:
                file[field.name] = value


def read_classification(path: Path, sizes: Sizes | None = None) -> Classification:
    """Read what `write_classification` wrote.

    Parameters
    ----------
    path : Path
    sizes : mapping of str to int, optional
        What is known of ``k`` and ``classes``.

    Raises
    ------
    UserError
        The file is missing, damaged, or of another format.
    """
    mend = f"{command('discover', run=path.parents[1])} makes it"
    with open_hdf5(path, CLASSIFICATION, mend, sizes or {}) as file:
        values = {
            field.name: file[field.name][()]
            for field in fields(Classification)
            if field.name != "fidelity" and field.name in file
        }
        k = len(values["p"])
        values.setdefault("place_share", np.full(k, np.nan))
        values["place"] = tuple(map(bytes.decode, values.get("place", [b""] * k)))
        return Classification(**values, fidelity=json.loads(file.attrs["fidelity"]))
