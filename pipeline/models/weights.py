"""Reads weights: from a file, as data that is never executed, or by torchvision's download."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import pickle
import re
import socket
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import nn

from ..errors import UserError, option
from ..system.checksums import sha256

State = dict[str, torch.Tensor]

CONNECT_SECONDS = 20.0
"""How long a silent server is waited for; without it a filtered network hangs for minutes."""

SHARED = 4
"""So many times the bytes stored may the tensors of a file come to: tied weights are common."""

WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts store the weights (Lightning and timm; torchvision)."""

# torchvision's first DenseNet files name a layer `norm.1` where the class now says `norm1`.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.[a-z_]+)$")


def read_state(path: Path) -> State:
    """Read the tensors of a weights file, by name; nothing in the file is ever executed.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, or a ``.pt`` or ``.pth`` file of a state dict, which may be
        wrapped (``{"state_dict": ...}``) or saved from `DataParallel` (``module.`` in all names).

    Returns
    -------
    dict of str to Tensor
        On the CPU; floating point numbers as float32, integers as they are.

    Raises
    ------
    UserError
        The file is missing, damaged, of another kind, or holds more than tensors.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}: see {option('weights')}")
    if path.suffix == ".safetensors":
        found = _read_safetensors(path)
    elif path.suffix in (".pt", ".pth"):
        found = _read_torch(path)
    else:
        raise UserError(
            f"weights file {path} ends in {path.suffix or 'nothing'!r}:"
            " pass a .safetensors, .pt or .pth file"
        )
    return _plain(found, path)


def download_state(name: str) -> tuple[State, str, str]:
    """Fetch torchvision's own default weights of an architecture, through its own code.

    Parameters
    ----------
    name : str
        A torchvision classification model.

    Returns
    -------
    state : dict of str to Tensor
    source : str
        The name torchvision gives them, such as ``ResNet50_Weights.IMAGENET1K_V2``.
    digest : str
        SHA-256 of the downloaded file.

    Raises
    ------
    UserError
        They cannot be fetched, or what came is not what torchvision expects.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT
    try:
        with _connect_timeout(CONNECT_SECONDS):
            module = torchvision.models.get_model(name, weights=weights)
    except (OSError, http.client.HTTPException, RuntimeError) as error:
        raise UserError(
            f"cannot download the torchvision weights {weights} of {name} ({error}):"
            f" pass a file of them as {option('weights')}"
        ) from error
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    return module.state_dict(), str(weights), sha256(file)


def fill(module: nn.Module, state: State, name: str, source: object) -> None:
    """Load `state` into `module`, every tensor of it, or say what does not fit.

    Parameters
    ----------
    module : Module
        Changed in place.
    state : dict of str to Tensor
    name : str
        What the architecture is called, for the message.
    source : object
        Where the state comes from, for the message.

    Raises
    ------
    UserError
        Names or shapes differ; it names the first ones.
    """
    own = module.state_dict()
    # Converters drop the counters of batch normalisation; at inference nothing reads them.
    counters = {key: own[key] for key in own if key.endswith("num_batches_tracked")}
    state = {**counters, **state}
    faults = _differences(own, state)
    if faults:
        raise UserError(
            f"the weights in {source} do not fit {name}: {'; '.join(faults)};"
            " pass the MODEL they were made for, or other WEIGHTS"
        )
    ordered = OrderedDict(state)
    # MNASNet refuses a state dict without the format versions that files do not carry.
    ordered._metadata = own._metadata  # type: ignore[attr-defined]
    module.load_state_dict(ordered, strict=True)


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values of a state, in hexadecimal."""
    summed = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        values = tensor.detach().cpu().contiguous()
        summed.update(f"{key} {values.dtype} {tuple(values.shape)}\n".encode())
        summed.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return summed.hexdigest()


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"weights file {path} cannot be read: {error}") from error


def _read_torch(path: Path) -> Any:
    _check_archive(path)
    try:
        with warnings.catch_warnings():
            # Raw pickles of another protocol: said better below, or read without loss.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            # Sparse tensors are checked, and refused below.
            warnings.filterwarnings("ignore", message="Validating sparse tensor")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"weights file {path} is not a plain set of tensors and was not opened, since loading"
            " it could run code hidden in it: save it again as .safetensors, or as"
            " torch.save(model.state_dict(), file)"
        ) from error
    except Exception as error:
        # torch meets damage with every kind of exception; the file is at fault all the same.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"weights file {path} cannot be read: {reason}") from error


def _check_archive(path: Path) -> None:
    """Refuse an archive whose entries are compressed: torch writes none, and they may be bombs."""
    if not zipfile.is_zipfile(path):
        return  # a file of an old torch: a pickle, and tensors as they are
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UserError(f"weights file {path} cannot be read: {error}") from error
    n_bytes, most = sum(entry.file_size for entry in entries), path.stat().st_size
    if n_bytes > most:
        raise UserError(
            f"weights file {path} is refused: its {most:,} bytes would become {n_bytes:,}; torch"
            " compresses nothing: save it again as .safetensors"
        )


def _check_stored(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse tensors that are larger than what is stored of them, and many of one memory."""
    memory: dict[int, int] = {}
    n_bytes = 0
    for name, tensor in tensors.items():
        if tensor.is_sparse or tensor.layout != torch.strided or tensor.is_quantized:
            raise UserError(f"weights file {path} holds {name!r} as {tensor.layout}: save it dense")
        if tensor.device.type != "cpu":
            raise UserError(f"weights file {path} holds {name!r} without values ({tensor.device})")
        storage = tensor.untyped_storage()
        memory[storage.data_ptr()] = storage.nbytes()
        n_bytes += tensor.nbytes
    most = SHARED * sum(memory.values())
    if n_bytes > most:
        raise UserError(
            f"weights file {path} is refused: its tensors are views that would become"
            f" {n_bytes:,} bytes of the {sum(memory.values()):,} stored; save clones of them"
        )


def _plain(found: Any, path: Path) -> State:
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"weights file {path} holds no named tensors: save model.state_dict()")
    wrong = [key for key, value in found.items() if not isinstance(value, torch.Tensor)]
    if wrong:
        raise UserError(
            f"weights file {path} holds something else than a tensor under {wrong[0]!r}:"
            " save model.state_dict()"
        )
    _check_stored(found, path)
    prefix = "module." if all(key.startswith("module.") for key in found) else ""
    return {
        _OLD_DENSENET.sub(r"\1\2", key.removeprefix(prefix)): _float32(value)
        for key, value in found.items()
    }


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _differences(own: Mapping[str, torch.Tensor], state: State, n: int = 2) -> list[str]:
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {_by(state[key])} in the file and {_by(own[key])} in the network"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    faults = []
    if shapes:
        faults.append(_some("{} of another shape", shapes, n))
    if missing:
        faults.append(_some("{} missing from the file", missing, n))
    if unexpected:
        faults.append(_some("{} unknown to the network", unexpected, n))
    return faults


def _some(what: str, items: list[str], n: int) -> str:
    more = ", …" if len(items) > n else ""
    return f"{what.format(len(items))} ({', '.join(items[:n])}{more})"


def _by(tensor: torch.Tensor) -> str:
    return "×".join(str(size) for size in tensor.shape) or "a single number"


@contextlib.contextmanager
def _connect_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
