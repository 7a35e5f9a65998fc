"""Checking everything a user gave before any work starts, and making the run's folder."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pipeline import files
from pipeline.config import OF_ONE_CALL, SAMPLE, Config, dump_toml
from pipeline.errors import UserError
from pipeline.images import PREPROCESSING, Dataset, list_dataset
from pipeline.jobs import objects
from pipeline.jobs.estimate import bytes_per_image, check_fits, estimate, probe
from pipeline.jobs.identity import check_same, check_same_images
from pipeline.jobs.labels import match_labels
from pipeline.jobs.workspace import MEMBERS, Workspace
from pipeline.models import Cut, Network, choose_layer, cut, load_network
from pipeline.models.cut import Forward
from pipeline.progress import say
from pipeline.sample import write_sample
from pipeline.store import FORMATS, Listing, make_listing

VERSION = "1.0"
CONFIG, LISTING = "config.toml", "activations/images.parquet"
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "h5py", "scikit-learn", "pandas", "pyarrow")
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
    class_of_label, class_names = match_labels(config, dataset, network)
    config = _resolve(config, network)
    layer = cut(network, config.layer, aux_layers=config.aux_layers)
    n_images = min(len(dataset.images), config.limit or len(dataset.images))
    _check_k(config, n_images, layer)
    # The first images of a listing depend on the seed alone, not on how many share a shard.
    listing = make_listing(dataset, seed=config.seed, limit=config.limit, bytes_per_image=1)
    probed = probe(dataset, listing, layer, config)
    _check_non_negative(config, layer, probed)
    listing = make_listing(
        dataset,
        seed=config.seed,
        limit=config.limit,
        bytes_per_image=bytes_per_image(probed, config),
    )
    name = "-".join((dataset.name, config.model, config.layer, config.digest()))
    workspace = Workspace(run or Path("runs") / name, config)
    record = _new_record(config, dataset, network, layer, listing)
    record |= {"class_of_label": class_of_label, "class_names": class_names}
    folder = workspace.folder
    _check_folder(folder)
    if not workspace.is_finished():
        check_fits(estimate(probed, layer, len(listing.frame), config), folder, config)
    files.check_writable(folder)
    with workspace.writing(), workspace.alone("prepare"):
        before = workspace.saved()
        if before is None:
            _save(workspace, record | _recover(workspace, listing), listing)
        else:
            check_same(workspace, before, record)
            _update(workspace, before, record, listing)
    workspace.__dict__.update(network=network, cut=layer)  # loaded already
    return workspace


def _recover(workspace: Workspace, listing: Listing) -> dict[str, Any]:
    """Return what ``run.json`` said of the forward pass, where it was lost but shards were not."""
    workspace.__dict__["listing"] = listing
    store = workspace.activations
    for index in range(store.n_shards):
        if (found := store.record(index)) is not None and "forward" in found.made_from:
            return {"forward": json.loads(found.made_from["forward"])}
    return {}


def _update(
    workspace: Workspace, before: dict[str, Any], record: dict[str, Any], listing: Listing
) -> None:
    """Go on with a run: check its images, and note where things lie and how to work now."""
    path = workspace.folder / LISTING
    is_whole = _is_as_written(workspace.folder, before)
    touched = True
    if is_whole[LISTING]:
        root, old = Path(record["dataset"]["root"]), Listing.load(path)
        # Shards that are there stay as they were cut, whatever size new runs give theirs.
        listing = dataclasses.replace(listing, images_per_shard=old.images_per_shard)
        touched = check_same_images(workspace, old, listing, root)
    elif before["images"] != record["images"]:
        raise UserError(
            f"{path} is damaged, and the dataset is no longer as it was; pass another RUN=<folder>,"
            f" or make clean RUN={workspace.folder} to start over"
        )
    # What was refused when the run was begun stays in its table.
    dataset = record["dataset"] | {"rejected": before["dataset"]["rejected"]}
    config = {**before["config"], **_remembered(workspace.config).model_dump(mode="json")}
    now = before | {"dataset": dataset, "config": config}
    if touched or now != before or not all(is_whole.values()):
        _save(workspace, now, listing)


def _save(workspace: Workspace, record: dict[str, Any], listing: Listing) -> None:
    """Write what a run starts from; ``run.json`` last, for it vouches for the others."""
    folder = workspace.folder
    listing.save(folder / LISTING)
    files.write_text(folder / CONFIG, dump_toml(_remembered(workspace.config)))
    sums = {name: files.sha256(folder / name) for name in (CONFIG, LISTING)}
    files.write_json(folder / "run.json", record | {"files": sums})
    workspace.__dict__.pop("record", None)
    workspace.__dict__.pop("listing", None)


def _is_as_written(folder: Path, record: dict[str, Any]) -> dict[str, bool]:
    return {
        name: (folder / name).is_file() and files.sha256(folder / name) == digest
        for name, digest in record["files"].items()
    }


def _remembered(config: Config) -> Config:
    """Return what a run remembers: not how one call was carried out."""
    defaults = {name: Config.model_fields[name].default for name in OF_ONE_CALL}
    return config.model_copy(update=defaults)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds other things than a run: they could be taken for its own."""
    if not folder.is_dir() or (folder / "run.json").exists():
        return
    others = [path.name for path in folder.iterdir() if path.name not in MEMBERS]
    others = [name for name in others if files.TEMPORARY not in name]
    if others:
        raise UserError(
            f"RUN={folder} holds other files, such as {sorted(others)[0]!r}; name a new folder"
        )


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


def _check_non_negative(config: Config, layer: Cut, probed: Forward) -> None:
    """Refuse ``TRANSFORM=none`` on a layer that is negative on the first images."""
    least = float(probed.V.min())
    if config.transform == "none" and least < 0:
        raise UserError(
            f"layer {layer.layer} has negative activations (least {least:.4g}), which"
            " TRANSFORM=none does not allow; use TRANSFORM=auto"
        )


def _new_record(
    config: Config, dataset: Dataset, network: Network, layer: Cut, listing: Listing
) -> dict[str, Any]:
    return {
        "encoding-type": "concordance.run",
        "encoding-version": VERSION,
        "config": _remembered(config).model_dump(mode="json"),
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "machine": {
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "device": _device_name(config.device),
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
        "images": {"n": len(listing.frame), "digest": listing.digest()},
        "preprocessing": {
            "version": PREPROCESSING,
            "mean": list(network.mean),
            "std": list(network.std),
        },
        "formats": FORMATS | {"objects": objects.VERSION},
        "stages": {},
    }


def _device_name(device: str) -> str:
    """Name what computes: rounding differs between processors and graphics cards."""
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    return torch.cuda.get_device_name(None if device == "auto" else device)


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
