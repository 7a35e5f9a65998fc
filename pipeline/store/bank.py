"""The concept bank: all that is needed to find a run's concepts in any image, in one HDF5 file.

Notation: W channels × k (directions), context channels × k (context vectors), both in the
transformed space that `Transform` defines; h = 1 is a concept's typical strength (gauge).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import command
from ..nmf import Pursuit, Reappearance, Transform, Tree, encode, rows_at_once
from ..nmf.transforms import KINDS
from ..system import files
from .chunks import write_texts
from .contents import Sizes
from .encoding import Encoding, open_hdf5
from .tree import read_tree, write_tree

BANK = Encoding("concordance.bank", "1.5", oldest="1.1")
SURENESS = {
    "probability": "reappears",
    "low": "reappears_low",
    "high": "reappears_high",
    "partners": "reappears_with",
}
"""What the arrays of a reappearance are called in the file, all there or none."""


@dataclass(frozen=True)
class Bank:
    """Fixed concepts of one layer.

    Parameters
    ----------
    layer : str
        The layer they live in.
    seed : int
        Seed of the fit.
    transform : Transform
        How activations became non-negative, and its decoder.
    W, context : ndarray
        float32 (channels after the transform, k), gauge-fixed.
    thresholds : ndarray
        float32 (k,), presence thresholds τ in gauge units.
    threshold_reasons : tuple of str
        How each of them came about.
    energies, stability : ndarray
        float64 (k,); stability is NaN where it could not be measured.
    error, heldout_error, svd_error : float
        Relative Frobenius errors in transformed space: on the fit images, on held-out images (NaN
        without any), and the floor at this rank.
    k_is_stable : bool
        False where no number of concepts was found stable.
    prefix : ndarray or None
        float32 (prefix tokens, channels), their mean, for heads that need them.
    exponent : int
        Activations are meant divided by two to this power; see `models.Cut.rescale`.
    reappearance : Reappearance or None
        How sure each concept is; None in files of earlier versions.
    active : int or None
        Concepts that a position has at most; None: as many as explain most.
    tree : Tree or None
        Fewer concepts of these, at every number; None in files of earlier versions.
    taken_nodes : ndarray or None
        int64 (k,), the nodes of another run's tree that the concepts are.
    """

    layer: str
    seed: int
    transform: Transform
    W: NDArray[np.float32]
    context: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    threshold_reasons: tuple[str, ...]
    energies: NDArray[np.float64]
    stability: NDArray[np.float64]
    error: float
    heldout_error: float
    svd_error: float
    k_is_stable: bool
    prefix: NDArray[np.float32] | None = None
    exponent: int = 0
    reappearance: Reappearance | None = None
    active: int | None = None
    tree: Tree | None = None
    taken_nodes: NDArray[np.int64] | None = None

    @property
    def k(self) -> int:
        """Number of concepts."""
        return int(self.W.shape[1])

    def encode(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the concepts in activation maps.

        Parameters
        ----------
        maps : Tensor
            float (n, height, width, channels), as the network gives them.

        Returns
        -------
        H : Tensor
            float32 (n, height, width, k), gauge units.
        residual : Tensor
            float32 (n, height, width), ‖v − D(W h)‖ / ‖v‖ per position; 0 where v is 0.
        """
        V = maps.float().reshape(-1, maps.shape[-1])
        W = torch.from_numpy(self.W).to(V.device)
        H = self._strengths(self.transform.forward(V), W)
        residual = torch.empty_like(V[:, 0])
        rows = rows_at_once(V.device, V.shape[1])
        for start in range(0, len(V), rows):  # D(W h) of all positions would double the memory
            part = slice(start, start + rows)
            length = V[part].norm(dim=1)
            off = self.transform.decode(H[part] @ W.T).sub_(V[part]).norm(dim=1)
            residual[part] = torch.where(length > 0, off / length.clamp_min(1e-12), 0.0)
        return H.reshape(*maps.shape[:-1], self.k), residual.reshape(maps.shape[:-1])

    def strengths(self, maps: torch.Tensor) -> torch.Tensor:
        """Find the concepts in activation maps as `encode` does, without what they leave."""
        V = maps.float().reshape(-1, maps.shape[-1])
        W = torch.from_numpy(self.W).to(V.device)
        H = self._strengths(self.transform.forward(V), W)
        return H.reshape(*maps.shape[:-1], self.k)

    def _strengths(self, V: torch.Tensor, W: torch.Tensor) -> torch.Tensor:
        if self.active is None:
            return encode(V, W)
        return self._pursuit.to(V.device).codes(V).dense(V.new_empty(len(V), self.k))

    @cached_property
    def _pursuit(self) -> Pursuit:
        assert self.active is not None
        return Pursuit.of(torch.from_numpy(self.W), self.active)

    def decode(self, H: torch.Tensor) -> torch.Tensor:
        """Return D(W h), float32 (…, channels), of H float32 (…, k)."""
        flat = self.transform.decode(
            H.reshape(-1, self.k) @ torch.from_numpy(self.W).to(H.device).T
        )
        return flat.reshape(*H.shape[:-1], -1)


def write_bank(path: Path, bank: Bank) -> None:
    """Write a bank to its file."""
    with files.write_hdf5(path) as file:
        file.attrs.update(BANK.stamp())
        file.attrs["transform"] = bank.transform.kind
        if bank.transform.offset is not None:
            file["transform_offset"] = np.asarray(bank.transform.offset)
        for name, value in _stored(bank).items():
            if isinstance(value, np.ndarray):
                file[name] = value
            elif isinstance(value, tuple):
                write_texts(file, name, value)
            else:
                file.attrs[name] = value
        if bank.reappearance is not None:
            for name, stored in SURENESS.items():
                file[stored] = getattr(bank.reappearance, name)
        if bank.tree is not None:
            write_tree(file, bank.tree)


def read_bank(path: Path, sizes: Sizes | None = None) -> Bank:
    """Read a bank that `write_bank` wrote.

    Parameters
    ----------
    path : Path
    sizes : mapping of str to int, optional
        What is known of ``channels``, those of the layer.

    Raises
    ------
    UserError
        The file is missing, damaged, or of another format.
    """
    mend = f"{command('discover', run=path.parents[1])} makes it"
    known = sizes or {}
    with open_hdf5(path, BANK, mend, known) as file:
        return _checked(_parse(file), known.get("channels"))


def _stored(bank: Bank) -> dict[str, Any]:
    values = {field.name: getattr(bank, field.name) for field in fields(bank)}
    own = ("transform", "reappearance", "tree")
    values["active"] = bank.active or 0
    return {name: value for name, value in values.items() if name not in own and value is not None}


def _parse(file: h5py.File) -> Bank:
    offset = torch.from_numpy(file["transform_offset"][()]) if "transform_offset" in file else None
    kind = str(file.attrs["transform"])
    if kind not in KINDS:
        raise ValueError(f"its transform is {kind[:40]!r}")
    values: dict[str, Any] = {"transform": Transform(kind, offset), "tree": None}
    if any(stored in file for stored in SURENESS.values()):
        found = {name: file[stored][()] for name, stored in SURENESS.items()}
        if (most := found["partners"].max(initial=-1)) >= len(found["low"]):
            raise ValueError(f"a concept comes back with concept {most} of {len(found['low'])}")
        values["reappearance"] = Reappearance(**found)
    for field in fields(Bank):
        if field.name in values:
            continue
        if field.name in file:
            value = file[field.name][()]
            is_text = h5py.check_string_dtype(file[field.name].dtype) is not None
            values[field.name] = tuple(map(bytes.decode, value)) if is_text else value
        elif field.name in file.attrs:
            value = file.attrs[field.name]
            values[field.name] = value if isinstance(value, str) else value.item()
    values["active"] = values.get("active") or None
    values["tree"] = read_tree(file, values["W"])
    return Bank(**values)


def _checked(bank: Bank, channels: int | None) -> Bank:
    """Return the bank; `ValueError` where its transform or bound is not of its sizes."""
    if bank.active is not None and not 1 <= bank.active <= bank.k:
        raise ValueError(f"of {bank.k} concepts a position has {bank.active} at most")
    if bank.taken_nodes is not None and len(set(bank.taken_nodes.tolist())) < bank.k:
        raise ValueError("two concepts are one of another run's tree")
    if channels is not None and bank.transform.n_channels_out(channels) != len(bank.W):
        raise ValueError(
            f"W is {bank.W.shape} for {channels} channels under {bank.transform.kind!r}"
        )
    return bank
