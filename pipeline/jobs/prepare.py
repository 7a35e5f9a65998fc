"""Checking everything a user gave before any work starts, and making the run's folder."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline import files
from pipeline.config import CARRIED_OUT, SAMPLE, Config, dump_toml
from pipeline.errors import UserError
from pipeline.images import Dataset, DecodeError, decode, find_file, fit_to_square, list_dataset
from pipeline.jobs.workspace import Workspace
from pipeline.models import Cut, Network, choose_layer, cut, load_network
from pipeline.progress import say
from pipeline.sample import write_sample
from pipeline.store import make_listing

VERSION = "1.0"
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "h5py", "scikit-learn", "pandas", "pyarrow")
N_PROBED = 4
SAMPLE_FOLDER = Path(__file__).parents[2] / "data" / "sample"


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
    _check_device(config.device)
    network = load_network(_model(config), config.weights, image_size=config.image_size)
    class_of_label, class_names = _match_labels(config, dataset, network)
    config = _resolve(config, network)
    layer = cut(network, config.layer, aux_layers=config.aux_layers)
    n_images = min(len(dataset.images), config.limit or len(dataset.images))
    _check_k(config, n_images, layer)
    if config.transform == "none":
        _check_non_negative(config, dataset, layer)
    name = "-".join((dataset.name, config.model, config.layer, config.digest()))
    workspace = Workspace(run or Path("runs") / name, config)
    record = _new_record(config, dataset, network, layer)
    record |= {"class_of_label": class_of_label, "class_names": class_names}
    if (workspace.folder / "run.json").exists():
        _check_same(workspace, record)
    else:
        _make_folder(workspace, record, dataset, layer)
    workspace.__dict__.update(network=network, cut=layer)  # loaded already
    return workspace


def _model(config: Config) -> str:
    if config.model != "auto":
        return config.model
    return SAMPLE if config.dataset == SAMPLE else "resnet50"


def _resolve(config: Config, network: Network) -> Config:
    """Put in place of ``auto`` and relative paths what they come to."""
    return config.model_copy(
        update={
            "model": network.name,
            "layer": choose_layer(network, config.layer),
            "image_size": network.image_size,
            "weights": _absolute(config.weights, Path("random")),
            "classes": _absolute(config.classes),
            "dataset": str(_absolute(Path(config.dataset), Path(SAMPLE))),
        }
    )


def _make_folder(
    workspace: Workspace, record: dict[str, Any], dataset: Dataset, layer: Cut
) -> None:
    """Write what a run starts from, if there is room for what will follow."""
    config, folder = workspace.config, workspace.folder
    files.check_writable(folder)
    width = 4 if config.precision == "fp32" else 2
    per_image = width * (layer.channels * layer.height * layer.width)
    listing = make_listing(dataset, seed=config.seed, limit=config.limit, bytes_per_image=per_image)
    _check_disk(folder, per_image * len(listing.frame), config)
    listing.save(folder / "activations" / "images.parquet")
    files.write_text(folder / "config.toml", dump_toml(config))
    files.write_json(folder / "run.json", record)


def _check_disk(folder: Path, n_bytes: int, config: Config) -> None:
    """Refuse a run whose activations may not fit; compression is not counted on."""
    free = shutil.disk_usage(folder).free
    most = config.max_disk_bytes()
    if n_bytes > min(free, most):
        limit = f"{free / 1e9:.1f} GB are free" if free < most else f"MAX_DISK={config.max_disk}"
        raise UserError(
            f"the activations may take up to {n_bytes / 1e9:.1f} GB in {folder}, but {limit};"
            " pass LIMIT=<images>, a LAYER with a smaller map, or RUN=<folder on a larger disk>"
        )


def _absolute(path: Path | None, *words: Path) -> Path | None:
    """Make a path absolute, so that the run is found again from elsewhere; words stay."""
    return path if path is None or path in words else path.resolve()


def _find_dataset(config: Config) -> Dataset:
    if config.dataset == SAMPLE and not Path(SAMPLE).exists():
        if not SAMPLE_FOLDER.exists():
            say(f"sample     rendering the bundled sample into {SAMPLE_FOLDER} (once)")
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
    for name, before, now in zip(
        _identity(record),
        _identity(workspace.record).values(),
        _identity(record).values(),
        strict=True,
    ):
        if before != now:
            raise UserError(
                f"{workspace.folder} was made with {name}={before}, now it is {now};"
                f" pass another RUN=<folder>, or make clean RUN={workspace.folder} to start over"
            )


def _identity(record: dict[str, Any]) -> dict[str, Any]:
    """Return what must be equal for a run to be resumed, by the name a user knows it by."""
    options = {
        name.upper(): value for name, value in record["config"].items() if name not in CARRIED_OUT
    }
    return options | {
        "weights of SHA-256": record["weights"]["sha256"],
        "images of fingerprint": record["dataset"]["fingerprint"],
        "machine": record["machine"],
    }


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
