"""A run's folder and what its stages share: configuration, dataset, network, shards, bank, record.

`prepare` checks everything a user gave before any work starts; `Workspace.open` finds a run again.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline import files
from pipeline.config import SAMPLE, Config, dump_toml, load_toml
from pipeline.errors import UserError
from pipeline.images import (
    Dataset,
    DecodeError,
    Grid,
    decode,
    find_file,
    fit_to_square,
    list_dataset,
)
from pipeline.models import Cut, Network, choose_layer, cut, load_network
from pipeline.sample import write_sample
from pipeline.store import Bank, Listing, ShardStore, make_listing, read_bank

VERSION = "1.0"
STAGES = ("extract", "factorize", "localize", "classify", "export", "atlas")
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "h5py", "scikit-learn", "pandas", "pyarrow")
N_PROBED = 4
SAMPLE_FOLDER = Path(__file__).parents[2] / "data" / "sample"


@dataclass(frozen=True)
class Workspace:
    """One run: its folder, and its configuration as resolved when the run was made."""

    folder: Path
    config: Config

    @staticmethod
    def open(folder: Path) -> Workspace:
        """Open an existing run.

        Raises
        ------
        UserError
            `folder` is not a run.
        """
        return Workspace(folder, load_toml(folder / "config.toml"))

    @cached_property
    def record(self) -> dict[str, Any]:
        """What ``run.json`` says."""
        text = (self.folder / "run.json").read_text(encoding="utf-8")
        record: dict[str, Any] = json.loads(text)
        return record

    @cached_property
    def network(self) -> Network:
        """The network with its weights."""
        config = self.config
        return load_network(config.model, config.weights, image_size=config.image_size)

    @cached_property
    def cut(self) -> Cut:
        """The network cut at the run's layer."""
        return cut(self.network, self.config.layer, aux_layers=self.config.aux_layers)

    @cached_property
    def listing(self) -> Listing:
        """The images of the run in working order."""
        return Listing.load(self.folder / "activations" / "images.parquet")

    @cached_property
    def bank(self) -> Bank:
        """The concept bank."""
        return read_bank(self.folder / "bank" / "bank.h5")

    @property
    def activations(self) -> ShardStore:
        """Shards of activations."""
        folder = self.folder / "activations"
        return ShardStore(folder, "concordance.activations", self.listing.n_shards)

    @property
    def heatmaps(self) -> ShardStore:
        """Shards of heatmaps."""
        folder = self.folder / "heatmaps"
        return ShardStore(folder, "concordance.heatmaps", self.listing.n_shards)

    @cached_property
    def grid(self) -> Grid:
        """Where the layer's cells are in the network's input."""
        layer = self.record["layer"]
        assert self.config.image_size is not None
        return Grid(
            np.array(layer["centres_y"]), np.array(layer["centres_x"]), self.config.image_size
        )

    @property
    def classes_path(self) -> Path:
        """What the head says of the concepts."""
        return self.folder / "bank" / "classes.h5"

    def table_path(self, name: str) -> Path:
        """Return the file of a table."""
        return self.folder / "tables" / f"{name}.parquet"

    def image_file(self, path: str) -> Path:
        """Return the file of an image, given its dataset-relative path."""
        return find_file(Path(self.record["dataset"]["root"]), path)

    @cached_property
    def class_of_label(self) -> dict[str, int]:
        """The network's class of each dataset label that has one."""
        return {str(key): int(value) for key, value in self.record["class_of_label"].items()}

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the network's classes, those of ``CLASSES`` before the network's own."""
        named = {int(key): name for key, name in self.record["class_names"].items()}
        return tuple(named.get(index, name) for index, name in enumerate(self.network.classes))

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Record a stage: its status, seconds, and the counts put into the yielded dict."""
        start = time.monotonic()
        counts: dict[str, Any] = {}
        self._note(name, {"status": "running"})
        try:
            yield counts
        except BaseException:
            self._note(name, {"status": "failed", "seconds": _seconds(start)} | counts)
            raise
        self._note(name, {"status": "done", "seconds": _seconds(start)} | counts)

    def is_done(self, stage: str) -> bool:
        """Say whether a stage has been carried out to its end."""
        return bool(self.record["stages"].get(stage, {}).get("status") == "done")

    def note(self, **facts: Any) -> None:
        """Add facts to ``run.json``."""
        self.record.update(facts)
        files.write_json(self.folder / "run.json", self.record)

    def _note(self, stage: str, entry: dict[str, Any]) -> None:
        self.note(stages=self.record["stages"] | {stage: entry})


def prepare(config: Config, run: Path | None) -> Workspace:
    """Check what the user gave, then make the run's folder or find it again.

    Parameters
    ----------
    config : Config
        As given.
    run : Path or None
        The run's folder; named after dataset, model, layer and options under ``runs/`` if None.

    Raises
    ------
    UserError
        Dataset, network, layer, classes or output cannot be used, or `run` was made otherwise.
    """
    dataset = _find_dataset(config)
    model = config.model
    if model == "auto":
        model = SAMPLE if config.dataset == SAMPLE else "resnet50"
    _check_device(config.device)
    network = load_network(model, config.weights, image_size=config.image_size)
    class_of_label, class_names = _match_labels(config, dataset, network)
    config = config.model_copy(
        update={
            "model": model,
            "layer": choose_layer(network, config.layer),
            "image_size": network.image_size,
            "weights": _absolute(config.weights, Path("random")),
            "classes": _absolute(config.classes),
            "dataset": str(_absolute(Path(config.dataset), Path(SAMPLE))),
        }
    )
    layer_cut = cut(network, config.layer, aux_layers=config.aux_layers)
    _check_k(config, len(dataset.images), layer_cut)
    if config.transform == "none":
        _check_non_negative(config, dataset, layer_cut)
    folder = run or Path("runs") / "-".join(
        (dataset.name, config.model, config.layer, config.digest())
    )
    files.check_writable(folder)
    bytes_per_image = 2 * layer_cut.channels * layer_cut.height * layer_cut.width
    listing = make_listing(
        dataset, seed=config.seed, limit=config.limit, bytes_per_image=bytes_per_image
    )
    record = _new_record(config, dataset, network, layer_cut)
    record |= {"class_of_label": class_of_label, "class_names": class_names}
    workspace = Workspace(folder, config)
    if (folder / "run.json").exists():
        _check_same(workspace, record)
    else:
        listing.save(folder / "activations" / "images.parquet")
        files.write_text(folder / "config.toml", dump_toml(config))
        files.write_json(folder / "run.json", record)
    workspace.__dict__.update(network=network, cut=layer_cut)  # already loaded: keep
    return workspace


def _absolute(path: Path | None, *words: Path) -> Path | None:
    """Make a path absolute, so that the run is found again from elsewhere; words stay."""
    return path if path is None or path in words else path.resolve()


def _find_dataset(config: Config) -> Dataset:
    if config.dataset == SAMPLE and not Path(SAMPLE).exists():
        write_sample(SAMPLE_FOLDER)
        listed = list_dataset(SAMPLE_FOLDER / "images")
        return dataclasses.replace(listed, name=SAMPLE)
    return list_dataset(Path(config.dataset))


def _check_device(name: str) -> None:
    """Refuse a device that is not there."""
    n_devices = torch.cuda.device_count()
    known = ["auto", "cpu", "cuda", *(f"cuda:{index}" for index in range(n_devices))]
    if name not in known or (name.startswith("cuda") and not n_devices):
        raise UserError(
            f"DEVICE={name} is not possible: this machine has {n_devices} CUDA devices;"
            f" pass DEVICE=auto or cpu{', cuda or cuda:<n>' if n_devices else ''}"
        )


def _match_labels(
    config: Config, dataset: Dataset, network: Network
) -> tuple[dict[str, int], dict[str, str]]:
    """Map dataset labels to classes: by the ``CLASSES`` table, or by equal names."""
    labels = {image.label for image in dataset.images if image.label is not None}
    if config.classes is None:
        by_name = {name: index for index, name in enumerate(network.classes)}
        return {label: by_name[label] for label in sorted(labels) if label in by_name}, {}
    try:
        table = pd.read_csv(config.classes, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"CLASSES={config.classes} cannot be read: {error}") from error
    if not {"label", "class_id"} <= set(table.columns):
        raise UserError(
            f"CLASSES={config.classes} needs columns label, class_id;"
            f" it has {', '.join(table.columns)}"
        )
    n_classes = len(network.classes)
    mapping: dict[str, int] = {}
    for label, class_id in zip(table["label"], table["class_id"], strict=True):
        if not class_id.isdecimal() or int(class_id) >= n_classes:
            raise UserError(
                f"CLASSES={config.classes} maps {label!r} to class {class_id!r};"
                f" {network.name} has classes 0 to {n_classes - 1}"
            )
        mapping[label] = int(class_id)
    if labels and not labels & set(mapping):
        raise UserError(
            f"CLASSES={config.classes} names none of the dataset's labels,"
            f" such as {sorted(labels)[0]!r}; it names {sorted(mapping)[0]!r}"
        )
    names = table["name"] if "name" in table else [""] * len(table)
    named = {
        str(mapping[label]): str(name) for label, name in zip(table["label"], names, strict=True)
    }
    return mapping, {class_id: name for class_id, name in named.items() if name}


def _check_k(config: Config, n_images: int, layer: Cut) -> None:
    n_images = min(n_images, config.limit or n_images)
    most = min(layer.channels, n_images * layer.height * layer.width)
    asked = max(config.k) if config.k != "auto" else 1
    if asked > most:
        raise UserError(
            f"K={asked} is more than the data allows: layer {layer.layer} has {layer.channels}"
            f" channels, and {n_images} images have {n_images * layer.height * layer.width}"
            f" positions; K can be at most {most}"
        )


def _check_non_negative(config: Config, dataset: Dataset, layer: Cut) -> None:
    """Refuse ``TRANSFORM=none`` on a layer that is negative on the first images it can read."""
    squares = []
    for image in dataset.images[:N_PROBED]:
        try:
            pixels = decode(find_file(dataset.root, image.path))
        except DecodeError:
            continue  # it is listed as rejected once all images are read
        squares.append(fit_to_square(pixels, layer.network.image_size, config.resize)[0])
    least = float(layer.forward(torch.stack(squares)).V.min()) if squares else 0.0
    if least < 0:
        raise UserError(
            f"layer {layer.layer} has negative activations (least {least:.4g}), which"
            " TRANSFORM=none does not allow; use TRANSFORM=auto"
        )


def _new_record(config: Config, dataset: Dataset, network: Network, layer: Cut) -> dict[str, Any]:
    return {
        "encoding-type": "concordance.run",
        "encoding-version": VERSION,
        "config": config.model_dump(mode="json"),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "machine": {
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
        "git_commit": _git_commit(),
        "weights": {"source": network.weights_source, "sha256": network.weights_sha256},
        "dataset": {
            "name": dataset.name,
            "root": str(dataset.root),
            "n_images": len(dataset.images),
            "fingerprint": dataset.fingerprint(),
            "rejected": [dataclasses.asdict(rejected) for rejected in dataset.rejected],
        },
        "layer": {
            "name": layer.layer,
            "channels": layer.channels,
            "height": layer.height,
            "width": layer.width,
            "centres_y": layer.centres[0].tolist(),
            "centres_x": layer.centres[1].tolist(),
            "head": layer.head_kind,
        },
        "stages": {},
    }


def _check_same(workspace: Workspace, record: dict[str, Any]) -> None:
    """Refuse to go on with a run that was made from something else; say what differs."""
    old = workspace.record
    carried_out = set(Config.model_fields) - set(_decisive(record["config"]))
    pairs = [
        (f"{name.upper()}", old["config"].get(name), record["config"][name])
        for name in record["config"]
        if name not in carried_out
    ]
    for key in ("weights", "dataset", "machine"):
        part = "fingerprint" if key == "dataset" else None
        pairs.append(
            (key, old[key][part] if part else old[key], record[key][part] if part else record[key])
        )
    for name, before, now in pairs:
        if before != now:
            raise UserError(
                f"{workspace.folder} was made with {name}={before}, now it is {now};"
                f" pass another RUN=<folder>, or make clean RUN={workspace.folder} to start over"
            )


def _decisive(config: dict[str, Any]) -> dict[str, Any]:
    from pipeline.config import CARRIED_OUT

    return {name: value for name, value in config.items() if name not in CARRIED_OUT}


def _git_commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return found.stdout.strip() or None


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 2)
