"""What the stages of a run share: network, listing, shards, bank, what the head says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..config import make_config
from ..config_file import load_toml
from ..errors import UserError, command
from ..images import DatasetSource, Grid, PixelRule, open_dataset, unit_hash
from ..models import Cut, Network, configured, consent, cut
from ..models.head import pool_linear
from ..models.runtime import pick_device
from ..store import (
    ACTIVATIONS,
    HEATMAPS,
    Bank,
    Classification,
    Listing,
    Probe,
    ShardStore,
    check_whole,
    combine,
    n_sampled,
    read_bank,
    read_classification,
    read_probe,
    read_record,
)
from ..store.records import check_sha256
from .duplicates import Duplicates, find_duplicates, settled
from .folder import RunFolder
from .record import DECIDE_ACTIVATIONS, ImagesFacts
from .stages import MAKER, check_folders

OF_EARLIER: tuple[tuple[str, object], ...] = (
    ("interpolation", "bilinear"),
    ("crop", None),
    ("ranges", None),
    ("ranges", {}),
)
"""What is left out of digests: earlier versions knew no other way, and did not record it."""


OF_THE_PROBE = ("probe", "cut", "class_names", "class_of_label")
"""What goes by the probe, which is made with the bank."""


FOLLOWS = ("fitted", "_inputs_digests")
"""What is worked out of the others."""


@dataclass(frozen=True)
class Workspace(RunFolder):
    """One run, and what its stages share."""

    @staticmethod
    def at(folder: Path) -> Workspace:
        """Return a folder as a run of any configuration, to look at it or to remove it."""
        check_folders(folder)
        return Workspace(folder, make_config({}))

    @staticmethod
    def open(folder: Path) -> Workspace:
        """Open an existing run.

        Raises
        ------
        UserError
            `folder` is not a run.
        """
        # What the run's record says is sealed; it is in a file of its own for when that is lost.
        saved = Workspace.at(folder).saved()
        return Workspace(
            folder, load_toml(folder / "config.toml") if saved is None else saved.options()
        )

    def reload(self, *names: str) -> None:
        """Forget what was read of ``record``, ``listing``, ``bank``: it is read when asked for."""
        more = OF_THE_PROBE if "bank" in names else ()
        super().reload(*names, *FOLLOWS, *more, *(("duplicates",) if "images" in names else ()))

    def hold(self, **loaded: Network | Cut | Listing) -> None:
        """Take ``network``, ``trunk`` or ``listing``, which are loaded already, as they are."""
        self.__dict__.update(loaded)

    @cached_property
    def fitted(self) -> Workspace:
        """The run without the images that it was given after its concepts were fitted."""
        if self.n_fitted == len(self.listing.frame):
            return self
        found = Workspace(self.folder, self.config)
        found.hold(
            listing=self.listing.first(self.n_fitted), network=self.network, trunk=self.trunk
        )
        return found

    @property
    def n_fitted(self) -> int:
        """Number of images, the first in working order, that the concepts are or will be of."""
        n, history = len(self.listing.frame), self.record.history
        return min(n, history[-1].fitted) if history else n

    @property
    def n_fitted_shards(self) -> int:
        """Number of shards that these are in."""
        return self.listing.first(self.n_fitted).n_shards

    def inputs_digest(self, shard: int) -> str:
        """Digest all that the activations of a shard depend on; ``forward`` says how they came.

        Images that the run was given later, and what they changed of its options, are no part of
        it.
        """
        return self._inputs_digests[self.listing.generation_of(shard)]

    @cached_property
    def _inputs_digests(self) -> list[str]:
        """What `inputs_digest` gives for the shards of each generation."""
        record = self.record
        was = [(each.before, each.limit) for each in record.growth]
        was.append((record.images, record.config["limit"]))
        return [self._inputs_digest(*each) for each in was]

    def _inputs_digest(self, images: ImagesFacts, limit: int | None) -> str:
        record = self.record.plain()
        options = {name: record["config"][name] for name in DECIDE_ACTIVATIONS} | {"limit": limit}
        preprocessing = {
            name: value
            for name, value in record["preprocessing"].items()
            if (name, value) not in OF_EARLIER
        }
        parts = [options, record["weights"]["sha256"], images.model_dump(), preprocessing]
        if margin := record["config"].get("margin"):
            parts.append({"margin": margin})
        if exponents := record["layer"]["exponents"]:
            parts.append(exponents)
        if self.config.head != "auto":  # the network's own answers are not kept then
            parts.append({"head": "none"})
        return combine(json.dumps(part, sort_keys=True) for part in parts)

    @cached_property
    def device(self) -> str:
        """What to compute on: cpu, cuda or cuda:<n>."""
        return pick_device(self.config.device)

    @cached_property
    def network(self) -> Network:
        """The network with its weights."""
        consent.check(self.config.model)
        return configured(self.config)

    def logits(self, V: torch.Tensor, stored: torch.Tensor) -> torch.Tensor:
        """Return the run's answer to images: as extraction kept it, or the probe's.

        Parameters
        ----------
        V : Tensor
            float32 (n, h, w, channels), their activations.
        stored : Tensor
            float32 (n, classes), what extraction kept.
        """
        linear = self.cut.linear
        return pool_linear(V, linear) if self.cut.is_probed and linear is not None else stored

    @cached_property
    def cut(self) -> Cut:
        """The network cut at the run's layer, with the run's head: a probe under ``HEAD=probe``.

        Raises
        ------
        UserError
            As of `trunk`; or there is no probe yet.
        """
        if self.config.head != "probe":
            return self.trunk
        linear = torch.from_numpy(self.probe.weight), torch.from_numpy(self.probe.bias)
        return self.trunk.with_head(linear, self.record.link)

    @cached_property
    def trunk(self) -> Cut:
        """The network cut at the run's layer, as activations are made by it.

        Raises
        ------
        UserError
            The network cannot be had, or its layer is not as ``run.json`` says.
        """
        made = cut(self.network, self.config.layer, aux_layers=self.config.aux_layers)
        layer = self.record.layer
        said, found = ((each.channels, each.height, each.width) for each in (layer, made))
        if said != found:
            raise UserError(
                f"{self.record_path} says that layer {layer.name} has {said} channels, rows and"
                f" columns; that of the network {self.config.model} has {found}"
            )
        made.rescale(layer.exponents)
        made.link = self.record.link
        return made

    @cached_property
    def listing(self) -> Listing:
        """The images of the run in working order."""
        mend = f"{command('discover', run=self.folder)} mends it"
        generations = []
        for name in self.record.listings:
            check_sha256(self.folder / name, partial(self.record.files.get, name), mend)
            generations.append(Listing.load(self.folder / name))
        try:
            return Listing.join(generations)
        except ValueError as error:
            raise UserError(f"{self.folder / name} is damaged ({error}); {mend}") from error

    @cached_property
    def images(self) -> pd.DataFrame:
        """The rows of the listing whose images could be read, a random sample from the first on.

        Their split is settled here, once for all: see `runs.duplicates.settled`.
        """
        return self._mixed(settled(self.listing.frame, self.duplicates, self.n_fitted))

    def _mixed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Bring images of several generations, each a random sample in order, to be one."""
        if len(self.listing.starts) == 1:
            return frame
        key = [unit_hash(each, self.config.seed, "order") for each in frame["image_id"].tolist()]
        return frame.iloc[np.argsort(key, kind="stable")]

    def sample(self, split: str, n: int) -> frozenset[int]:
        """Return the images of a split from which n positions are drawn: at random, of all ages."""
        frame, layer = self.images, self.record.layer
        n_images = n_sampled(n, layer.height * layer.width)
        return frozenset(map(int, frame["image_id"][frame["split"] == split].head(n_images)))

    @cached_property
    def duplicates(self) -> Duplicates:
        """Which of these images are copies or near-duplicates of others, in the listing's order."""
        return find_duplicates(self.listing, self._store_of)

    def _store_of(self, shard: int) -> ShardStore:
        """Return the shards in which one is there: activations need not be kept."""
        return self.activations if self.activations.is_there(shard) else self.heatmaps

    def ids(self, split: str) -> frozenset[int]:
        """Ids of the images that could be read and are ``fit``, ``heldout`` or ``copy``."""
        frame = self.images
        return frozenset(map(int, frame["image_id"][frame["split"] == split]))

    @property
    def distinct_ids(self) -> frozenset[int]:
        """Ids of the images that count: all that could be read but for copies."""
        return self.ids("fit") | self.ids("heldout")

    @cached_property
    def bank(self) -> Bank:
        """The concept bank."""
        sizes = {"channels": self.record.layer.channels}
        return read_bank(self.whole("bank", "bank.h5"), sizes)

    @property
    def classification(self) -> Classification:
        """What the head says of the concepts."""
        path = self.whole("classes", "classes.h5")
        return read_classification(path, {"k": self.bank.k} | self._sizes(answered=True))

    @cached_property
    def probe(self) -> Probe:
        """The head that was fitted on the labels, under ``HEAD=probe``."""
        sizes = {"channels": self.record.layer.channels}
        return read_probe(self.whole("bank", "probe.h5"), sizes)

    @property
    def activations(self) -> ShardStore:
        """Shards of activations."""
        folder = self.folder / "activations"
        return ShardStore(folder, ACTIVATIONS, self.listing.n_shards, self._sizes, self.listing.ids)

    @property
    def heatmaps(self) -> ShardStore:
        """Shards of heatmaps."""
        folder = self.folder / "heatmaps"
        return ShardStore(
            folder, HEATMAPS, self.listing.n_shards, self._heatmap_sizes, self.listing.ids
        )

    def _sizes(self, *, answered: bool = False) -> dict[str, int]:
        """Lengths of axes, as of `store.contents`; those of the network, where it is loaded.

        ``answered`` is what was made with the run's head, which may not be the network's.
        """
        layer = self.record.layer
        sizes = {"h": layer.height, "w": layer.width, "channels": layer.channels}
        if answered and self.config.head == "probe":
            if (self.folder / "bank" / "probe.h5").exists():
                sizes["classes"] = len(self.class_names)
        elif "network" in vars(self):
            sizes["classes"] = len(self.network.classes)
        if "trunk" in vars(self):
            for name in self.trunk.aux_layers:
                shape = self.trunk.shapes[f"aux/{name}"]
                sizes |= {f"aux/{name} {place}": n for place, n in enumerate(shape, 1)}
        return sizes

    def _heatmap_sizes(self) -> dict[str, int]:
        is_there = (self.folder / "bank" / "bank.h5").exists()
        return self._sizes(answered=True) | ({"k": self.bank.k} if is_there else {})

    @cached_property
    def grid(self) -> Grid:
        """Where the layer's cells are in the network's input."""
        layer = self.record.layer
        size = self.config.input_size
        assert size is not None
        return Grid(np.array(layer.centres_y), np.array(layer.centres_x), size)

    @property
    def classes_path(self) -> Path:
        """What the head says of the concepts."""
        return self.folder / "bank" / "classes.h5"

    @property
    def objects_path(self) -> Path:
        """What is object in the run's images."""
        return self.folder / "bank" / "objects.h5"

    @property
    def suspects_path(self) -> Path:
        """Which concepts mislead the network."""
        return self.folder / "bank" / "suspects.json"

    def table_path(self, name: str) -> Path:
        """Return the file of a table."""
        return self.folder / "tables" / f"{name}.parquet"

    def whole(self, product: str, name: str) -> Path:
        """Return a file of a product, to be read: it is compared with its record first.

        Raises
        ------
        UserError
            It holds something else than was written.
        """
        stage = MAKER[product]
        path = self.folder / stage.folder / name
        mend = f"{command('discover', run=self.folder)} makes it again"
        check_whole(path, lambda: read_record(stage.record_path(self.folder), stage.makes), mend)
        return path

    @cached_property
    def source(self) -> DatasetSource:
        """Where the run's images come from."""
        return open_dataset(self.record.dataset.source, self.record.dataset.root)

    @cached_property
    def pixel_rule(self) -> PixelRule:
        """How the run reads pixels."""
        return PixelRule(self.config.on_damage, self.record.preprocessing.ranges)

    @cached_property
    def class_of_label(self) -> dict[str, int]:
        """The class of each dataset label that has one; of a probe, each label is a class."""
        if self.config.head == "probe":
            return {label: index for index, label in enumerate(self.class_names)}
        return self.record.class_of_label

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: the probe's labels, those of ``CLASSES``, the network's own."""
        if self.config.head == "probe":
            return self.probe.labels
        named = {int(key): name for key, name in self.record.class_names.items()}
        return tuple(named.get(index, name) for index, name in enumerate(self.network.classes))
