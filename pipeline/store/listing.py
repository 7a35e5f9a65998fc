"""The images of a run in the order in which they are worked on, and their division into shards.

The order is by a hash of image and seed, so that any stretch of shards is a random sample of the
dataset; it depends on the dataset and the seed alone. So does the split into ``fit`` and
``heldout`` images, image by image. A run that was given more images later has them behind those it
had, in shards of their own: what is there stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from ..errors import UserError, command
from ..images import Dataset, ImageRecord, unit_hash
from ..system import checksums, files
from .encoding import Encoding

LISTING = Encoding("concordance.images", "1.1", oldest="1.0")

SCHEMA = pa.schema(
    {
        "image_id": pa.int64(),
        "path": pa.string(),
        "label": pa.string(),
        "labels": pa.list_(pa.string()),
        "split": pa.string(),
        "size": pa.int64(),
        "modified": pa.int64(),
    }
)
"""Columns of a listing; a label may be missing. Version 1.0 is without `labels`."""

HELDOUT = 0.2
"""Share of the images kept from the fit, to measure on."""

SHARD_BYTES = 32_000_000
"""Uncompressed activations a shard holds, at most; or one batch, where that is more."""

BATCHES = (64, 16)
"""Images a shard holds multiples of, the first that fits: networks run in such batches, and none
straddles shards."""


@dataclass(frozen=True)
class Listing:
    """The images of a run, in working order.

    Parameters
    ----------
    frame : DataFrame
        Columns image_id (int64), path, label (str or null; several as one text), labels (tuple of
        str), split (``fit`` or ``heldout``), and of
        the file as it was when the run was made: size (int64, bytes) and modified (int64,
        nanoseconds since 1970).
    images_per_shard : int
        The last shard of a generation may have fewer.
    starts : tuple of int
        Where generations begin: the first images, then those that were added each time. Each is in
        working order by itself, and begins a shard.
    """

    frame: pd.DataFrame
    images_per_shard: int
    starts: tuple[int, ...] = (0,)

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return len(self._bounds) - 1

    def shard(self, index: int) -> list[ImageRecord]:
        """Return the images of a shard, in order."""
        return self.records(self._rows(index))

    def ids(self, index: int) -> list[int]:
        """Return the ids of a shard's images, in order."""
        part = self.frame["image_id"].iloc[self._rows(index)]
        return [int(each) for each in part]

    def shards_of(self, places: ArrayLike) -> NDArray[np.int64]:
        """Return the shards in which the images at some places of the order are, int64 (n,)."""
        return np.searchsorted(self._bounds, np.asarray(places), side="right") - 1

    def generation_of(self, shard: int) -> int:
        """Return the generation that a shard belongs to: 0 for the first images."""
        start = int(self._bounds[shard])
        return sum(each <= start for each in self.starts[1:])

    def _rows(self, shard: int) -> slice:
        return slice(int(self._bounds[shard]), int(self._bounds[shard + 1]))

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """Where shards begin, and where the last one ends."""
        generations = pairwise([*self.starts, len(self.frame)])
        firsts = [range(start, stop, self.images_per_shard) for start, stop in generations]
        return np.array([*chain.from_iterable(firsts), len(self.frame)], dtype=np.int64)

    def first(self, n: int) -> Listing:
        """Return the first n images by themselves: those of whole generations."""
        starts = tuple(each for each in self.starts if each < max(n, 1))
        return Listing(self.frame.iloc[:n], self.images_per_shard, starts)

    def generations(self) -> list[Listing]:
        """Return each generation by itself."""
        return [
            Listing(self.frame.iloc[start:stop].reset_index(drop=True), self.images_per_shard)
            for start, stop in pairwise([*self.starts, len(self.frame)])
        ]

    @staticmethod
    def join(generations: Sequence[Listing]) -> Listing:
        """Put generations behind each other.

        Raises
        ------
        ValueError
            Their shards are of different sizes, or an image is in two of them.
        """
        first, *others = generations
        if not others:
            return first
        frame = pd.concat([each.frame for each in generations], ignore_index=True)
        if len({each.images_per_shard for each in generations}) > 1:
            raise ValueError("its parts have shards of different sizes")
        if not frame["image_id"].is_unique:
            raise ValueError("an image is in two of its parts")
        starts = np.cumsum([0, *(len(each.frame) for each in generations[:-1])]).tolist()
        return Listing(frame, first.images_per_shard, tuple(starts))

    def record(self, place: int) -> ImageRecord:
        """Return the image at a place of the order."""
        return self.records(slice(place, place + 1))[0]

    def records(self, places: slice | NDArray[np.int64]) -> list[ImageRecord]:
        """Return the images at some places of the order."""
        part = self.frame.iloc[places]
        columns = (part[name] for name in ("path", "image_id", "labels", "size", "modified"))
        return [
            ImageRecord(path, int(image_id), labels, int(size), int(modified))
            for path, image_id, labels, size, modified in zip(*columns, strict=True)
        ]

    def places(self, image_ids: ArrayLike) -> NDArray[np.int64]:
        """Return where images stand in the order; -1 for those that are not listed.

        Parameters
        ----------
        image_ids : array_like of int
            (n,).
        """
        known, places = self._by_id
        wanted = np.asarray(image_ids, dtype=np.int64)
        if not len(known):
            return np.full(wanted.shape, -1)
        at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        return np.where(known[at] == wanted, places[at], -1)

    @cached_property
    def _by_id(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The image ids ascending, and the place of each in the order."""
        image_ids = self.frame["image_id"].to_numpy(np.int64)
        places = np.argsort(image_ids)
        return image_ids[places], places

    @cached_property
    def labels(self) -> NDArray[np.object_]:
        """Labels (tuple of str) of each image, in order."""
        return self.frame["labels"].to_numpy(object)

    def digest(self) -> str:
        """Hash which images there are, their order and their shards (16 hexadecimal digits)."""
        digest = hashlib.sha256(str(self.images_per_shard).encode())
        digest.update("".join(f"+{start}" for start in self.starts[1:]).encode())
        for path in self.frame.path:
            digest.update(f"{path!r}\n".encode())
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        """Write a listing of one generation as Parquet."""
        table = pa.Table.from_pandas(self.frame, preserve_index=False)
        metadata = LISTING.stamp() | {"images_per_shard": str(self.images_per_shard)}
        files.write_parquet(path, table.replace_schema_metadata(metadata))

    @staticmethod
    def load(path: Path) -> Listing:
        """Read a listing that `save` wrote.

        Raises
        ------
        UserError
            The file is missing or damaged.
        """
        checksums.check_regular(path)
        try:
            table = pq.ParquetFile(path.absolute()).read()
            metadata = table.schema.metadata or {}
            says = {key.decode(): value.decode() for key, value in metadata.items()}
            LISTING.check(says, path)
            per_shard = int(says["images_per_shard"])
            columns = _checked(table, per_shard)
            frame = columns.to_pandas()
        except (OSError, ValueError, KeyError) as error:
            again = command("discover", run=path.parents[1])
            raise UserError(f"{path} is missing or damaged ({error}); {again} mends it") from error
        frame["label"] = frame["label"].astype(object).where(frame["label"].notna(), None)
        frame["labels"] = pd.Series(_tuples(columns["labels"].to_pylist()), dtype=object)
        return Listing(frame, per_shard)


def _checked(table: pa.Table, per_shard: int) -> pa.Table:
    """Return the columns of a listing with their types; `ValueError` where they are others."""
    if "labels" not in table.column_names:
        one = [None if each is None else [each] for each in table["label"].to_pylist()]
        table = table.append_column("labels", pa.array(one, SCHEMA.field("labels").type))
    columns = table.select(SCHEMA.names).cast(SCHEMA)
    columns.validate(full=True)  # texts are texts
    if any(label is None for each in columns["labels"].to_pylist() for label in each or ()):
        raise ValueError("a label of several is none")
    if per_shard < 1:
        raise ValueError(f"a shard of {per_shard} images")
    for field in SCHEMA:
        n_null = columns[field.name].null_count
        if n_null and field.name not in ("label", "labels"):
            raise ValueError(f"{n_null} rows without {field.name}")
    n_same = len(columns) - len(columns["image_id"].unique())
    if n_same:
        raise ValueError(f"{n_same} ids twice")
    return columns


def _tuples(lists: Iterable[list[str] | None]) -> list[tuple[str, ...]]:
    """Return lists as tuples; equal ones are one, for there are millions of images."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    return [known.setdefault(each, each) for each in (tuple(some or ()) for some in lists)]


def make_listing(
    dataset: Dataset, *, seed: int, limit: int | None, bytes_per_image: int
) -> Listing:
    """Order, split and shard the images of a dataset.

    Parameters
    ----------
    dataset : Dataset
        Its images.
    seed : int
        Decides order and split.
    limit : int or None
        Keep only so many, the first in working order: a random sample.
    bytes_per_image : int
        Uncompressed size of one image's activations; decides the images per shard.
    """
    ordered = sorted(
        dataset.images, key=lambda image: (unit_hash(image.image_id, seed, "order"), image.path)
    )[:limit]
    heldout = {
        image.image_id for image in ordered if unit_hash(image.image_id, seed, "split") < HELDOUT
    }
    if len(heldout) == len(ordered):
        heldout = set()
    frame = pd.DataFrame(
        {
            "image_id": pd.array([image.image_id for image in ordered], dtype="int64"),
            "path": [image.path for image in ordered],
            "label": pd.Series([image.label for image in ordered], dtype=object),
            "labels": pd.Series([image.labels for image in ordered], dtype=object),
            "split": ["heldout" if image.image_id in heldout else "fit" for image in ordered],
            "size": pd.array([image.size for image in ordered], dtype="int64"),
            "modified": pd.array([image.modified for image in ordered], dtype="int64"),
        }
    )
    return Listing(frame, _images_per_shard(bytes_per_image))


def _images_per_shard(bytes_per_image: int) -> int:
    most = min(1024, SHARD_BYTES // bytes_per_image)
    return next((most // batch * batch for batch in BATCHES if most >= batch), BATCHES[-1])
