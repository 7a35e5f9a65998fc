"""What a killed factorize stage had got to, in one file: the choice of k, and the state of the fit.

Notation: W channels × k; see `pipeline.nmf.checkpoint` for the state.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError
from ..nmf import KChoice
from ..system import files
from .encoding import Encoding, EncodingError, open_hdf5

FIT = Encoding("concordance.fit", "1.1")
State = dict[str, NDArray[np.float64]]


@dataclass(eq=False)
class UnfinishedFit:
    """The file of an unfinished fit; what is in it of another fit counts as nothing.

    Parameters
    ----------
    path : Path
        The file; it is there only while there is something to go on with.
    key : str
        What decides the bits of the fit: configuration, data, threads, instruction set.
    every : float
        Seconds between two states of the fit.
    """

    path: Path
    key: str
    every: float = 30.0
    _choice: KChoice | None = field(default=None, init=False)
    _state: State | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._saved = time.monotonic()
        if self.path.exists():
            self._read()

    @property
    def choice(self) -> KChoice | None:
        """The number of concepts and its evidence, once it was found."""
        return self._choice

    def choose(self, choice: KChoice) -> None:
        """Keep the number of concepts and its evidence."""
        self._choice = choice
        self._write()

    def load(self) -> State | None:
        """Give the state of the fit that was saved last."""
        return self._state

    def due(self) -> bool:
        """Say whether `every` seconds have passed since something was saved."""
        return time.monotonic() - self._saved >= self.every

    def save(self, state: State) -> None:
        """Keep the state of the fit, whole or not at all."""
        self._state = state
        self._write()

    def remove(self) -> None:
        """Remove the file: the fit is finished."""
        files.remove(self.path)

    def _write(self) -> None:
        with files.write_hdf5(self.path) as file:
            file.attrs.update(FIT.stamp())
            file.attrs["key"] = self.key
            if self._choice is not None:
                chosen = file.create_group("choice")
                chosen["W"], chosen["halves"] = self._choice.W, self._choice.halves
                chosen["rest"] = json.dumps({name: getattr(self._choice, name) for name in _PLAIN})
            for name, array in (self._state or {}).items():
                file[f"state/{name}"] = array
            file.attrs["sha256"] = _digest(file)
        self._saved = time.monotonic()

    def _read(self) -> None:
        try:
            with open_hdf5(self.path, FIT) as file:
                if file.attrs.get("sha256") != _digest(file):
                    raise UserError(f"{self.path} is damaged")
                if file.attrs["key"] != self.key:
                    return
                if "choice" in file:
                    chosen = file["choice"]
                    W, apart = (torch.from_numpy(chosen[name][()]) for name in ("W", "halves"))
                    rest = json.loads(chosen["rest"].asstr()[()])
                    self._choice = KChoice(**rest, W=W, halves=apart)
                if "state" in file:
                    self._state = {name: each[()] for name, each in file["state"].items()}
        except EncodingError:  # of another version or program: written anew in time
            return
        except (UserError, OSError):  # damaged: it can be done anew
            files.remove(self.path)


def _digest(file: h5py.File) -> str:
    """Return the SHA-256 over the key, and over names, types, shapes and values of all arrays."""
    summed = hashlib.sha256(str(file.attrs["key"]).encode())

    def add(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            values = np.asarray(node[()])
            data = values.tobytes() if values.dtype.kind != "O" else bytes(values.item())
            summed.update(f"{name} {node.dtype} {node.shape}\n".encode() + data)

    file.visititems(add)
    return summed.hexdigest()


_PLAIN = ("k", "flagged", "rows", "control", "n_beyond")
