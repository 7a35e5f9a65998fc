"""What a run is made from, loaded and checked before its folder is touched."""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .. import checkout
from ..config import SAMPLE, Config, size_option
from ..images import Dataset, FolderSource, list_dataset
from ..images.source import COCO, FOLDER, GLOB, REMOTE, TABLE
from ..models import Network, choose_layer, configured, consent
from ..sample import write_sample
from ..system import files
from ..system.progress import say
from .checks import (
    check_device,
    check_folder,
    check_head,
    check_plugins,
    check_shareable,
    tell_outside,
)
from .label_classes import match_labels, renamed, unmatched

SAMPLE_FOLDER = checkout.folder("data") / "sample"


@dataclass(frozen=True)
class Inputs:
    """Dataset and network of a run, and how labels and classes go together.

    Attributes
    ----------
    dataset : Dataset
    network : Network
    matched : (dict of str to int, dict of str to str)
        What `match_labels` found.
    """

    dataset: Dataset
    network: Network
    matched: tuple[dict[str, int], dict[str, str]]


def load_inputs(config: Config, run: Path | None = None) -> Inputs:
    """Load the dataset's listing and the network, and say what is assumed of them.

    Parameters
    ----------
    config : Config
        As given.
    run : Path, optional
        Folder that the run will have, where that is known.

    Raises
    ------
    UserError
        Dataset, network, classes or an option cannot be used, or a folder is something else.
    """
    if run is not None and run.exists():  # before hours of reading
        check_folder(run)
        files.check_writable(run)
    dataset = _find_dataset(config)
    check_device(config.device)
    check_shareable(config)
    check_head(config)
    check_plugins(config)
    consent.check(_model(config))
    network = configured(config, _model(config))
    for note in network.notes:
        say(f"network    {note}")
    matched = match_labels(config, dataset, network)
    if note := renamed(matched[1], network):
        say(f"network    {note}")
    return Inputs(dataset, network, matched)


def tell(inputs: Inputs, config: Config) -> None:
    """Say what was found: images, labels, splits, what was passed over, labels of no class."""
    dataset, network = inputs.dataset, inputs.network
    for each in (dataset.describe(), *dataset.remarks):
        say(f"dataset    {each}")
    if note := unmatched(config, dataset, network, inputs.matched[0]):
        say(f"labels     {note}")


def resolve(config: Config, inputs: Inputs) -> Config:
    """Put in place of ``auto`` and relative paths what they come to."""
    network, dataset = inputs.network, inputs.dataset
    return config.model_copy(
        update={
            "model": network.name,
            "layer": choose_layer(network, config.layer),
            "image_size": size_option(network.image_size),
            "margin": network.margin,
            "weights": _absolute(config.weights, Path("random")),
            "classes": _absolute(config.classes),
            "class_names": _absolute(config.class_names),
            "dataset": _reopened(config, dataset),
        }
    )


def name_of(dataset: Dataset, config: Config) -> str:
    """Name a run after its contents."""
    parts = (dataset.name, config.model.rpartition("/")[2], config.layer, config.digest())
    return re.sub(r"[/:\\\\]", "-", "-".join(parts))


def _model(config: Config) -> str:
    if config.model != "auto":
        return config.model
    return SAMPLE if config.dataset == SAMPLE else "resnet50"


def _reopened(config: Config, dataset: Dataset) -> str:
    """Write the dataset so that it is found again from any working folder."""
    if config.dataset == SAMPLE and dataset.name == SAMPLE:
        return SAMPLE
    if dataset.kind in (FOLDER, TABLE, COCO):
        return str(Path(config.dataset).expanduser().resolve())
    if dataset.kind == GLOB:
        return os.path.abspath(os.path.expanduser(config.dataset))  # noqa: PTH100, PTH111, a pattern
    if dataset.kind == REMOTE:
        return dataset.source.where
    return f"{dataset.kind}:{dataset.source.where}"


def _absolute(path: Path | None, *words: Path) -> Path | None:
    """Make a path absolute, so that the run is found again from elsewhere; words stay."""
    return path if path is None or path in words else path.resolve()


def _find_dataset(config: Config) -> Dataset:
    if config.dataset == SAMPLE and not Path(SAMPLE).exists():
        if not SAMPLE_FOLDER.exists():
            say(f"sample     rendering the bundled sample into {SAMPLE_FOLDER} (once)")
        write_sample(SAMPLE_FOLDER)
        listed = list_dataset(SAMPLE_FOLDER / "images")
        named = FolderSource(SAMPLE_FOLDER / "images", SAMPLE)
        return dataclasses.replace(listed, source=named)
    listed = list_dataset(config.dataset, labels=config.labels, split=config.split)
    tell_outside(listed)
    return listed
