"""Brings the names in a checkpoint to those of a network, where the difference is plain.

Training scripts wrap networks in others, put a dropout before the last layer, or train on grey
images; what they save is the same network under other names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import nn

from .checkpoints import read_checkpoint
from .source import Wanted
from .weights import State, fill

GREY = (0.299, 0.587, 0.114)
"""Luminance of red, green and blue (ITU-R BT.601), by which Pillow makes a picture grey."""

_STEP = re.compile(r"\.\d+(?=\.)")


def fitted(own: Mapping[str, torch.Tensor], state: State) -> tuple[State, list[str]]:
    """Rename what plainly is a network's own.

    Parameters
    ----------
    own : mapping of str to Tensor
        The network's state.
    state : dict of str to Tensor
        What a file holds.

    Returns
    -------
    state : dict of str to Tensor
        As it is where nothing is plain.
    notes : list of str
        What was done, for the user to know.
    """
    notes: list[str] = []
    for bring in (_without_prefix, _without_steps, _for_colours):
        state, note = bring(own, state)
        notes += [note] if note else []
    return state, notes


def fill_from(module: nn.Module, wanted: Wanted, name: str) -> list[str]:
    """Read the weights file that is wanted into a network.

    Returns
    -------
    list of str
        What the user is told of it.

    Raises
    ------
    UserError
        The file cannot be read, or does not fit.
    """
    assert wanted.weights is not None
    state, notes = read_checkpoint(wanted.weights, wanted.weights_key)
    state, more = fitted(module.state_dict(), state)
    fill(module, state, name, wanted.weights)
    return notes + more


def _without_prefix(own: Mapping[str, torch.Tensor], state: State) -> tuple[State, str]:
    """Take the part of a state whose names, without what they begin with, the network knows."""
    fits: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for n in range(min(len(parts), 5)):
            if ".".join(parts[n:]) in own:
                fits[".".join(parts[:n])] += 1
    if not fits:
        return state, ""
    most = max(fits.values())
    best = min((prefix for prefix, n in fits.items() if n == most), key=len)
    if not best or fits[""] == most:
        return state, ""
    start = f"{best}."
    found = {key[len(start) :]: value for key, value in state.items() if key.startswith(start)}
    left = len(state) - len(found)
    others = f"; {left} tensors outside of {best} are left out" if left else ""
    return found, f"the names in the weights begin with {start}{others}" if left else ""


def _without_steps(own: Mapping[str, torch.Tensor], state: State) -> tuple[State, str]:
    """Rename ``fc.1.weight`` to ``fc.weight``: a last layer after a dropout in a Sequential."""
    renamed: dict[str, str] = {}
    missing = {key for key in own if key not in state}
    for key in state:
        plain = [_STEP.sub("", key, count=1), key] if key not in own else [key]
        if plain[0] in missing and state[key].shape[1:] == own[plain[0]].shape[1:]:
            renamed[key] = plain[0]
    if len(set(renamed.values())) != len(renamed) or not renamed:
        return state, ""
    return {renamed.get(key, key): value for key, value in state.items()}, ""


def _for_colours(own: Mapping[str, torch.Tensor], state: State) -> tuple[State, str]:
    """Let a first layer for grey images take colours: as much of each as makes up grey."""
    for key, value in own.items():
        given = state.get(key)
        if value.ndim != 4 or given is None:
            continue
        if value.shape[1] == 3 and given.shape == (len(value), 1, *value.shape[2:]):
            grey = torch.tensor(GREY).reshape(1, 3, 1, 1)
            return {**state, key: given * grey}, (
                "the weights are for grey images: the colours are weighed as Pillow does"
            )
        return state, ""
    return state, ""
