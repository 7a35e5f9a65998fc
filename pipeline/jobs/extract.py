"""Extraction: every image through the network once, its activations into shards.

Decoding runs ahead in threads, compression and durable writes follow in another; batches never
straddle shards, so what a shard holds depends on its images alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.errors import UserError
from pipeline.images import (
    Affine,
    DecodeError,
    ImageRecord,
    Rejected,
    decode_bytes,
    fit_to_square,
    read_bytes,
)
from pipeline.jobs.identity import images_digest
from pipeline.jobs.parallel import is_distributed, over_shards
from pipeline.jobs.workspace import Workspace
from pipeline.models import Forward
from pipeline.models.runtime import Runner, compile_cut
from pipeline.progress import bar, say

BATCH = 32
PROBES = 256
"""Images on which ``PRECISION=auto`` is decided."""


Tick = Callable[[int], object]
"""Told of so many images more that went through the network."""


@dataclass(frozen=True)
class Decoded:
    """An image ready for the network, or the reason why there is none."""

    record: ImageRecord
    pixels: torch.Tensor | None
    size: tuple[int, int]
    affine: Affine | None
    reason: str = ""
    content: str = ""


def extract(workspace: Workspace, shards: list[int] | None = None) -> dict[str, int | float]:
    """Dump the activations of all images that are not yet there.

    Parameters
    ----------
    workspace : Workspace
        A prepared run.
    shards : list of int, optional
        What to make; by default all shards that are missing.

    Returns
    -------
    dict
        Counts: images, rejected, shards.

    Raises
    ------
    UserError
        NaN or overflow in the activations, too many rejected images, none left.
    """
    store = workspace.activations
    missing = store.missing() if shards is None else shards
    n_images = len(workspace.listing.frame)
    n_done = n_images - sum(len(workspace.listing.shard(index)) for index in missing)
    rejected = len(list_rejected(workspace))
    _check_rejects(workspace, rejected)
    with bar("extract", n_images, "images", n_done) as shown:
        for counts in _run_shards(workspace, missing, shown.update):
            rejected += counts["rejected"]
            _check_rejects(workspace, rejected)
    rejected = len(list_rejected(workspace))
    n_kept = n_images - (rejected - len(workspace.record["dataset"]["rejected"]))
    if n_kept == 0:
        raise UserError(
            f"none of the {n_images} images could be read; the first:"
            f" {list_rejected(workspace)[0].path}: {list_rejected(workspace)[0].reason}"
        )
    return {"images": n_kept, "rejected": rejected, "shards": store.n_shards}


def list_rejected(workspace: Workspace) -> list[Rejected]:
    """List what was refused, when the dataset was listed and when it was decoded, by path."""
    rejected = [Rejected(**entry) for entry in workspace.record["dataset"]["rejected"]]
    stores = (workspace.activations, workspace.heatmaps)
    for index in range(workspace.listing.n_shards):
        # Heatmaps hold them too, for activations need not be kept.
        store = next((store for store in stores if store.is_there(index)), None)
        if store is None:
            continue
        arrays = store.read(index, ["rejected_path", "rejected_reason"])
        pairs = zip(arrays["rejected_path"], arrays["rejected_reason"], strict=True)
        rejected += [Rejected(path.decode(), reason.decode()) for path, reason in pairs]
    return sorted(rejected, key=lambda entry: (entry.path, entry.reason))


def extract_shard(folder: Path, index: int) -> dict[str, int]:
    """Extract one shard of the run in `folder`; return counts of images and rejected."""
    workspace, runner = _worker(folder)
    return next(_extract(workspace, runner, [index], lambda n: None))


def choose_runner(workspace: Workspace) -> Runner:
    """Compile the network for the run's device and precision.

    What ``PRECISION=auto`` comes to is decided once a run, by timing and agreement on its first
    images, and recorded: workers and resumed runs must compute as the first shards were.
    """
    decided = workspace.record.get("forward", {})
    if not decided:
        with workspace.alone("forward"):  # parts side by side must not decide differently
            decided = workspace.record.get("forward", {})
            return _compile(workspace, decided)
    return _compile(workspace, decided)


def _compile(workspace: Workspace, decided: dict[str, Any]) -> Runner:
    config = workspace.config
    probes = [_decode(workspace, record) for record in workspace.listing.shard(0)[:PROBES]]
    pixels = [probe.pixels for probe in probes if probe.pixels is not None]
    runner = compile_cut(
        workspace.cut,
        device=_device(config.device),
        precision=decided.get("precision", config.precision),
        compiled=decided.get("compiled"),
        batch_size=BATCH,
        probe_images=torch.stack(pixels) if pixels else None,
        n_images=len(workspace.listing.frame),
    )
    if not decided:
        say(f"extract    {runner.how}")
        facts = {"precision": runner.precision, "compiled": runner.compiled, "how": runner.how}
        workspace.note(forward=facts)
    return runner


def _run_shards(workspace: Workspace, shards: list[int], tick: Tick) -> Iterator[dict[str, int]]:
    if not shards:
        return
    runner = choose_runner(workspace)
    if is_distributed(workspace.config):
        for counts in over_shards(extract_shard, workspace.folder, shards, workspace.config):
            tick(counts["images"] + counts["rejected"])
            yield counts
        return
    yield from _extract(workspace, runner, shards, tick)


@lru_cache(maxsize=1)
def _worker(folder: Path) -> tuple[Workspace, Runner]:
    workspace = Workspace.open(folder)
    return workspace, choose_runner(workspace)


def _extract(
    workspace: Workspace, runner: Runner, shards: Sequence[int], tick: Tick
) -> Iterator[dict[str, int]]:
    """Extract shards one after the other; decode the next and write the last meanwhile."""
    with ThreadPoolExecutor(2) as decoders, ThreadPoolExecutor(1) as writer:
        writing: Future[dict[str, int]] | None = None
        upcoming = _start_decoding(workspace, shards[0], decoders)
        for index, following in zip_longest(shards, shards[1:]):
            batches = upcoming
            if following is not None:
                upcoming = _start_decoding(workspace, following, decoders)
            shard = _run(workspace, runner, batches, tick)
            if writing is not None:
                yield writing.result()
            writing = writer.submit(_publish, workspace, index, *shard)
        if writing is not None:
            yield writing.result()


def _start_decoding(
    workspace: Workspace, index: int, decoders: ThreadPoolExecutor
) -> list[Future[list[Decoded]]]:
    records = workspace.listing.shard(index)
    batches = [records[start : start + BATCH] for start in range(0, len(records), BATCH)]
    return [decoders.submit(_decode_batch, workspace, batch) for batch in batches]


def _run(
    workspace: Workspace, runner: Runner, batches: list[Future[list[Decoded]]], tick: Tick
) -> tuple[list[Decoded], list[dict[str, NDArray[Any]]]]:
    """Run the network on a shard's batches; return its images and what to store of each batch."""
    images: list[Decoded] = []
    parts: list[dict[str, NDArray[Any]]] = []
    for future in batches:
        decoded = future.result()
        kept = [image for image in decoded if image.pixels is not None]
        if kept:
            pixels = torch.stack([image.pixels for image in kept if image.pixels is not None])
            parts.append(_stored(workspace, runner(pixels), kept))
        images += [replace(image, pixels=None) for image in decoded]
        tick(len(decoded))
    return images, parts


def _publish(
    workspace: Workspace,
    index: int,
    images: list[Decoded],
    parts: list[dict[str, NDArray[Any]]],
) -> dict[str, int]:
    good = [image for image in images if not image.reason]
    bad = [image for image in images if image.reason]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in (parts or [{}])[0]}
    arrays |= _facts(good, bad)
    if not parts:
        arrays |= _stored(workspace, _nothing(workspace), [])
    made_from = {
        "inputs": workspace.inputs_digest,
        "images": images_digest([image.content for image in images]),
        "forward": json.dumps(workspace.record["forward"], sort_keys=True),
    }
    workspace.activations.write(index, arrays, made_from, layer=workspace.config.layer)
    return {"images": len(good), "rejected": len(bad)}


def _decode_batch(workspace: Workspace, records: list[ImageRecord]) -> list[Decoded]:
    return [_decode(workspace, record) for record in records]


def _decode(workspace: Workspace, record: ImageRecord) -> Decoded:
    config = workspace.config
    assert config.image_size is not None
    content = ""
    try:
        data = read_bytes(workspace.image_file(record.path))
        content = hashlib.sha256(data).hexdigest()
        image = decode_bytes(data)
    except DecodeError as error:
        return Decoded(record, None, (0, 0), None, str(error), content)
    pixels, affine = fit_to_square(image, config.image_size, config.resize)
    return Decoded(record, pixels, (image.shape[2], image.shape[1]), affine, content=content)


def _stored(
    workspace: Workspace, forward: Forward, images: list[Decoded]
) -> dict[str, NDArray[Any]]:
    """Check a batch's activations and bring them to the type they are stored in."""
    layer = workspace.config.layer
    arrays = {"V": _narrow(forward.V, layer, images, workspace.config)}
    for name, maps in forward.aux.items():
        arrays[f"aux/{name}"] = _narrow(maps, name, images, workspace.config)
    if forward.prefix is not None:
        arrays["prefix"] = _narrow(forward.prefix, layer, images, workspace.config)
    logits = forward.logits.float()
    _check_finite(logits, logits, "the network's answer", images)
    arrays["logits"] = logits.cpu().numpy()
    arrays["norm"] = forward.V.float().flatten(1).norm(dim=1).cpu().numpy()
    return arrays


def _narrow(maps: torch.Tensor, layer: str, images: list[Decoded], config: Config) -> NDArray[Any]:
    """Return float16 (float32 for ``PRECISION=fp32``); refuse NaN, Inf and overflow."""
    narrow = maps if config.precision == "fp32" else maps.to(torch.float16)
    _check_finite(maps, narrow, f"layer {layer}", images)
    return narrow.cpu().numpy()


def _check_finite(
    maps: torch.Tensor, narrow: torch.Tensor, what: str, images: list[Decoded]
) -> None:
    """Raise `UserError` where a value that would be stored is not finite: count it, name it."""
    bad = ~torch.isfinite(narrow)
    if not bool(bad.any()):
        return
    rows = bad.flatten(1).any(1).nonzero().flatten().tolist()
    values = maps[rows[0]][bad[rows[0]]]
    if bool(values.isnan().any()):
        kind, advice = "NaN", "; see to the weights, or to this image"
    elif bool(values.isinf().any()):
        kind, advice = "infinite values", "; see to the weights, or to this image"
    else:
        kind, advice = "values beyond float16's 65,504", "; pass PRECISION=fp32"
    more = f" and in {len(rows) - 1} more of the {len(images)} images beside it"
    raise UserError(
        f"{what} has {kind} at {len(values)} of {maps[0].numel()} places of image"
        f" {images[rows[0]].record.path}{more if len(rows) > 1 else ''}{advice}"
    )


def _facts(good: list[Decoded], bad: list[Decoded]) -> dict[str, NDArray[Any]]:
    affines = [image.affine.as_array() for image in good if image.affine is not None]
    return {
        "image_id": np.array([image.record.image_id for image in good], dtype=np.int64),
        "size": np.array([image.size for image in good], dtype=np.int32).reshape(-1, 2),
        "affine": np.array(affines, dtype=np.float64).reshape(-1, 4),
        "rejected_path": np.array([image.record.path for image in bad], dtype=object),
        "rejected_reason": np.array([image.reason for image in bad], dtype=object),
    }


def _nothing(workspace: Workspace) -> Forward:
    """Return what the network says of no image, for shards of which none could be read."""
    size = workspace.network.image_size
    blank = workspace.cut.forward(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    return Forward(
        blank.V[:0],
        None if blank.prefix is None else blank.prefix[:0],
        blank.logits[:0],
        {name: maps[:0] for name, maps in blank.aux.items()},
    )


def _check_rejects(workspace: Workspace, n_rejected: int) -> None:
    most = workspace.config.max_rejects
    if most is None or n_rejected <= most:
        return
    last = list_rejected(workspace)[-1]
    raise UserError(
        f"{n_rejected} images could not be read, more than MAX_REJECTS={most};"
        f" the last: {last.path}: {last.reason}"
    )


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
