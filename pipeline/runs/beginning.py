"""What a run's record says when it begins: options, machine, code, inputs, network and layer."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from ..config import OF_ONE_CALL, Config
from ..images import PREPROCESSING, Dataset, PixelRule, Scaling
from ..models import Cut, Network
from ..models.link import Link
from ..store import FORMATS, Listing
from .record import (
    DatasetFacts,
    ImagesFacts,
    LayerFacts,
    Machine,
    Preprocessing,
    RejectedInput,
    RunRecord,
    Weights,
)

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "h5py", "scikit-learn", "pandas", "pyarrow")


def remembered(config: Config) -> Config:
    """Return what a run remembers: not how one call was carried out."""
    defaults = {name: Config.model_fields[name].default for name in OF_ONE_CALL}
    return config.model_copy(update=defaults)


def new_record(
    config: Config,
    dataset: Dataset,
    network: Network,
    layer: Cut,
    listing: Listing,
    matched: tuple[dict[str, int], dict[str, str]],
    rule: PixelRule,
) -> RunRecord:
    """Return the record of a run that is about to begin; `matched` is what `match_labels` found."""
    return RunRecord(
        config=remembered(config).model_dump(mode="json"),
        versions={"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        machine=Machine(
            threads=torch.get_num_threads(),
            instructions=torch.backends.cpu.get_cpu_capability(),
            device=_device_name(config.device),
        ),
        git_commit=_git_commit(),
        weights=Weights(source=network.weights_source, sha256=network.weights_sha256),
        dataset=DatasetFacts(
            name=dataset.name,
            source=dataset.opener,
            root=dataset.source.where,
            n_images=len(dataset.images),
            fingerprint=dataset.fingerprint(),
            rejected=tuple(RejectedInput(**vars(each)) for each in dataset.rejected),
        ),
        layer=LayerFacts(
            name=layer.layer,
            channels=layer.channels,
            height=layer.height,
            width=layer.width,
            centres_y=tuple(layer.centres[0].tolist()),
            centres_x=tuple(layer.centres[1].tolist()),
            head="pool_linear" if config.head == "probe" else layer.head_kind,
            exponents=layer.exponents,
        ),
        images=ImagesFacts(n=len(listing.frame), digest=listing.digest()),
        preprocessing=_preprocessing(network, config, rule),
        formats={name: encoding.version for name, encoding in FORMATS.items()},
        class_of_label=matched[0],
        class_names=matched[1],
        link=_link(network, config, listing),
    )


def _link(network: Network, config: Config, listing: Listing) -> Link:
    """Return how logits become probabilities; labels of a probe are independent if images have
    several."""
    if config.head != "probe":
        return network.link
    return "sigmoid" if any(len(labels) > 1 for labels in listing.labels) else "softmax"


def _preprocessing(network: Network, config: Config, rule: PixelRule) -> Preprocessing:
    """Return how images are prepared; what earlier versions did always stands as they left it."""
    crop = network.scaling.crop
    return Preprocessing(
        version=PREPROCESSING,
        mean=network.mean,
        std=network.std,
        interpolation=network.scaling.interpolation,
        crop=crop if config.resize == "crop" and crop != Scaling().crop else None,
        ranges=None if rule.ranges is None else dict(rule.ranges),
    )


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
