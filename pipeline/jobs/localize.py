"""The localize stage: activations and the fixed bank to heatmaps, residuals and contributions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from ..classify import contributions
from ..nmf import flush_denormals
from ..runs.plan import made_from
from ..runs.workspace import Workspace
from ..store import Arrays
from ..system.lanes import in_order, lanes
from ..system.progress import bar
from .parallel import binding, is_distributed, over_shards

IMAGES = 32
"""Images a lane has in float32 at once; with whole shards, 20,000 images took 100 MB more."""


OF_THE_FILE = ("content", "seen", "damage", "note", "look", "thumbnail")
"""What extraction noted of each image's file; shards of earlier versions have less."""


def localize(workspace: Workspace, shards: list[int] | None = None) -> dict[str, int | float]:
    """Encode all images that have no heatmaps yet.

    Parameters
    ----------
    workspace : Workspace
        A run with a bank.
    shards : list of int, optional
        What to make; by default all shards that are missing.

    Returns
    -------
    dict
        Counts: images, shards.
    """
    store = workspace.heatmaps
    missing = store.missing() if shards is None else shards
    n_images = len(workspace.listing.frame)
    n_done = n_images - sum(len(workspace.listing.shard(index)) for index in missing)
    with bar("localize", n_images, "images", n_done) as shown:
        for counts in _run_shards(workspace, missing):
            shown.update(counts["images"])
    return {"images": n_images, "shards": store.n_shards}


def localize_shard(folder: Path, index: int) -> dict[str, int]:
    """Encode one shard of the run in `folder`; return the count of its images."""
    return _localize(_worker(folder, binding(folder)), index)


def _run_shards(workspace: Workspace, shards: list[int]) -> Iterator[dict[str, int]]:
    if is_distributed(workspace.config) and shards:
        yield from over_shards(localize_shard, workspace.folder, shards, workspace.config)
        return
    with lanes() as pool:
        yield from in_order(pool, partial(_localize, workspace), shards)


@lru_cache(maxsize=1)
def _worker(folder: Path, bound: str) -> Workspace:
    return Workspace.open(folder)


def _localize(workspace: Workspace, index: int) -> dict[str, int]:
    flush_denormals()  # the flag is the thread's own, and workers have threads of theirs
    kept = ("image_id", "size", "affine", "rejected_path", "rejected_reason")
    names = ["V", "logits", *kept, *(["prefix"] if workspace.cut.n_prefix else [])]
    arrays = workspace.activations.read(index, names, optional=OF_THE_FILE)
    n = len(arrays["V"])
    at_once = IMAGES if workspace.device == "cpu" else max(1, n)
    parts = [_find(workspace, arrays, slice(i, i + at_once)) for i in range(0, n, at_once)]
    found = parts or [_nothing(workspace, arrays["V"].shape[1:3])]
    workspace.heatmaps.write(
        index,
        {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        | {name: arrays[name] for name in (*kept, *OF_THE_FILE) if name in arrays},
        made_from(workspace, "heatmaps", index),
        layer=workspace.config.layer,
        k=workspace.bank.k,
    )
    return {"images": len(workspace.listing.shard(index))}


def _find(workspace: Workspace, arrays: Arrays, images: slice) -> Arrays:
    """Find the concepts in some images of a shard."""
    V = torch.from_numpy(arrays["V"][images]).float()
    prefix = torch.from_numpy(arrays["prefix"][images]).float() if "prefix" in arrays else None
    logits = workspace.logits(V, torch.from_numpy(arrays["logits"][images]))
    H, residual = (each.cpu() for each in workspace.bank.encode(V.to(workspace.device)))
    return {
        "H": H.numpy().astype(np.float16),
        "residual": residual.numpy().astype(np.float16),
        "image_residual": _image_residual(V, residual).numpy(),
        "logits": logits.numpy(),
        "contribution": contributions(workspace.cut, workspace.bank, V, H, logits, prefix).numpy(),
    }


def _nothing(workspace: Workspace, grid: tuple[int, ...]) -> Arrays:
    """Give what `_find` gives of no image at all: a shard of which every image was rejected."""
    k, f32 = workspace.bank.k, np.float32
    return {
        "H": np.zeros((0, *grid, k), np.float16),
        "residual": np.zeros((0, *grid), np.float16),
        "image_residual": np.zeros(0, f32),
        "contribution": np.zeros((0, k), f32),
        "logits": np.zeros((0, workspace.cut.n_classes), f32),
    }


def _image_residual(V: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Return ‖V − D(W H)‖ / ‖V‖ over an image's positions, float32 (n,)."""
    length = V.norm(dim=-1)
    whole = length.flatten(1).norm(dim=1)
    left: torch.Tensor = (residual * length).flatten(1).norm(dim=1)
    share: torch.Tensor = left / whole.clamp_min(1e-12)
    return share
