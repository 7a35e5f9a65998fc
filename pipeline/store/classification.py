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

from ..errors import command
from ..system import files
from .chunks import write_texts
from .contents import Sizes
from .encoding import Encoding, open_hdf5

CLASSIFICATION = Encoding("concordance.classification", "1.4", oldest="1.2")


@dataclass(frozen=True)
class Claims:
    """What each concept is taken for: see `pipeline.classify.verdict`.

    Parameters
    ----------
    classes : ndarray
        int32 (k, m), the classes of the group, the most probable first, -1 behind the last.
    mass, moved : ndarray
        float64 (k,), mean mass of the group where the concept is, and where its maps were moved to;
        NaN where there is no group.
    p : ndarray
        float64 (k,), of the mass.
    agreed, agreed_p : ndarray
        float64 (k,), share of the tested images that are of these classes, and the p of so many.
    q : ndarray
        float64 (k,), of both at once, after Benjamini-Hochberg.
    odds : ndarray or None
        float64 (k,), of these classes among the images that hold it, over those among all; NaN
        where too few hold it; None in files of earlier versions.
    """

    classes: NDArray[np.int32]
    mass: NDArray[np.float64]
    moved: NDArray[np.float64]
    p: NDArray[np.float64]
    agreed: NDArray[np.float64]
    agreed_p: NDArray[np.float64]
    q: NDArray[np.float64]
    odds: NDArray[np.float64] | None = None


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
    single, group : Claims or None
        The class, and the group of classes, that each concept is taken for; None: not asked.
    inside : ndarray or None
        float64 (k,), share of its strength that stands on co-localized objects in its strongest
        images; NaN without any.
    place_share : ndarray or None
        float64 (k,), see `pipeline.classify.Place`; NaN where not known.
    place : tuple of str
        The place in the frame that a concept is, by concept; a text is empty where it is none, or
        not known, and there are none where it was not asked.
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
    single: Claims | None = None
    group: Claims | None = None
    inside: NDArray[np.float64] | None = None
    place_share: NDArray[np.float64] | None = None
    place: tuple[str, ...] = ()


CLAIMS = ("single", "group")


def write_classification(path: Path, found: Classification) -> None:
    """Write the outcome to its file."""
    with files.write_hdf5(path) as file:
        file.attrs.update(CLASSIFICATION.stamp())
        for name, value in vars(found).items():
            if name == "fidelity":
                file.attrs["fidelity"] = json.dumps(value)
            elif isinstance(value, tuple):
                if value:
                    write_texts(file, name, value)
            elif isinstance(value, Claims):
                for part, array in vars(value).items():
                    if array is not None:
                        # By create_dataset: groups made by assignment keep the time.
                        file.create_dataset(f"{name}/{part}", data=array)
            elif value is not None:
                file[name] = value


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
        values: dict[str, Any] = {"fidelity": json.loads(file.attrs["fidelity"])}
        for name in (field.name for field in fields(Classification)):
            if name in CLAIMS and name in file:
                values[name] = _claims(file[name], len(file["nothing"]))
            elif name == "place":
                values[name] = tuple(map(bytes.decode, file.get(name, ())))
            elif name in file:
                values[name] = file[name][()]
        return Classification(**values)


def _claims(group: h5py.Group, n_classes: int) -> Claims:
    known = [each.name for each in fields(Claims) if each.name in group or each.name != "odds"]
    claims = Claims(**{name: group[name][()] for name in known})
    if claims.classes.size and claims.classes.max() >= n_classes:
        raise ValueError(f"a claim is of class {claims.classes.max()} of {n_classes}")
    return claims
