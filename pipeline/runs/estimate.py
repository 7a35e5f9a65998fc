"""What a run will take of disk and memory, worked out before it starts; refused where it is more.

Sizes of activations are measured on the first images of the dataset, compressed as they will be.
The rest follows from counts. Constants are upper bounds that tests hold against real runs.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from numpy.typing import NDArray

from .. import nmf
from ..config import Config, ks_of
from ..errors import UserError, option
from ..images import (
    DECODING,
    Dataset,
    DecodeError,
    PixelRule,
    network_input,
    read_image,
    sides,
)
from ..models import Cut
from ..models.cut import Forward
from ..store import BATCHES, SHARD_BYTES, Listing, stored_size
from ..system import files
from .probe import MOST_IMAGES

N_PROBED = 4
"""Images that sizes are measured on; working order makes them a random sample."""

MARGIN = 1.3
"""Activations may be so much larger than those of the images measured."""

CODE = 10
"""Bytes of a strength on the disk where a position has few: zeros are compressed to next to none;
measured 8 with all else that is stored, of 512 concepts."""

ROW = 160
"""Bytes an image and concept take in the tables: in image_concepts, regions and objects."""

PAGE = 200_000
"""Bytes an image takes in the atlas: its page, picture and maps."""

SHEET = 3_000_000
"""Bytes a concept takes in the atlas: its page, crops and contact sheet."""

SHOWN = 30
"""Images a concept shows in the atlas, at most."""

FIXED_DISK = 1_000_000
"""Bytes of each product that do not grow with the data: headers, records, pages."""

SHARDS_IN_FLIGHT = 4
"""Shards in memory at once: being compressed, written, read and encoded."""

SAMPLE_POSITIONS, SAMPLE_COPIES = 20_000, 6
"""Positions the factorization starts from, and float32 copies of them it works with at most."""

PROBE_COPIES = 3
"""Mean activations of all images fitted on that a probe holds in float64 at once, at most."""

DECODING_LEAST = 300_000_000
"""Bytes for decoding images, at least: one of 24 megapixels."""

PARENT = 800_000_000
"""Bytes of a process that hands out work to workers; measured 580 MB."""

FIXED_MEMORY = 1_300_000_000
"""Bytes of the libraries, and of buffers that do not depend on the network."""


OF_EACH = ("batches", "shards")
"""Memory that every layer of a forward pass takes; the rest is taken once."""


@dataclass(frozen=True)
class Estimate:
    """Bytes that a run will take at most, by what takes them."""

    disk: Mapping[str, int]
    memory: Mapping[str, int]


def probe(
    dataset: Dataset, listing: Listing, layer: Cut, config: Config, rule: PixelRule
) -> Forward:
    """Run the network on the first images that can be read; on a blank one if none can.

    Returns
    -------
    Forward
        Of up to `N_PROBED` images, float32.
    """
    size = layer.network.image_size
    inputs = []
    for image in listing.shard(0)[:N_PROBED]:
        try:
            pixels, _ = read_image(dataset.source, image, rule)
        except DecodeError:
            continue  # it is listed as rejected once all images are read
        inputs.append(network_input(pixels, size, config.resize, layer.network.scaling)[0])
    blank = torch.zeros(3, *sides(size), dtype=torch.uint8)
    return layer.forward(torch.stack(inputs or [blank]))


def bytes_per_image(forward: Forward, config: Config) -> int:
    """Return the bytes of one image's activations, uncompressed."""
    arrays = _as_stored(forward, config)
    return sum(array.nbytes for array in arrays.values()) // len(forward.V)


def estimate(forward: Forward, layer: Cut, n_images: int, config: Config) -> Estimate:
    """Work out what a run will take.

    Parameters
    ----------
    forward : Forward
        Of a few images of the dataset.
    layer : Cut
    n_images : int
    config : Config
        Resolved.
    """
    n_probed, height, width, channels = forward.V.shape
    k = max(ks_of(config.k))
    active = nmf.active_of(config.active, k)
    strengths = 2 * k if active is None else min(2 * k, CODE * active)
    stored = stored_size(_as_stored(forward, config)) / n_probed
    facts = 100 + 4 * layer.n_classes
    shown = min(n_images, SHOWN * k)
    disk = {
        "activations": int(n_images * (MARGIN * stored + facts)) + FIXED_DISK,
        "heatmaps": n_images * (height * width * (strengths + 2) + 4 * k + facts) + FIXED_DISK,
        "tables": n_images * (k * ROW + 200) + FIXED_DISK,
        "atlas": shown * PAGE + k * SHEET + FIXED_DISK,
        "bank": 16 * k * (2 * channels + layer.n_classes) + FIXED_DISK,
    }
    is_split = config.transform == "split" or float(forward.V.min()) < 0
    work = 2 * channels if is_split else channels
    sampled = SAMPLE_POSITIONS if active is None else nmf.sparse_sample_size(k)
    positions = min(sampled, n_images * height * width)
    memory = {
        **_held([layer], config),
        "decoding": DECODING_LEAST,
        "factorization": SAMPLE_COPIES * positions * work * 4 + 8 * work * work,
    }
    if config.head == "probe":
        memory["probe"] = PROBE_COPIES * min(n_images, MOST_IMAGES) * channels * 8
    return Estimate(disk, memory)


def of_all(parts: Sequence[Estimate]) -> Estimate:
    """Return what runs take that are made together, from one forward pass."""
    names = parts[0].memory
    beside = {name: [part.memory[name] for part in parts] for name in names}
    return Estimate(
        {name: sum(part.disk[name] for part in parts) for name in parts[0].disk},
        {name: sum(each) if name in OF_EACH else max(each) for name, each in beside.items()},
    )


def bound_decoding(layers: Sequence[Cut], config: Config, processes: int) -> None:
    """Let the images that one of so many processes decodes at a time take what is left for them.

    `layers` are those that each forward pass gives. That is of ``MAX_MEMORY`` where it is given,
    and of what is free; at least what the estimate counts for it.
    """
    each = (ceiling(config) - _parent(processes)) / processes
    DECODING.limit(max(DECODING_LEAST, each - sum(_held(layers, config).values())))


def bound_decoding_alone(config: Config) -> None:
    """Let the images that are decoded at a time take what is left where no network is at work."""
    DECODING.limit(max(DECODING_LEAST, ceiling(config) - FIXED_MEMORY))


def _parent(processes: int) -> int:
    return PARENT if processes > 1 else 0


def ceiling(config: Config) -> float:
    """Return the most bytes of memory the job may take."""
    return min(config.max_memory_bytes(), available_memory())


def _held(layers: Sequence[Cut], config: Config) -> dict[str, int]:
    """Return the bytes of memory that one process of the extraction takes beside decoding."""
    network = layers[0].network
    weights = sum(each.numel() for each in network.module.parameters()) * 4
    pixels = 3 * math.prod(sides(network.wide_size))
    in_lanes = BATCHES[-1] * max(1, torch.get_num_threads() // max(1, config.workers))
    item = 4 if config.precision == "fp32" else 2
    image = sum(math.prod(shape) for layer in layers for shape in layer.shapes.values()) * item
    return {
        "libraries": FIXED_MEMORY,
        "network": 3 * weights,
        "batches": in_lanes * (pixels * 24 + 16 * image),
        "shards": SHARDS_IN_FLIGHT * (image * BATCHES[-1] + len(layers) * SHARD_BYTES),
    }


def check_fits(needed: Estimate, folders: Sequence[Path], config: Config) -> None:
    """Refuse a run that does not fit, or several that are made together, with the numbers.

    Parameters
    ----------
    needed : Estimate
    folders : sequence of Path
        Where the runs lie or will lie; what they hold already counts as free.
    config : Config
        ``MAX_DISK``, ``MAX_MEMORY`` and ``WORKERS`` count.

    Raises
    ------
    UserError
        The disk, ``MAX_DISK``, ``MAX_MEMORY`` or the memory that is free is less.
    """
    folder = folders[0]
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free + sum(map(files.size, folders))
    disk, most = sum(needed.disk.values()), config.max_disk_bytes()
    if disk > min(free, most):
        limit = (
            f"{_gb(free)} are free there" if free < most else option("max_disk", config.max_disk)
        )
        raise UserError(
            f"the run may take up to {_gb(disk)} in {folder} ({_parts(needed.disk)}), but {limit};"
            f" see {option('limit')}, take a {option('layer')} with a smaller map, or a"
            f" {option('run')} on a larger disk"
        )
    memory, most = sum(needed.memory.values()), ceiling(config)
    processes = max(1, config.workers)
    if memory * processes + _parent(processes) > most:
        limit = option("max_memory", config.max_memory)
        limit = limit if most == config.max_memory_bytes() else f"{_gb(most)} are free"
        times = f"{_gb(PARENT)} and {processes} workers of " if processes > 1 else ""
        raise UserError(
            f"the run may take up to {times}{_gb(memory)} of memory ({_parts(needed.memory)}), but"
            f" {limit}; take fewer {option('workers')}, a"
            f" smaller {option('image_size')}, or a {option('layer')} with fewer channels"
        )


def available_memory() -> int:
    """Return the bytes of memory that are free, to this machine or to this control group."""
    available = int(psutil.virtual_memory().available)
    try:
        most = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
        cached = dict(
            line.split() for line in Path("/sys/fs/cgroup/memory.stat").read_text().splitlines()
        )
    except (OSError, ValueError):
        return available  # no control groups here
    if most == "max":
        return available
    return min(available, int(most) - used + int(cached.get("file", 0)))


def _as_stored(forward: Forward, config: Config) -> dict[str, NDArray[Any]]:
    dtype = torch.float32 if config.precision == "fp32" else torch.float16
    maps = {"V": forward.V} | {f"aux/{name}": each for name, each in forward.aux.items()}
    if forward.prefix is not None:
        maps["prefix"] = forward.prefix
    return {name: each.cpu().to(dtype).numpy() for name, each in maps.items()}


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.2f} GB"


def _parts(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n_bytes / 1e9:.2f}" for name, n_bytes in parts.items())
