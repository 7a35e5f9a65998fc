"""Weights of a network: downloaded, filled in, and known by their digest."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import UserError, option
from ..system.checksums import sha256

State = dict[str, torch.Tensor]

CONNECT_SECONDS = 20.0
"""How long a silent server is waited for; without it a filtered network hangs for minutes."""


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
    import torchvision  # takes a second and more

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
            f" pass the {option('model')} they were made for, other {option('weights')}, or a"
            f" function of yours that makes the network ({option('model')}=file.py:function)"
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
