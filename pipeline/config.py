"""The frozen, validated configuration of a run: what the user asked for, and nothing else."""

from __future__ import annotations

import hashlib
import json
import math
import re
import urllib.parse
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from .errors import UserError, option, suggest
from .plugins import Kind, names

Positive = pydantic.PositiveInt
Scale = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
Keep = Literal["all", "heatmaps", "none"]
Head = Literal["auto", "probe", "none"]
AtlasImages = Literal["copy", "blur", "none"]

SAMPLE = "sample"
"""Name of the bundled dataset and of the network trained on it."""

SIZE = r"(?i)^\d+(\.\d+)?\s*[kmgt]?i?b?$"

MAX_SIDE = 13_377
"""Pixels of a side of the network's input, at most: its square is the largest image there is."""

K_AUTO = (4, 6, 8, 12, 16, 24, 32)
"""The numbers of concepts that ``K=auto`` weighs; those the data cannot hold are left out."""

K_FURTHER = (48, 64, 96, 128)
"""Those that it goes on to where the last of these is best, while each is better than before."""

K_TREE = (8, 32, 128, 512)
"""Those of which ``K=tree`` takes the largest that the images carry."""


class Config(pydantic.BaseModel):
    """Everything that decides the outcome of a run, and how it is carried out.

    Each field is an option of the commands (``IMAGE_SIZE=`` on the command line of make,
    ``--image-size`` of a stage); its description is its help text.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", validate_default=True)

    dataset: str = pydantic.Field(
        SAMPLE,
        description="folder of images, table with a column of paths, Parquet, .tar or .zip, names"
        " with wildcards, a URL of any of these, or <source>:<where>, as hf:<owner>/<name> or"
        " torchvision:CIFAR10",
    )
    labels: Literal["auto", "top", "parent", "none", "file"] = pydantic.Field(
        "auto",
        description="what labels the images of a folder: auto, top or parent (a folder), file"
        " (labels.csv, metadata.csv), none",
    )
    split: str | None = pydantic.Field(
        None, description="the only part of the dataset to take, as val"
    )
    model: str = pydantic.Field(
        "auto",
        description="torchvision's name, timm:<name>, hf:<name>, file.py:<function>, a .pt2 file",
    )
    weights: Path | None = pydantic.Field(
        None, description="weights file (.safetensors, .pt); without it torchvision's own"
    )
    weights_key: str | None = pydantic.Field(
        None, description="key of the weights file under which the weights are, as state_dict_ema"
    )
    layer: str = pydantic.Field("auto", description="layer whose concepts are sought")
    k: tuple[Positive, ...] | Literal["auto", "tree"] = pydantic.Field(
        "auto",
        description="number of concepts: auto, one number, several to choose from, or tree (as many"
        " as the images carry, up to 512)",
    )
    at: Positive | None = pydantic.Field(
        None,
        description="with FROM: so many concepts of that run's tree, in place of a fit",
    )
    seed: int = pydantic.Field(0, ge=0, lt=2**32, description="seed of everything random")
    device: str = pydantic.Field("auto", description="auto, cpu, cuda or cuda:<n>")
    precision: Literal["auto", "fp32", "bf16"] = pydantic.Field(
        "auto", description="arithmetic of the forward pass: auto, fp32 (exact) or bf16"
    )
    image_size: int | str | None = pydantic.Field(
        None,
        description="side of the network's input, or width x height as 320x240, in pixels;"
        " default: the model's own",
    )
    resize: Literal["squash", "crop", "pad"] = pydantic.Field(
        "squash", description="how an image gets the input's size: squash, crop or pad"
    )
    margin: pydantic.NonNegativeInt | Literal["auto"] = pydantic.Field(
        0,
        description="pixels that images are mirrored beyond their borders, so that concepts do not"
        " see the network's padding: 0, a multiple of the distance between the layer's cells, or"
        " auto",
    )
    interpolation: Literal["bilinear", "bicubic"] | None = pydantic.Field(
        None, description="how images are scaled: bilinear or bicubic; default: the model's own"
    )
    levels: tuple[float, float] | None = pydantic.Field(
        None,
        description="values of images of more than 8 bits that become black and white, as 0,4095;"
        " default: the 0.1st and 99.9th percentile of a sample of the dataset",
    )
    on_damage: Literal["reject", "keep"] = pydantic.Field(
        "reject", description="images whose decoder meets damage and goes on: reject or keep"
    )
    mean: tuple[float, float, float] | None = pydantic.Field(
        None, description="mean of images in [0, 1], one number or three; default: the model's own"
    )
    std: tuple[Scale, Scale, Scale] | None = pydantic.Field(
        None, description="standard deviation of the same; default: the model's own"
    )
    class_names: Path | None = pydantic.Field(
        None, description="file with the names of the model's classes, a line each or JSON"
    )
    head: Head = pydantic.Field(
        "auto",
        description="what names classes: auto (the model's own head), probe (fitted on the labels)"
        " or none",
    )
    aux_layers: tuple[str, ...] = pydantic.Field(
        (), description="further layers to store, for localization only; comma-separated"
    )
    classes: Path | None = pydantic.Field(
        None,
        description="CSV with columns label, class_id and, to be shown, name: the class of each"
        " label",
    )
    transform: Literal["auto", "none", "relu", "split", "shift"] = pydantic.Field(
        "auto", description="how signed activations become non-negative"
    )
    balance: Literal["none", "image", "class"] = pydantic.Field(
        "none", description="weigh positions equally, or every image, or every class"
    )
    objective: Literal["energy", "faithful"] = pydantic.Field(
        "energy",
        description="what concepts are fitted to: energy of the activations, or faithful: also to"
        " what the network says of each image",
    )
    active: Positive | Literal["auto", "none"] = pydantic.Field(
        "auto",
        description="concepts that a position has at most: auto (any of few, 16 of more than 128),"
        " a number, or none (no bound)",
    )
    plugins: tuple[str, ...] = pydantic.Field(
        (), description="installed plug-ins that add table columns and atlas pages; comma-separated"
    )
    namer: str = pydantic.Field(
        "words",
        description="what names concepts: words (of labels, place and look), a plug-in, none",
    )
    workers: int = pydantic.Field(
        0, ge=0, description="processes of this machine that share the work; 0: this one alone"
    )
    scheduler: str | None = pydantic.Field(
        None, description="address of a running Dask scheduler, tls://host:port or tcp://host:port"
    )
    shard: str | None = pydantic.Field(
        None, pattern=r"^\d+/\d+$", description="extract only part i of n, as i/n (from 0)"
    )
    refit: Literal["no", "yes"] = pydantic.Field(
        "no",
        description="of a run that images were added to: yes fits its concepts anew to all of them;"
        " no finds those it has in the new images",
    )
    limit: Positive | None = pydantic.Field(None, description="use at most so many images")
    max_rejects: int | None = pydantic.Field(
        None, ge=0, description="stop once more images than this could not be read"
    )
    keep: Keep = pydantic.Field(
        "all", description="what stays on disk: all, heatmaps (no activations), none (tables only)"
    )
    atlas_images: AtlasImages = pydantic.Field(
        "copy",
        description="pictures in the atlas: copy (of the images shown), blur, or none (heatmaps)",
    )
    machine: Literal["same", "any"] = pydantic.Field(
        "same", description="resume on a machine that computes alike only, or on any"
    )
    max_disk: str | None = pydantic.Field(
        None, pattern=SIZE, description="most disk to use, as 20GB"
    )
    max_memory: str | None = pydantic.Field(
        None, pattern=SIZE, description="most memory to use, as 8GB; default: what is free"
    )

    @pydantic.field_validator("refit", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        return ("no", "yes")[value] if isinstance(value, bool) else value

    @pydantic.field_validator("k", mode="before")
    @classmethod
    def _split_numbers(cls, value: Any) -> Any:
        if isinstance(value, int):
            return (value,)
        if isinstance(value, str) and value not in ("auto", "tree"):
            return tuple(part.strip() for part in value.split(","))
        return value

    @pydantic.field_validator("image_size", mode="before")
    @classmethod
    def _check_size(cls, value: Any) -> Any:
        if value is None:
            return value
        if isinstance(value, list | tuple):  # height and width, as arrays have them
            value = "x".join(map(str, reversed(value)))
        found = re.fullmatch(r"(\d{1,9})(?:\s*[x×]\s*(\d{1,9}))?", str(value).strip().lower())
        if found is None:
            raise ValueError("it is no size")
        width, height = int(found[1]), int(found[2] or found[1])
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise ValueError(f"sides are from 1 to {MAX_SIDE} pixels")
        return size_option((height, width))

    @pydantic.field_validator("mean", "std", mode="before")
    @classmethod
    def _of_all_colours(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if isinstance(value, int | float):
            value = [value]
        return list(value) * 3 if isinstance(value, list | tuple) and len(value) == 1 else value

    @pydantic.field_validator("levels", mode="before")
    @classmethod
    def _split_levels(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @pydantic.field_validator("levels")
    @classmethod
    def _check_levels(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not (all(map(math.isfinite, value)) and value[0] < value[1]):
            raise ValueError("black is less than white, and both are numbers")
        return value

    @pydantic.field_validator("aux_layers", "plugins", mode="before")
    @classmethod
    def _split_names(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @pydantic.field_validator("scheduler")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is not None and not _is_address(value):
            raise ValueError("it is not the address of a scheduler")
        return value

    @pydantic.field_validator("shard")
    @classmethod
    def _check_part(cls, value: str | None) -> str | None:
        if value is not None and int(value.split("/")[0]) >= int(value.split("/")[1]):
            raise ValueError("part i of n needs 0 <= i < n")
        return value

    def digest(self) -> str:
        """Hash the options that decide the outcome (8 hexadecimal digits)."""
        decisive = self.model_dump(mode="json", exclude=set(CARRIED_OUT))
        for name in LATER:
            if decisive[name] == Config.model_fields[name].default:
                del decisive[name]
        text = json.dumps(decisive, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def plugins_of(self, kind: Kind) -> list[str]:
        """Return the plug-ins of a kind that the run takes: columns or pages."""
        known = names(kind)
        return [name for name in self.plugins if name in known]

    @property
    def input_size(self) -> int | tuple[int, int] | None:
        """Side of the network's square input, or its height and width; None: the network's own."""
        if not isinstance(self.image_size, str):
            return self.image_size
        width, height = map(int, self.image_size.split("x"))
        return height, width

    def max_disk_bytes(self) -> float:
        """Return the most bytes the run may take; infinite where nothing was said."""
        return _bytes(self.max_disk)

    def max_memory_bytes(self) -> float:
        """Return the most bytes of memory the job may take; infinite where nothing was said."""
        return _bytes(self.max_memory)


def size_option(size: int | tuple[int, int]) -> int | str:
    """Return the size of an input, a side or height and width, as ``IMAGE_SIZE`` has it."""
    if isinstance(size, int):
        return size
    height, width = size
    return height if height == width else f"{width}x{height}"


def _bytes(size: str | None) -> float:
    if size is None:
        return math.inf
    found = re.match(r"([\d.]+)\s*([kmgt]?)(i?)", size.lower())
    assert found is not None  # it was checked when the configuration was made
    number, unit, binary = found.groups()
    step = 1024.0 if binary else 1000.0
    return float(number) * step ** ("kmgt".index(unit) + 1 if unit else 0)


CARRIED_OUT = (
    "workers", "scheduler", "shard", "machine", "max_rejects", "keep", "max_disk", "max_memory",
    "device", "atlas_images", "refit", "namer",
)  # fmt: skip
"""Options that say how the work is done; the outcome does not depend on them."""

LATER = (
    "interpolation", "mean", "std", "class_names", "weights_key", "head", "levels", "on_damage",
    "labels", "split", "margin", "objective",
    "active", "at",
)  # fmt: skip
"""Options that came later: where they are not given, runs have the names they had."""

OF_A_NETWORK = (
    "image_size", "seed", "mean", "std", "interpolation", "class_names", "weights_key", "head",
)  # fmt: skip
"""Options by which a network is loaded, beside its name and weights."""

OF_AN_IMAGE = (
    "model", "weights", "layer", "k", "seed", "image_size", "resize", "interpolation", "mean",
    "std", "class_names", "weights_key", "levels", "on_damage", "margin",
)  # fmt: skip
"""Options of an image that is explained by itself."""

OF_ONE_CALL = ("workers", "scheduler", "shard", "machine", "refit")
"""Of these, the ones that a run does not remember: another call may come from another place."""

SCHEMES = ("tls", "tcp")


def ks_of(k: tuple[int, ...] | Literal["auto", "tree"]) -> tuple[int, ...]:
    """Return the numbers of concepts that may be fitted."""
    if isinstance(k, tuple):
        return k
    return (*K_AUTO, *K_FURTHER) if k == "auto" else K_TREE[-1:]


def is_given(value: object) -> bool:
    """Say whether an option has a value: neither None nor an empty text."""
    return value is not None and not (isinstance(value, str) and not value)


def make_config(options: dict[str, Any]) -> Config:
    """Validate options as given by a user.

    Parameters
    ----------
    options : dict
        Option names (as the fields of `Config`) to values, strings or typed; an empty string
        means that the option was not given.

    Raises
    ------
    UserError
        An unknown option, or a value that an option does not take.
    """
    given = {name: value for name, value in options.items() if is_given(value)}
    for name in given:
        if name not in Config.model_fields:
            known = [option(each) for each in Config.model_fields]
            near = suggest(option(name), known)
            raise UserError(
                f"unknown option {option(name)}; {near or 'options: ' + ', '.join(known)}"
            )
        if isinstance(given[name], bool) and name != "refit":
            raise UserError(f"{option(name, given[name])} is not possible: it is no yes or no")
        if any("\ud800" <= character <= "\udfff" for character in str(given[name])):
            raise UserError(f"{option(name)}={given[name]!a} is not UTF-8 text; rename it")
    try:
        return Config(**given)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        takes = Config.model_fields[name].description
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{option(name, options[name])} is not possible ({reason}); it takes: {takes}"
        ) from error


def _is_address(text: str) -> bool:
    """Say whether a text is a scheduler's address: a scheme, a host and a port, nothing else."""
    try:
        parts = urllib.parse.urlsplit(text)
        found = (parts.scheme in SCHEMES, parts.hostname, parts.port)
    except ValueError:  # a port that is none
        return False
    return all(found) and text == f"{parts.scheme}://{parts.netloc}" and "@" not in text
