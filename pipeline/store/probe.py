"""The linear probe that is a run's head under ``HEAD=probe``, in one HDF5 file beside the bank."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import command
from ..system import files
from .chunks import write_texts
from .contents import Sizes
from .encoding import Encoding, open_hdf5

PROBE = Encoding("concordance.probe", "1.0")

ARRAYS = ("weight", "bias", "labels")


@dataclass(frozen=True)
class Probe:
    """A head whose classes are labels of the dataset: logits = weight · mean over positions + bias.

    Parameters
    ----------
    layer : str
        The layer whose activations it takes.
    labels : tuple of str
        Its classes, in the order of the logits.
    weight, bias : ndarray
        float32 (classes, channels) and (classes,), for activations as they are stored.
    strength : float
        Inverse strength of the regularisation, scikit-learn's C.
    accuracy, chance : float
        Of the held-out images that have one of the labels, or several: the share for which the
        probe's first class is one of them, and the share of the most frequent label. NaN without
        such images.
    n_fit, n_heldout : int
        Images fitted on, and those measured on.
    """

    layer: str
    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strength: float
    accuracy: float
    chance: float
    n_fit: int
    n_heldout: int


def write_probe(path: Path, probe: Probe) -> None:
    """Write a probe to its file."""
    facts = {each.name: getattr(probe, each.name) for each in fields(Probe)}
    with files.write_hdf5(path) as file:
        file.attrs.update(PROBE.stamp())
        file.attrs.update({name: facts[name] for name in facts if name not in ARRAYS})
        file["weight"], file["bias"] = probe.weight, probe.bias
        write_texts(file, "labels", probe.labels)


def read_probe(path: Path, sizes: Sizes | None = None) -> Probe:
    """Read what `write_probe` wrote.

    Parameters
    ----------
    path : Path
    sizes : mapping of str to int, optional
        What is known of ``channels``.

    Raises
    ------
    UserError
        The file is missing, damaged, or of another format.
    """
    mend = f"{command('discover', run=path.parents[1])} makes it"
    with open_hdf5(path, PROBE, mend, sizes or {}) as file:
        says = file.attrs
        return Probe(
            layer=str(says["layer"]),
            labels=tuple(map(bytes.decode, file["labels"][()])),
            weight=file["weight"][()],
            bias=file["bias"][()],
            strength=float(says["strength"]),
            accuracy=float(says["accuracy"]),
            chance=float(says["chance"]),
            n_fit=int(says["n_fit"]),
            n_heldout=int(says["n_heldout"]),
        )
