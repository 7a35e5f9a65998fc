"""What ``run.json`` says: a run's configuration, what it was made from, and how far it has come."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from ..config import Config, make_config
from ..errors import UserError, command
from ..models.link import Link
from ..store.encoding import Encoding, read_sealed, seal
from ..system import files

RUN = Encoding("concordance.run", "1.4", oldest="1.0")

CONFIG = "config.toml"

DECIDE_ACTIVATIONS = ("aux_layers", "image_size", "layer", "limit", "model", "precision", "resize")
"""Options on which activations depend, beside weights, images, formats and preprocessing."""


FileName = Annotated[
    str, pydantic.Field(pattern=r"^(config\.toml|activations/images(-[1-9][0-9]*)?\.parquet)$")
]
"""What ``run.json`` vouches for: the configuration, and the listing of each generation."""


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Machine(_Part):
    """What computed the run: the last bits depend on it."""

    threads: int
    instructions: str
    device: str

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.instructions}, {self.device}"


class Weights(_Part):
    """Where the network's weights are from, and their SHA-256."""

    source: str
    sha256: str


class RejectedInput(_Part):
    """An input refused when the dataset was listed."""

    path: str
    reason: str


class DatasetFacts(_Part):
    """The dataset as it was listed; the plug-in `source` opens it again at `root`."""

    name: str
    source: str = "folder"
    root: str
    n_images: int
    fingerprint: str
    rejected: tuple[RejectedInput, ...]


class LayerFacts(_Part):
    """The concepts' layer: its size, and the centres of its cells in input pixels.

    Activations are stored divided by two to the power that `exponents` gives for their layer.
    """

    name: str
    channels: int
    height: int
    width: int
    centres_y: tuple[float, ...]
    centres_x: tuple[float, ...]
    head: str
    exponents: dict[str, int] = pydantic.Field(default_factory=dict)


class ImagesFacts(_Part):
    """How many images the run has, and the digest of their order and shards."""

    n: int
    digest: str


class Change(_Part):
    """A change of a run that was begun: images were added, or its concepts fitted anew.

    Attributes
    ----------
    when : str
        UTC.
    added : int
        Images.
    fitted : int
        Images, the first in working order, that the run's concepts are of since then.
    before : ImagesFacts
        Of the images that the run had.
    limit : int or None
        Its option of that name till then.
    """

    when: str
    added: int = pydantic.Field(ge=0)
    fitted: int = pydantic.Field(ge=1)
    before: ImagesFacts
    limit: int | None


class Preprocessing(_Part):
    """How pixels became the network's input."""

    version: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    crop: float | None = None
    ranges: dict[str, tuple[float, float]] | None = None


class ForwardPass(_Part):
    """How activations were computed: decided once, and the same for all shards."""

    precision: Literal["auto", "fp32", "fp32-folded", "bf16"]
    compiled: bool
    how: str


class StageFacts(pydantic.BaseModel):
    """How a stage went: status, seconds, and whatever it counted."""

    model_config = pydantic.ConfigDict(frozen=True, extra="allow")

    status: Literal["not started", "running", "done", "failed"]
    seconds: float | None = None

    @property
    def counts(self) -> dict[str, Any]:
        """What the stage counted, by name."""
        return dict(self.model_extra or {})


class TreeOf(_Part):
    """The run whose tree the concepts are taken from: its folder, and its bank's SHA-256."""

    run: str
    bank: str


NOT_STARTED = StageFacts(status="not started")


class RunRecord(_Part):
    """Everything that ``run.json`` holds.

    `siblings` are runs at other layers of the same network and images: the names of their folders,
    which lie beside this one, by layer. `tree_of` names a folder relative to the run's own.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    encoding_type: str = pydantic.Field(default=RUN.type, alias="encoding-type")
    encoding_version: str = pydantic.Field(default=RUN.version, alias="encoding-version")
    config: dict[str, Any]
    versions: dict[str, str]
    machine: Machine
    git_commit: str | None
    weights: Weights
    dataset: DatasetFacts
    layer: LayerFacts
    images: ImagesFacts
    preprocessing: Preprocessing
    formats: dict[str, str]
    stages: dict[str, StageFacts] = pydantic.Field(default_factory=dict)
    class_of_label: dict[str, int]
    class_names: dict[str, str]
    link: Link = "softmax"
    files: dict[FileName, str] = pydantic.Field(default_factory=dict)
    forward: ForwardPass | None = None
    siblings: dict[str, str] = pydantic.Field(default_factory=dict)
    history: tuple[Change, ...] = ()
    tree_of: TreeOf | None = None

    @property
    def growth(self) -> tuple[Change, ...]:
        """The changes by which the run was given images: one for each generation but the first."""
        return tuple(each for each in self.history if each.added)

    @property
    def listings(self) -> tuple[str, ...]:
        """Names of the listing's files, one for each generation."""
        return tuple(map(listing_name, range(len(self.growth) + 1)))

    @property
    def n_fitted(self) -> int:
        """Number of images, the first in working order, that the concepts are or will be of."""
        return self.history[-1].fitted if self.history else self.images.n

    def options(self) -> Config:
        """Return the run's configuration; options that are newer than the run have defaults."""
        return make_config(self.config)

    def check(self) -> None:
        """Refuse what does not go together, or can be of no run.

        Raises
        ------
        ValueError
            It says what.
        UserError
            An option is not possible.
        """
        options, layer, seen = self.options(), self.layer, self.preprocessing
        if lost := [name for name in DECIDE_ACTIVATIONS if name not in self.config]:
            raise ValueError(f"config: it has no {lost[0]}")
        if options.image_size is None:
            raise ValueError("config: its image_size is not known")
        if options.layer != layer.name:
            raise ValueError(
                f"config: its layer is {options.layer[:40]!r}, not {layer.name[:40]!r}"
            )
        for axis, n in (("y", layer.height), ("x", layer.width)):
            centres = getattr(layer, f"centres_{axis}")
            rises = all(a < b for a, b in pairwise(centres))
            if n < 1 or len(centres) != n or not rises or not all(map(math.isfinite, centres)):
                raise ValueError(f"layer: {n} cells have centres_{axis} {str(centres)[:60]}")
        if layer.channels < 1 or any(abs(each) > 1_000 for each in layer.exponents.values()):
            raise ValueError(f"layer: {layer.channels} channels, exponents {layer.exponents}")
        if not all(map(math.isfinite, seen.mean + seen.std)) or min(seen.std) <= 0:
            raise ValueError(f"preprocessing: mean {seen.mean}, std {seen.std}")
        for low, high in (seen.ranges or {}).values():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"preprocessing: ranges {low} to {high}")
        if not all(key.isdecimal() for key in self.class_names):
            raise ValueError(f"class_names: {str([*self.class_names])[:60]} are no numbers")
        if "\0" in self.dataset.root:
            raise ValueError(f"dataset: no place is called {self.dataset.root[:60]!r}")
        if not all(map(_is_name, self.siblings.values())):
            raise ValueError(
                f"siblings: {str([*self.siblings.values()])[:60]} are no folders' names"
            )
        if (self.tree_of is None) != (options.at is None):
            raise ValueError("tree_of: a run has one where its config has a number to take, at")
        if self.tree_of is not None and "\0" in self.tree_of.run:
            raise ValueError(f"tree_of: no place is called {self.tree_of.run[:60]!r}")
        if min(self.class_of_label.values(), default=0) < 0:
            raise ValueError("class_of_label: a class is less than 0")
        if self.files and {*self.files} != {CONFIG, *self.listings}:
            raise ValueError(f"files: {str([*self.files])[:100]} are not those of its history")
        self._check_history()

    def _check_history(self) -> None:
        n_after = [*(each.before.n for each in self.history[1:]), self.images.n]
        ends = {self.images.n}
        for change, n in zip(self.history, n_after, strict=False):
            ends.add(change.before.n)
            if change.before.n < 1 or change.before.n + change.added != n:
                raise ValueError(f"history: {change.added} images added to {change.before.n}")
            if change.fitted not in ends | {n}:
                raise ValueError(f"history: concepts of {change.fitted} images")

    def stage(self, name: str) -> StageFacts:
        """Return how a stage went."""
        return self.stages.get(name, NOT_STARTED)

    def with_stage(self, name: str, facts: StageFacts) -> RunRecord:
        """Return the record with other facts of a stage."""
        return self.model_copy(update={"stages": self.stages | {name: facts}})

    def save(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        value = {**self.plain(), **RUN.stamp()}  # what an earlier version wrote is of this one now
        files.write_json(path, seal(RUN, value))

    def plain(self) -> dict[str, Any]:
        """Return the record as JSON holds it."""
        value = self.model_dump(mode="json", by_alias=True, exclude={"forward", "stages"})
        value["stages"] = {
            name: facts.model_dump(mode="json", exclude_none=True)
            for name, facts in self.stages.items()
        }
        if self.forward is not None:
            value["forward"] = self.forward.model_dump(mode="json")
        return value

    @staticmethod
    def load(path: Path) -> RunRecord:
        """Read a record.

        Raises
        ------
        UserError
            It is missing, damaged, or of a version that is not read.
        """
        mend = f"{command('discover', run=path.parent)} mends it"
        says = read_sealed(path, RUN, mend)
        try:
            record = RunRecord.model_validate_json(json.dumps(says))
            record.check()
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"{path} is damaged ({where}: {first['msg']}); {mend}") from error
        except (ValueError, UserError) as error:
            raise UserError(f"{path} is damaged ({error}); {mend}") from error
        return record


def listing_name(generation: int) -> str:
    """Return the file, relative to a run, of the images it was begun with or later given."""
    return f"activations/images{f'-{generation}' if generation else ''}.parquet"


def _is_name(text: str) -> bool:
    """Say whether a text is the plain name of a folder, and so leads nowhere else."""
    return text not in ("", ".", "..") and not set(text) & set("/\\\0")
