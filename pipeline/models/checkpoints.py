"""Reads weights files as data that is never executed, however trainers have wrapped them."""

from __future__ import annotations

import argparse
import json
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from ..errors import UserError, option, suggest
from .weights import State

SHARED = 4
"""So many times the bytes stored may the tensors of a file come to: tied weights are common."""

WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "module", "weights")
"""Keys under which training scripts store the weights (Lightning and timm; torchvision)."""

AVERAGES = ("state_dict_ema", "model_ema", "ema", "ema_state_dict")
"""Keys under which they store a running average of them, taken where it is asked for or alone."""

ENDINGS = (".pt", ".pth", ".ckpt", ".bin", ".tar")
"""Of files that torch.save wrote, as trainers call them."""

INDEX = ".index.json"
"""Ending of a list that says in which of several files each tensor is."""

HARMLESS = (argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath, pathlib.WindowsPath)
"""Classes that stand beside weights in what trainers save, and whose making runs nothing."""

_REFUSED = re.compile(r"GLOBAL ([\w.]+)|Unsupported (?:class|operand|global):? ?([\w.]+)")

# torchvision's first DenseNet files name a layer `norm.1` where the class now says `norm1`.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.[a-z_]+)$")


def read_state(path: Path, key: str | None = None) -> State:
    """Read the tensors of a weights file, by name, as `read_checkpoint` does."""
    return read_checkpoint(path, key)[0]


def read_checkpoint(path: Path, key: str | None = None) -> tuple[State, list[str]]:
    """Read the tensors of a weights file, by name; nothing in the file is ever executed.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file; a file of torch.save (`ENDINGS`) that holds a state dict, which
        may be wrapped as trainers do; or the ``.index.json`` of several of either.
    key : str, optional
        Under which key the weights are, with dots between those of nested ones; by default the
        first of `WRAPPERS`.

    Returns
    -------
    state : dict of str to Tensor
        On the CPU; floating point numbers as float32, integers as they are.
    notes : list of str
        Which of several was taken.

    Raises
    ------
    UserError
        The file is missing, damaged, of another kind, or holds no weights.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: see {option('weights')}")
    if path.name.endswith(INDEX):
        return _plain(_read_parts(path), path, key)
    return _plain(_read_one(path), path, key)


def _read_one(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix in ENDINGS:
        return _read_torch(path)
    raise UserError(
        f"weights file {path} ends in {path.suffix or 'nothing'!r}: pass a .safetensors file, or"
        f" one of {', '.join(ENDINGS)}"
    )


def _read_parts(path: Path) -> State:
    """Read the files that an index names; they lie beside it."""
    try:
        names = sorted({*json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is no index of weights ({error!r})") from error
    found: State = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise UserError(f"{path} names {name!r}, which does not lie beside it")
        if not (path.parent / name).is_file():
            raise UserError(f"{path.parent / name} is missing, which {path.name} names")
        found |= _read_one(path.parent / name)
    return found


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"weights file {path} cannot be read: {error}") from error


def _read_torch(path: Path) -> Any:
    if is_torchscript(path):
        raise UserError(
            f"weights file {path} is TorchScript, a network as it was compiled: write its weights"
            f" alone, torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt')"
        )
    check_archive(path, "weights file")
    try:
        with warnings.catch_warnings():
            # Raw pickles of another protocol: said better below, or read without loss.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            # Sparse tensors are checked, and refused below.
            warnings.filterwarnings("ignore", message="Validating sparse tensor")
            with torch.serialization.safe_globals([*HARMLESS, *_of_numpy()]):
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        what = f" (it holds a {refused[1] or refused[2]})" if refused else ""
        raise UserError(
            f"weights file {path} is not a plain set of tensors{what} and was not opened, since"
            " loading it could run code hidden in it: save it again as .safetensors, or as"
            " torch.save(model.state_dict(), file)"
        ) from error
    except Exception as error:
        # torch meets damage with every kind of exception; the file is at fault all the same.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"weights file {path} cannot be read: {reason}") from error


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is a network that torch.jit.save wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # no archive, or one that whoever reads it will find damaged


def check_archive(path: Path, what: str) -> None:
    """Refuse an archive whose entries are compressed: torch writes none, and they may be bombs."""
    try:
        if not zipfile.is_zipfile(path):
            return  # a file of an old torch: a pickle, and tensors as they are
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"{what} {path} cannot be read: {error}") from error
    n_bytes, most = sum(entry.file_size for entry in entries), path.stat().st_size
    if n_bytes > most:
        raise UserError(
            f"{what} {path} is refused: its {most:,} bytes would become {n_bytes:,}; torch"
            " compresses nothing: save it again"
        )


def check_stored(tensors: Mapping[str, torch.Tensor], path: Path, what: str) -> None:
    """Refuse tensors that are larger than what is stored of them, and many of one memory."""
    memory: dict[int, int] = {}
    n_bytes = 0
    for name, tensor in tensors.items():
        if tensor.is_sparse or tensor.layout != torch.strided or tensor.is_quantized:
            raise UserError(f"{what} {path} holds {name!r} as {tensor.layout}: save it dense")
        if tensor.device.type != "cpu":
            raise UserError(f"{what} {path} holds {name!r} without values ({tensor.device})")
        storage = tensor.untyped_storage()
        memory[storage.data_ptr()] = storage.nbytes()
        n_bytes += tensor.nbytes
    most = SHARED * sum(memory.values())
    if n_bytes > most:
        raise UserError(
            f"{what} {path} is refused: its tensors are views that would become"
            f" {n_bytes:,} bytes of the {sum(memory.values()):,} stored; save clones of them"
        )


def _of_numpy() -> list[Any]:
    """Return what numbers of numpy are made of: trainers save losses and rates with the weights."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(each)) for each in "bBhHiIlLqQefd?"]
    return [scalar, np.dtype, *dict.fromkeys(kinds)]


def _plain(found: Any, path: Path, key: str | None) -> tuple[State, list[str]]:
    """Return the tensors of what a file holds, and what is to be said of the choice."""
    found, notes = _within(found, path, key) if key else _unwrapped(found)
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"weights file {path} holds no named tensors: save model.state_dict()")
    tensors = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
    if not tensors or not all(isinstance(each, str) for each in tensors):
        wrong = next(iter(found))
        raise UserError(
            f"weights file {path} holds something else than a tensor under {wrong!r}:"
            " save model.state_dict()"
        )
    check_stored(tensors, path, "weights file")
    return {
        _OLD_DENSENET.sub(r"\1\2", name): _float32(value) for name, value in tensors.items()
    }, notes


def _within(found: Any, path: Path, key: str) -> tuple[Any, list[str]]:
    """Return what stands under a key, and under keys within that."""
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            known = sorted(map(str, found)) if isinstance(found, Mapping) else []
            near = suggest(part, known)
            raise UserError(
                f"weights file {path} holds nothing under"
                f" {option('weights_key', key)}{': ' + near if near else '; it has'}"
                f" {'' if near else ', '.join(known[:8])}"
            )
        found = found[part]
    return _unwrapped(found)


def _unwrapped(found: Any) -> tuple[Any, list[str]]:
    """Return the weights within what a trainer saved, and which of several they are."""
    notes: list[str] = []
    while isinstance(found, Mapping):
        keys = [each for each in (*WRAPPERS, *AVERAGES) if isinstance(found.get(each), Mapping)]
        if not keys:
            break
        if len(keys) > 1:
            notes.append(
                f"the weights are those under {keys[0]!r}; {option('weights_key')} takes"
                f" {' or '.join(map(repr, keys[1:]))} instead"
            )
        found = found[keys[0]]
    return found, notes


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
