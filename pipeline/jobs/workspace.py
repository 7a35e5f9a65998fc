"""A run's folder and what its stages share: configuration, network, shards, bank, record."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import files
from pipeline.config import Config, load_toml
from pipeline.images import Grid, find_file
from pipeline.models import Cut, Network, cut, load_network
from pipeline.store import Bank, Listing, ShardStore, read_bank

STAGES = ("extract", "factorize", "localize", "classify", "export", "atlas")


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


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 2)
