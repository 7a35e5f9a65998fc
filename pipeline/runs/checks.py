"""What is refused before any work: devices, plug-ins, numbers and folders that cannot be."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import plugins
from ..config import Config, ks_of
from ..errors import UserError, option, suggest
from ..images import Dataset, FolderSource
from ..models import Cut
from ..models.cut import Forward
from ..models.given_source import GIVEN
from ..store import Listing
from ..system.progress import say
from ..tables import tables_with
from ..tables.database import literal
from .active import active_of
from .ownership import find_other, is_run
from .probe import LEAST_OF_LABEL, split_labels, tell_left
from .stages import check_folders


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no run and holds other things: they could be taken for its own.

    What a process left that was killed before it could say that this is a run does not count.
    """
    literal(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{option('run', folder)} is a file; name a new folder")
    check_folders(folder)
    if is_run(folder):
        return
    other = find_other(folder)
    if other is not None:
        raise UserError(
            f"{option('run', folder)} holds other files, such as"
            f" {str(other.relative_to(folder))!r}, and is no run; name a new folder"
        )


def check_refit(config: Config, folder: Path) -> None:
    """Refuse to fit anew what was never fitted."""
    if config.refit == "yes" and not is_run(folder):
        raise UserError(
            f"{option('refit', 'yes')} fits the concepts of a run anew, and {folder} is no run yet:"
            " leave it out"
        )


def check_plugins(config: Config) -> None:
    """Refuse plug-ins and namers that are not there, or columns that do not fit the tables."""
    known = {*plugins.names(plugins.COLUMNS), *plugins.names(plugins.PAGES)}
    known -= {*plugins.PAGES.built_in}
    for name in config.plugins:
        if name not in known:
            there = suggest(name, known) or f"installed are: {', '.join(sorted(known)) or 'none'}"
            raise UserError(f"there is no plug-in {name!r} with table columns or pages; {there}")
    tables_with(config.plugins_of(plugins.COLUMNS))
    if config.namer != "none":
        plugins.load(plugins.NAMERS, config.namer)


def check_shareable(config: Config) -> None:
    """Refuse workers where the network is an object of this process."""
    if config.model.startswith(f"{GIVEN}:") and (config.workers or config.scheduler):
        raise UserError(
            "a network that is given as an object cannot be shared with other processes: put a"
            f" function that makes it into a file ({option('model')}='file.py:function'), or leave"
            f" out {option('workers')} and {option('scheduler')}"
        )


def check_head(config: Config) -> None:
    """Refuse options of the network's classes where these are left aside."""
    for name in ("classes", "class_names"):
        if config.head != "auto" and getattr(config, name) is not None:
            instead = "the dataset's labels are" if config.head == "probe" else "there are no"
            raise UserError(
                f"{option(name, getattr(config, name))} is of the network's own classes, and with"
                f" {option('head', config.head)} {instead} classes: leave one out"
            )


def check_labels(config: Config, listing: Listing) -> None:
    """Refuse to fit a probe on labels that tell no two classes apart; say which are left out."""
    if config.head != "probe":
        return
    frame = listing.frame[listing.frame["split"] == "fit"]
    kept, left = split_labels(frame["labels"])
    if len(kept) < 2:
        counts = frame["labels"].explode().value_counts()
        found = ", ".join(f"{label!r} {n}" for label, n in counts.head(3).items())
        raise UserError(
            f"{option('head', 'probe')} needs at least two labels of {LEAST_OF_LABEL} images to fit"
            f" on; {option('dataset', config.dataset)} has {len(kept)}"
            f" ({f'images by label: {found}' if found else 'its images have no labels'})"
        )
    tell_left(left)


def check_device(name: str) -> None:
    """Refuse a device that is not there."""
    n_devices = torch.cuda.device_count()
    known = ["auto", "cpu", "cuda", *(f"cuda:{index}" for index in range(n_devices))]
    if name not in known or (name.startswith("cuda") and not n_devices):
        raise UserError(
            f"{option('device', name)} is not possible: this machine has {n_devices} CUDA devices;"
            f" it can be auto or cpu{', cuda or cuda:<n>' if n_devices else ''}"
        )


def check_k(config: Config, n_images: int, layer: Cut) -> None:
    """Refuse more concepts than the images have positions or, where any number of them stands at a
    position, the layer channels; and numbers that do not go together."""
    ks = ks_of(config.k)
    active = active_of(config.active, ks)
    asked = 1 if isinstance(config.k, str) else max(ks)
    most = n_images * layer.height * layer.width
    if active is None:
        most = min(layer.channels, most)
    if asked > most:
        raise UserError(
            f"{option('k', asked)} is more than the data allows: layer {layer.layer} has"
            f" {layer.channels} channels, and {n_images} images have"
            f" {n_images * layer.height * layer.width} positions; it can be {most} at most"
        )


def check_non_negative(config: Config, layer: Cut, probed: Forward) -> None:
    """Refuse ``TRANSFORM=none`` on a layer that is negative on the first images."""
    least = float(probed.V.min())
    if config.transform == "none" and least < 0:
        raise UserError(
            f"layer {layer.layer} has negative activations (least {least:.4g}), which"
            f" {option('transform', 'none')} does not allow; use {option('transform', 'auto')}"
        )


def check_objective(config: Config, layer: Cut) -> None:
    """Refuse to fit concepts to what the network says where it says no classes."""
    if config.objective == "faithful" and config.head != "probe" and not layer.n_classes:
        raise UserError(
            f"{option('objective', 'faithful')} fits concepts to what the network says of images,"
            f" and it says no classes: use {option('head', 'probe')}, or leave it out"
        )


def tell_outside(dataset: Dataset) -> None:
    """Say which images lie elsewhere than the dataset: others may have made its table or links."""
    source = dataset.source
    outside = source.outside(dataset.images) if isinstance(source, FolderSource) else []
    if outside:
        path, where = outside[0]
        known = "" if str(path) == str(where) else f" is {where}"
        say(
            f"dataset    {len(outside)} of {len(dataset.images)} images lie outside {source.where},"
            f" where links or the table point: {path}{known}"
        )
