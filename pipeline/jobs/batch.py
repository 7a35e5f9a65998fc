"""One batch of the extraction, from image files to compressed activations, in one thread.

Notation: V (images, h, w, channels), stored in float16, or in float32 under ``PRECISION=fp32``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UserError, option
from ..images import Affine, DecodeError, ImageRecord, decoded, network_input
from ..images.look import SIDE, hashes, picture_within, thumbnail
from ..models.cut import Forward
from ..models.runtime import Runner
from ..runs.workspace import Workspace
from ..store import Chunks, compress, concatenate

FLOAT16_MAX, FLOAT32_MAX = (torch.finfo(each).max for each in (torch.float16, torch.float32))

Stored = dict[str, NDArray[Any] | Chunks]


@dataclass(frozen=True)
class Decoded:
    """An image ready for the network, or the reason why there is none.

    Attributes
    ----------
    record : ImageRecord
    pixels : Tensor (3, size, size) or None
        uint8; None once the network has seen it, and where there is none.
    size : (int, int)
        Width and height of the original, upright.
    affine : Affine or None
        From the original to the network's input.
    reason : str
        Why there is none.
    content : str
        SHA-256 of the file.
    thumbnail : ndarray or None
        uint8, what it looks like in the small: near-duplicates are found by it.
    seen : str
        Digest of the network's input: copies have the same, whatever their files are.
    damage : str
        What its decoder says is wrong in the file.
    note : str
        What was read of a file that holds more.
    """

    record: ImageRecord
    pixels: torch.Tensor | None
    size: tuple[int, int]
    affine: Affine | None
    reason: str = ""
    content: str = ""
    thumbnail: NDArray[np.uint8] | None = None
    seen: str = ""
    damage: str = ""
    note: str = ""


@dataclass(frozen=True)
class Batch:
    """What became of a batch: its images, without pixels, and the arrays of those that are good.

    There are arrays for each of the runs that were made together, or none where no image is good.
    """

    images: tuple[Decoded, ...]
    arrays: tuple[Stored, ...]


def run_batch(
    workspaces: Sequence[Workspace], runner: Runner, records: Sequence[ImageRecord]
) -> Batch:
    """Decode images, run the network on them once and compress what it gives to each run.

    Parameters
    ----------
    workspaces : sequence of Workspace
        Runs that differ in their layers alone.
    runner : Runner
        Of their cuts, in that order.
    records : sequence of ImageRecord

    Raises
    ------
    UserError
        The network gives NaN, infinity, or more than float16 holds.
    """
    images = [decode_image(workspaces[0], record) for record in records]
    pixels = [image.pixels for image in images if image.pixels is not None]
    arrays: tuple[Stored, ...] = ()
    if pixels:
        good = [image.record for image in images if image.pixels is not None]
        passes = runner.passes(torch.stack(pixels))
        arrays = tuple(
            _stored(workspace, forward, good)
            for workspace, forward in zip(workspaces, passes, strict=True)
        )
    return Batch(tuple(replace(image, pixels=None) for image in images), arrays)


def decode_image(workspace: Workspace, record: ImageRecord) -> Decoded:
    """Bring one image to the network's input, or find the reason why it cannot be."""
    config, network, rule = workspace.config, workspace.network, workspace.pixel_rule
    try:
        with decoded(workspace.source, record, rule, reduced=True) as (picture, content):
            image, size = picture.pixels, picture.size
            damage, note = picture.damage, picture.note
            del picture
            pixels, affine = network_input(
                image, network.image_size, config.resize, network.scaling, size
            )
            del image  # before others may take its memory
    except DecodeError as error:
        return Decoded(record, None, (0, 0), None, str(error), error.digest)
    seen = hashlib.sha256(pixels.contiguous().numpy().data).hexdigest()[:32]
    small = thumbnail(picture_within(pixels, affine, size))
    found = Decoded(record, pixels, size, affine, content=content, seen=seen)
    return replace(found, thumbnail=small, damage=damage, note=note)


def join(workspace: Workspace, batches: Sequence[Batch], place: int = 0) -> Stored:
    """Join the batches of a shard to the arrays that are stored of it.

    `workspace` is the run at that `place` of those that were made together.
    """
    images = [image for batch in batches for image in batch.images]
    parts = [batch.arrays[place] for batch in batches if batch.arrays]
    arrays = {name: _join([part[name] for part in parts]) for name in parts[0]} if parts else {}
    return (arrays or _nothing(workspace)) | _facts(images)


def _stored(workspace: Workspace, forward: Forward, records: list[ImageRecord]) -> Stored:
    """Refuse what cannot be stored, and compress the rest."""
    layer, exact = workspace.config.layer, workspace.config.precision == "fp32"
    maps = {"V": forward.V, **{f"aux/{name}": each for name, each in forward.aux.items()}}
    if forward.prefix is not None:
        maps["prefix"] = forward.prefix
    arrays: Stored = {}
    for name, each in maps.items():
        of = f"layer {name.removeprefix('aux/') if name.startswith('aux/') else layer}"
        wide = each.float()
        check_range(wide, of, records, FLOAT32_MAX if exact else FLOAT16_MAX)
        arrays[name] = compress((wide if exact else wide.to(torch.float16)).cpu().numpy())
        if name == "V":
            arrays["norm"] = wide.flatten(1).norm(dim=1).cpu().numpy()
    if forward.logits.shape[1]:
        check_range(forward.logits, "the network's answer", records, FLOAT32_MAX)
    return arrays | {"logits": forward.logits.cpu().numpy()}


def check_range(
    values: torch.Tensor, what: str, records: Sequence[ImageRecord], most: float
) -> None:
    """Raise `UserError` where a value cannot be stored: count them, name layer and image.

    Extremes are enough to see NaN, infinity and overflow, and far cheaper than every value.

    Parameters
    ----------
    values : Tensor (images, …), float32
    what : str
        What they are, for the message.
    records : sequence of ImageRecord
        The images.
    most : float
        Largest value that can be stored.
    """
    rows = values.flatten(1)
    sound = (rows.amax(1) <= most) & (rows.amin(1) >= -most)  # comparisons with NaN are false
    if bool(sound.all()):
        return
    bad = (~sound).nonzero().flatten().tolist()
    found = rows[bad[0]][~(rows[bad[0]].abs() <= most)]
    kind, advice = "values beyond float16's 65,504", f"pass {option('precision', 'fp32')}"
    if bool(found.isnan().any()):
        kind, advice = "NaN", "see to the weights, or to this image"
    elif bool(found.isinf().any()):
        kind, advice = "infinite values", "see to the weights, or to this image"
    more = f" and in {len(bad) - 1} more of the {len(rows)} images beside it"
    raise UserError(
        f"{what} has {kind} at {len(found)} of {rows.shape[1]} places of image"
        f" {records[bad[0]].path}{more if len(bad) > 1 else ''}; {advice}"
    )


def _join(arrays: list[Any]) -> NDArray[Any] | Chunks:
    return concatenate(arrays) if isinstance(arrays[0], Chunks) else np.concatenate(arrays)


def _facts(images: list[Decoded]) -> Stored:
    good = [image for image in images if not image.reason]
    bad = [image for image in images if image.reason]
    small = [image.thumbnail for image in good if image.thumbnail is not None]
    thumbnails = np.array(small, dtype=np.uint8).reshape(-1, SIDE, SIDE)
    affines = [image.affine.as_array() for image in good if image.affine is not None]
    return {
        "image_id": np.array([image.record.image_id for image in good], dtype=np.int64),
        "size": np.array([image.size for image in good], dtype=np.int32).reshape(-1, 2),
        "affine": np.array(affines, dtype=np.float64).reshape(-1, 4),
        "content": np.array([image.content for image in good], dtype=object),
        "seen": np.array([image.seen for image in good], dtype=object),
        "damage": np.array([image.damage for image in good], dtype=object),
        "note": np.array([image.note for image in good], dtype=object),
        "look": hashes(thumbnails),
        "thumbnail": thumbnails,
        "rejected_path": np.array([image.record.path for image in bad], dtype=object),
        "rejected_reason": np.array([image.reason for image in bad], dtype=object),
    }


def _nothing(workspace: Workspace) -> Stored:
    """Return the arrays of a shard none of whose images could be read."""
    dtype = np.float32 if workspace.config.precision == "fp32" else np.float16
    empty: Stored = {
        name: Chunks(np.dtype(dtype), shape, ()) for name, shape in workspace.trunk.shapes.items()
    }
    n_classes = workspace.trunk.n_classes
    return empty | {"logits": np.zeros((0, n_classes), np.float32), "norm": np.zeros(0, np.float32)}
