"""The store: shards come back as they went in, say when they are damaged, and list what is left."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.images import Dataset, FolderSource, ImageRecord, make_image_id
from pipeline.nmf import Transform
from pipeline.store import (
    ACTIVATIONS,
    HEATMAPS,
    Listing,
    PositionBlocks,
    ShardStore,
    chunks,
    make_listing,
    sample_positions,
)

SHAPE = (5, 4, 5)


def fill(folder: Path, n_per_shard: tuple[int, ...] = (4, 4, 3)) -> ShardStore:
    store = ShardStore(folder, ACTIVATIONS, len(n_per_shard))
    rng = np.random.default_rng(0)
    first = 0
    for index, n in enumerate(n_per_shard):
        V = rng.random((n, *SHAPE)).astype(np.float16)
        store.write(index, {"V": V, "image_id": np.arange(first, first + n)}, layer="x")
        first += n
    return store


def test_arrays_come_back_as_they_went_in(tmp_path: Path) -> None:
    store = ShardStore(tmp_path, ACTIVATIONS, 1)
    arrays: dict[str, npt.NDArray[Any]] = {
        "V": np.random.default_rng(0).random((3, 2, 2, 4)).astype(np.float16),
        "aux/layer1": np.zeros((3, 1), np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "text": np.array(["ä", "b\n"], dtype=object),
    }
    store.write(0, arrays, layer="features", n=3)
    found = store.read(0)
    assert set(found) == set(arrays)
    for name in ("V", "aux/layer1", "empty"):
        assert found[name].dtype == arrays[name].dtype
        assert np.array_equal(found[name], arrays[name])
    assert [text.decode() for text in found["text"]] == ["ä", "b\n"]
    with store.open(0) as file:
        assert file.attrs["layer"] == "features"


def test_images_are_read_alone(tmp_path: Path) -> None:
    store = fill(tmp_path)
    whole = [arrays["V"] for arrays in store.iterate(["V"])]
    wanted = frozenset({1, 2, 10, 99})
    found = list(store.iterate(["V", "image_id"], wanted))
    assert [each["image_id"].tolist() for each in found] == [[1, 2], [], [10]]
    assert np.array_equal(found[0]["V"], whole[0][[1, 2]])
    assert found[1]["V"].shape == (0, *SHAPE)
    assert np.array_equal(found[2]["V"], whole[2][[2]])


@pytest.mark.parametrize(
    "how",
    [
        {"chunks": (1, *SHAPE), **hdf5plugin.Zstd(clevel=3)},
        {"chunks": (2, *SHAPE), **hdf5plugin.Zstd(clevel=3)},
        {"chunks": (1, *SHAPE), "compression": "gzip"},
        {"chunks": (1, *SHAPE), "shuffle": True, **hdf5plugin.Zstd(clevel=3)},
        {},
    ],
)
def test_arrays_that_others_have_written_are_read_too(tmp_path: Path, how: dict[str, Any]) -> None:
    V = np.random.default_rng(0).random((4, *SHAPE)).astype(np.float32)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        dataset = file.create_dataset("V", data=V, **how)
        assert np.array_equal(chunks.read(dataset), V)
        assert np.array_equal(chunks.read(dataset, np.array([0, 3])), V[[0, 3]])


def test_a_damaged_chunk_says_so(tmp_path: Path) -> None:
    store = fill(tmp_path)
    path = store.path(1)
    with h5py.File(path, "r") as file:
        place = file["V"].id.get_chunk_info(2)
    with path.open("r+b") as raw:
        raw.seek(place.byte_offset)
        raw.write(bytes(8))
    with pytest.raises(UserError, match=r"shard-00001\.h5 is damaged \(it holds something else"):
        store.read(1, ["V"], frozenset({4, 5}))
    store.record_path(1).unlink()  # without it nothing is known of the whole file
    assert len(store.read(1, ["V"], frozenset({4, 5}))["V"]) == 2
    with pytest.raises(UserError, match=r"shard-00001\.h5 is damaged \((?!it)"):
        store.read(1)


def test_a_shard_counts_once_its_record_stands(tmp_path: Path) -> None:
    store = fill(tmp_path)
    assert store.missing() == []
    store.path(1).with_suffix(".json").unlink()
    store.path(2).unlink()
    assert store.missing() == [1, 2]
    store.path(0).write_bytes(store.path(0).read_bytes()[:-1])
    assert store.missing() == [0, 1, 2]


def test_a_shard_that_is_not_kept_says_so(tmp_path: Path) -> None:
    store = fill(tmp_path)
    store.path(1).unlink()
    with pytest.raises(UserError, match=r"shard-00001\.h5 is missing; .* not kept: .*keep='all'"):
        store.read(1)


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.999])
def test_a_truncated_shard_is_found(tmp_path: Path, share: float) -> None:
    store = fill(tmp_path)
    os.truncate(store.path(1), int(share * store.path(1).stat().st_size))
    assert store.damaged() == [store.path(1)]
    assert store.missing() == [1]


@pytest.mark.parametrize("at", [0, 0.3, 0.7, 0.999])
def test_a_flipped_bit_is_found(tmp_path: Path, at: float) -> None:
    store = fill(tmp_path)
    data = bytearray(store.path(1).read_bytes())
    data[int(at * len(data))] ^= 1
    store.path(1).write_bytes(bytes(data))
    assert store.damaged() == [store.path(1)]


def test_errors_name_the_file_and_what_to_do(tmp_path: Path) -> None:
    store = fill(tmp_path)
    other = ShardStore(tmp_path, HEATMAPS, 3)
    with pytest.raises(
        UserError, match=r"shard-00000\.h5 holds .*activations.*another version or program"
    ):
        other.read(0)
    store.path(0).write_bytes(b"no HDF5")
    with pytest.raises(
        UserError, match=r"shard-00000\.h5 is damaged .*; discover\(run=.* makes it"
    ):
        store.read(0)
    for path in (store.path(1), store.record_path(1)):
        path.unlink()
    with pytest.raises(UserError, match=r"shard-00001\.h5 is missing; discover\(run="):
        list(ShardStore(tmp_path, ACTIVATIONS, 3).read(1))


def dataset(n: int) -> Dataset:
    paths = [f"{index % 3}/{index}.png" for index in range(n)]
    images = tuple(ImageRecord(path, make_image_id(path), (path[0],)) for path in sorted(paths))
    return Dataset(FolderSource(Path("/data")), "folder", images, ())


@given(st.integers(1, 300), st.integers(0, 5), st.sampled_from([None, 7, 10_000]))
@settings(max_examples=40)
def test_shards_partition_the_images(n: int, seed: int, limit: int | None) -> None:
    listing = make_listing(dataset(n), seed=seed, limit=limit, bytes_per_image=1_000_000)
    images = [image for index in range(listing.n_shards) for image in listing.shard(index)]
    assert len(images) == min(n, limit or n)
    assert len({image.image_id for image in images}) == len(images)
    assert all(1 <= len(listing.shard(index)) <= 32 for index in range(listing.n_shards))
    assert "fit" in set(listing.frame.split)


def test_order_and_split_of_an_image_stay_when_others_are_added() -> None:
    small = make_listing(dataset(200), seed=1, limit=None, bytes_per_image=1).frame
    large = make_listing(dataset(300), seed=1, limit=None, bytes_per_image=1).frame
    kept = large[large.image_id.isin(small.image_id)]
    assert kept.image_id.tolist() == small.image_id.tolist()
    assert kept.split.tolist() == small.split.tolist()
    assert 0.1 < (large.split == "heldout").mean() < 0.3
    other = make_listing(dataset(200), seed=2, limit=None, bytes_per_image=1).frame
    assert other.image_id.tolist() != small.image_id.tolist()


def test_a_listing_comes_back_as_it_went_in(tmp_path: Path) -> None:
    images = (*dataset(20).images, ImageRecord("no label.png", 1))
    whole = Dataset(FolderSource(Path("/data")), "folder", images, ())
    listing = make_listing(whole, seed=0, limit=None, bytes_per_image=10**9)
    listing.save(tmp_path / "images.parquet")
    found = Listing.load(tmp_path / "images.parquet")
    assert found.images_per_shard == listing.images_per_shard == 16
    assert [found.shard(i) for i in range(2)] == [listing.shard(i) for i in range(2)]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=5), st.integers(0, 9))
@settings(max_examples=40)
def test_generations_have_shards_of_their_own(sizes: list[int], seed: int) -> None:
    every = make_listing(dataset(sum(sizes)), seed=seed, limit=None, bytes_per_image=10**6).frame
    ends = np.cumsum([0, *sizes]).tolist()
    parts = [
        Listing(every.iloc[start:stop].reset_index(drop=True), 16) for start, stop in pairwise(ends)
    ]
    listing = Listing.join(parts)
    assert listing.starts == tuple(ends[:-1])
    assert listing.n_shards == sum(part.n_shards for part in parts)
    shards = [image for part in parts for image in map(part.ids, range(part.n_shards))]
    assert [*map(listing.ids, range(listing.n_shards))] == shards
    assert [[each.image_id for each in listing.shard(n)] for n in range(len(shards))] == shards
    assert listing.shards_of(range(ends[-1])).tolist() == [
        index for index, shard in enumerate(shards) for _ in shard
    ]
    ages = [listing.generation_of(shard) for shard in range(len(shards))]
    assert ages == [age for age, part in enumerate(parts) for _ in range(part.n_shards)]
    for n, end in enumerate(ends[1:], 1):
        first = listing.first(end)
        assert first.digest() == Listing.join(parts[:n]).digest()
        assert first.n_shards == sum(part.n_shards for part in parts[:n])
    assert [
        each.frame.equals(part.frame)
        for each, part in zip(listing.generations(), parts, strict=True)
    ]
    assert (listing.digest() == Listing(listing.frame, 16).digest()) == (len(parts) == 1)
    with pytest.raises(ValueError, match="an image is in two"):
        Listing.join([*parts, parts[0]])
    with pytest.raises(ValueError, match="shards of different sizes"):
        Listing.join([*parts, Listing(parts[0].frame, 32)])


def test_blocks_hold_the_positions_of_the_images_wanted(tmp_path: Path) -> None:
    store = fill(tmp_path)
    wanted = frozenset({0, 5, 10})
    blocks = PositionBlocks(store, wanted, Transform("none"))
    rows = np.concatenate([block.numpy() for block in blocks])
    maps = np.concatenate([store.read(index)["V"] for index in range(3)])
    assert np.array_equal(rows, maps[[0, 5, 10]].reshape(-1, 5).astype(np.float32))
    assert (blocks.n_positions, blocks.n_channels) == (60, 5)


def test_a_sample_of_positions_does_not_depend_on_the_shards(tmp_path: Path) -> None:
    everything = frozenset(range(11))
    few, owner = sample_positions(fill(tmp_path / "a"), everything, 40, seed=3)
    many = ShardStore(tmp_path / "b", ACTIVATIONS, 1)
    whole = [fill(tmp_path / "a").read(index) for index in range(3)]
    many.write(0, {name: np.concatenate([part[name] for part in whole]) for name in whole[0]})
    again, owner_again = sample_positions(many, everything, 40, seed=3)
    assert np.array_equal(few.numpy(), again.numpy())
    assert np.array_equal(owner, owner_again)
    assert len(few) == 40
    assert set(owner.tolist()) <= everything
    other, _ = sample_positions(many, everything, 40, seed=4)
    assert not np.array_equal(few.numpy(), other.numpy())


def test_every_sampled_row_is_a_position_of_its_image(tmp_path: Path) -> None:
    store = fill(tmp_path)
    rows, owner = sample_positions(store, frozenset(range(2, 9)), 25, seed=0)
    maps = np.concatenate([store.read(index)["V"] for index in range(3)]).astype(np.float32)
    for row, image in zip(rows.numpy(), owner.tolist(), strict=True):
        assert (maps[image].reshape(-1, 5) == row).all(axis=1).any()
    assert len(np.unique(rows.numpy(), axis=0)) == len(rows)


def test_blocks_come_as_stored_where_they_can(tmp_path: Path) -> None:
    store, wanted = fill(tmp_path), frozenset(range(11))
    (first, *_) = PositionBlocks(store, wanted, Transform("none"))
    assert first.dtype == torch.float16
    (first, *_) = PositionBlocks(store, wanted, Transform("none"), dict.fromkeys(wanted, 2.0))
    assert first.dtype == torch.float32
    (first, *_) = PositionBlocks(store, wanted, Transform("shift", torch.zeros(5)))
    assert first.dtype == torch.float32


@pytest.mark.parametrize(
    ("bytes_per_image", "n"), [(1, 1_024), (173_056, 128), (600_000, 48), (3_000_000, 16)]
)
def test_shards_hold_whole_batches(bytes_per_image: int, n: int) -> None:
    listing = make_listing(dataset(20), seed=0, limit=None, bytes_per_image=bytes_per_image)
    assert listing.images_per_shard == n


def test_images_are_found_in_their_order() -> None:
    listing = make_listing(dataset(50), seed=3, limit=None, bytes_per_image=1)
    image_ids = listing.frame.image_id.to_numpy()
    asked = [*image_ids[[4, 0, 49, 4]], 12345]
    assert listing.places(asked).tolist() == [4, 0, 49, 4, -1]
    assert Listing(listing.frame[:0], 16).places([1]).tolist() == [-1]
