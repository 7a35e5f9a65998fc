"""Parquet and NumPy's files with images are written once into tar shards, and read there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.images import list_dataset, read_image
from pipeline.images.spooled import parquet_rows, store
from pipeline.images.spooled.labels import label_of, split_of
from pipeline.jobs.discover import discover
from tests.images.spooled import (
    IMAGE,
    OPTIONS,
    ROOT,
    as_folder,
    check_equal_tables,
    features,
    picture,
    pixels,
    write_shard,
    write_shards,
)


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a folder of its own to spool into."""
    monkeypatch.setenv(store.VARIABLE, str(tmp_path / "spooled"))
    return tmp_path / "spooled"


def tars(spool: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in spool.rglob("*.tar")}


def python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", ["", "*.parquet", "train-00000-of-00002.parquet"])
@pytest.mark.parametrize("prefix", ["", "parquet:"])
def test_parquet_is_listed_and_read_losslessly(
    name: str, prefix: str, tmp_path: Path, spool: Path
) -> None:
    images = write_shards(tmp_path / "pets")
    found = list_dataset(f"{prefix}{tmp_path / 'pets' / name}")
    if name.startswith("train"):
        images = {path: each for path, each in images.items() if path.startswith("train-00000")}
    assert {each.path: (each.label, each.split) for each in found.images} == {
        path: (label, split) for path, (_, label, split) in images.items()
    }
    for each in found.images:
        assert found.source.read(each) == images[each.path][0]
    assert found.kind == "parquet" and not found.rejected
    before = tars(spool)
    assert len(before) == len({path.split("/")[0] for path in images})
    again = list_dataset(f"{prefix}{tmp_path / 'pets' / name}")
    assert again.images == found.images and tars(spool) == before


@pytest.mark.slow
def test_a_job_on_parquet_goes_to_the_atlas_and_is_as_of_a_folder(
    tmp_path: Path, spool: Path
) -> None:
    images = write_shards(tmp_path / "pets")
    run = discover(tmp_path / "pets", run=tmp_path / "run", **OPTIONS)
    assert (run.folder / "atlas" / "index.html").exists()
    plain = discover(as_folder(tmp_path / "plain", images), run=tmp_path / "other", **OPTIONS)
    check_equal_tables(run, plain)
    bank, before = (run.folder / "bank" / "bank.h5").read_bytes(), tars(spool)
    discover(run=run.folder)
    assert (run.folder / "bank" / "bank.h5").read_bytes() == bank and tars(spool) == before
    # In another process, from another folder, and with the Parquet files gone.
    for path in (tmp_path / "pets").iterdir():
        path.unlink()
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pipeline.analysis.run import open_run\n"
        "from pipeline.jobs.discover import discover\n"
        "run = open_run(sys.argv[1])\n"
        "print(run.image('train-00001-of-00002.tar/000003.png').sum())\n"
        "print(len(discover(run=sys.argv[1]).table('images')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run.folder, ROOT], cwd="/", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout.split() == [str(int(pixels(11).sum())), "24"], done.stderr


def test_other_contents_are_another_dataset(tmp_path: Path, spool: Path) -> None:
    write_shard(tmp_path / "pets.parquet", 0, 24)
    run = discover(tmp_path / "pets.parquet", run=tmp_path / "run", **OPTIONS)
    os.utime(tmp_path / "pets.parquet", ns=(0, 10**18))  # the same, touched: written once more
    discover(tmp_path / "pets.parquet", run=run.folder, **OPTIONS)
    assert len(tars(spool)) == 2
    write_shard(tmp_path / "pets.parquet", 500, 24)
    with pytest.raises(UserError, match="was begun with other images"):
        discover(tmp_path / "pets.parquet", run=run.folder, **OPTIONS)


KILLED = """
import sys, time
from pathlib import Path
from pipeline.images import list_dataset
from pipeline.images.spooled import parquet_rows
plain = parquet_rows._item
def slowly(path, columns, split, row, batch, at):
    print(path.stem, row, flush=True)
    time.sleep(0.02)
    return plain(path, columns, split, row, batch, at)
parquet_rows._item = slowly
list_dataset(sys.argv[1])
print("whole", flush=True)
"""


@pytest.mark.parametrize("at", ["train-00000-of-00002 3", "validation-00000-of-00001 2"])
def test_what_a_killed_process_left_is_never_taken_for_whole(
    at: str, tmp_path: Path, spool: Path
) -> None:
    images = write_shards(tmp_path / "pets")
    job = subprocess.Popen(
        [sys.executable, "-c", KILLED, tmp_path / "pets"], cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert job.stdout is not None
    for line in job.stdout:
        if line.strip() == at:
            job.kill()
            break
    assert job.wait() == -signal.SIGKILL
    job.stdout.close()
    assert list(spool.rglob("*.concordance-tmp-*")), "it was killed while it wrote"
    before = tars(spool)
    assert store.find_latest(f"parquet:{tmp_path / 'pets'}") is None
    found = list_dataset(tmp_path / "pets")
    assert {each.path: found.source.read(each) for each in found.images} == {
        path: data for path, (data, _, _) in images.items()
    }
    assert not list(spool.rglob("*.concordance-tmp-*"))
    after = tars(spool)
    assert all(after[path] == each for path, each in before.items()), "whole parts stay"
    assert len(before) == (0 if at.startswith("train") else 2)


def test_two_at_once_do_no_harm(tmp_path: Path, spool: Path) -> None:
    images = write_shards(tmp_path / "pets")
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / "pets"], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [job.communicate(timeout=120)[0].split("\n") for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert sorted(len(each) for each in said) == [2, 26], "one writes, the other waits"
    found = list_dataset(tmp_path / "pets")
    assert [found.source.read(each) for each in found.images] == [
        images[each.path][0] for each in found.images
    ]


def test_threads_read_what_has_to_be_spooled_first(tmp_path: Path, spool: Path) -> None:
    write_shards(tmp_path / "pets")
    first = list_dataset(tmp_path / "pets")
    for path in spool.rglob("*.tar"):
        path.unlink()  # as users do who need the room
    source = type(first.source)(first.source._recipe)  # type: ignore[attr-defined,call-arg]
    read: list[Any] = []
    threads = [
        threading.Thread(target=lambda image=image: read.append(source.read(image)))
        for image in first.images[:4]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(read) == sorted(first.source.read(each) for each in first.images[:4])


def write(path: Path, columns: dict[str, Any], schema: pa.Schema | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path)
    return path


def of_bytes(n: int = 3) -> list[dict[str, Any]]:
    return [{"bytes": picture(seed), "path": None} for seed in range(n)]


@pytest.mark.parametrize(
    ("label", "kind", "names", "expected"),
    [
        ([0, 1, -1], pa.int64(), ("cat", "dog"), ["cat", "dog", None]),
        ([0, 1, None], pa.int8(), (), ["0", "1", None]),
        (["é", " cat ", ""], pa.string(), (), ["é", "cat", None]),
        ([1.0, float("nan"), None], pa.float64(), (), ["1", None, None]),
        ([[1], [], None], pa.list_(pa.int64()), ("cat", "dog"), ["dog", None, None]),
        ([{"x": 1}] * 3, pa.struct([("x", pa.int64())]), (), [None] * 3),
    ],
)
def test_labels_of_every_kind(
    label: list[Any], kind: pa.DataType, names: tuple[str, ...], expected: list[Any], tmp_path: Path
) -> None:
    said = features(names) if names else {}
    schema = pa.schema([("image", IMAGE), ("label", kind)], metadata=said)
    path = write(tmp_path / "x.parquet", {"image": of_bytes(), "label": label}, schema)
    assert [each.label for each in list_dataset(path).images] == expected


def test_several_labels_stand_beside_the_image(tmp_path: Path, spool: Path) -> None:
    more: dict[str, Any] = {
        "label": {"feature": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "_type": "List"}
    }
    schema = pa.schema(
        [("image", IMAGE), ("label", pa.list_(pa.int64()))], metadata=features(**more)
    )
    path = write(tmp_path / "x.parquet", {"image": of_bytes(1), "label": [[1, 0]]}, schema)
    list_dataset(path)
    data = next(spool.rglob("*.tar")).read_bytes()
    assert json.dumps({"label": ["dog", "cat"]}).encode() in data


@pytest.mark.parametrize("column", ["image", "img", "photo_of_it"])
@pytest.mark.parametrize("kind", [IMAGE, pa.binary(), pa.large_binary(), pa.binary_view()])
def test_a_column_of_images_is_called_anything(
    column: str, kind: pa.DataType, tmp_path: Path
) -> None:
    values = of_bytes() if kind == IMAGE else [None, *(picture(seed) for seed in range(2))]
    path = write(
        tmp_path / "x.parquet",
        {"id": [1, 2, 3], column: pa.array(values, kind), "split": ["train", "validation", "mine"]},
    )
    found = list_dataset(path)
    splits = ["train", "val", "mine"]
    n_null = 0 if kind == IMAGE else 1
    assert [each.split for each in found.images] == splits[n_null:]
    assert [(each.path, each.reason) for each in found.rejected] == [
        ("x/row 0", "there is no image")
    ] * n_null


def test_a_table_of_paths_stays_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    for kind in (pa.string(), pa.binary()):
        path = write(tmp_path / "x.parquet", {"image": pa.array(["a.png"], kind)})
        found = list_dataset(path)
        assert found.kind == "table" and [each.path for each in found.images] == ["a.png"]


def test_rows_that_are_no_images_are_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "there.png").write_bytes(picture(7))
    (tmp_path / "secret.png").write_bytes(picture(8))
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "beside.png").write_bytes(picture(9))
    (tmp_path / "pets" / "link.png").symlink_to(tmp_path / "secret.png")
    rows = [
        {"bytes": picture(0), "path": "a/b.c.PNG"},
        None,
        {"bytes": b"", "path": None},
        {"bytes": b"<html>", "path": "x.png"},
        {"bytes": None, "path": "beside.png"},
        {"bytes": None, "path": "../secret.png"},
        {"bytes": None, "path": "/etc/passwd"},
        {"bytes": None, "path": "link.png"},
        {"bytes": None, "path": "gone\0.png"},
        {"bytes": None, "path": "gone.png"},
        {"bytes": None, "path": None},
        {"bytes": picture(1)[:-300], "path": None},
    ]
    path = write(tmp_path / "pets" / "x.parquet", {"image": pa.array(rows, IMAGE)})
    found = list_dataset(f"parquet:{path}")
    assert {each.path for each in found.images} == {
        "x.tar/a/b_c.png", "x.tar/beside.png", "x.tar/000011.png",
    }  # fmt: skip
    reasons = {each.path: each.reason for each in found.rejected}
    assert reasons.pop("x/row 1") == reasons.pop("x/row 10") == "there is no image"
    assert reasons.pop("x/row 2") == "empty" and reasons.pop("x/row 3") == "not an image"
    for row in (5, 6, 7):
        assert "outside its folder" in reasons.pop(f"x/row {row}")
    assert "no name of one" in reasons.pop("x/row 8")
    assert "No such file" in reasons.pop("x/row 9")
    assert not reasons
    damaged = next(each for each in found.images if "11" in each.path)
    with pytest.raises(Exception, match=r"truncated|decoded|damaged"):
        read_image(found.source, damaged)


@pytest.mark.parametrize(
    "name",
    ["../../out.png", "/home/x/cat.jpg", "C:\\photos\\cat.jpg", "a/../../b.png", ".hidden.png",
     "._1.jpg", "__MACOSX/1.jpg", "x" * 500 + ".png", "a\nb\x1b[31m.png", "é\u202e.png", "..", "/",
     "000001.png", "1.tar.gz.jpg", " .png", "aux.json"],
)  # fmt: skip
def test_names_are_safe_and_no_image_is_lost(name: str, tmp_path: Path, spool: Path) -> None:
    rows = [{"bytes": picture(seed), "path": name} for seed in range(3)]
    path = write(tmp_path / "x.parquet", {"image": pa.array(rows, IMAGE)})
    found = list_dataset(path)
    assert len(found.images) == 3 and not found.rejected
    assert sorted(found.source.read(each) for each in found.images) == sorted(
        map(picture, range(3))
    )
    for each in found.images:
        inside = each.path.removeprefix("x.tar/")
        assert ".." not in inside and inside.count(".") == 1 and inside.isprintable()
        assert not inside.startswith(("/", ".")) and len(inside) < 260


def test_what_cannot_be_told_is_refused_in_a_sentence(tmp_path: Path) -> None:
    pictures = pa.array(of_bytes(), IMAGE)
    several = pa.array([of_bytes(2)] * 3, pa.list_(IMAGE))
    path = write(tmp_path / "a.parquet", {"left": pictures, "right": pictures})
    with pytest.raises(UserError, match="several columns of images, 'left' and 'right'"):
        list_dataset(path)
    path = write(tmp_path / "b.parquet", {"images": several})
    with pytest.raises(UserError, match="'images' holds several images in a row"):
        list_dataset(path)
    path = write(tmp_path / "c.parquet", {"image": pictures, "mask": pictures})
    assert "not taken: 'mask'" in list_dataset(path).remarks[0]
    sound: dict[str, Any] = {"audio": {"_type": "Audio"}}
    schema = pa.schema([("audio", IMAGE)], metadata=features(**sound))
    path = write(tmp_path / "d.parquet", {"audio": pictures}, schema)
    with pytest.raises(UserError, match="no column"):
        list_dataset(path)
    with pytest.raises(UserError, match="has no column of images"):
        list_dataset(f"parquet:{path}")
    with pytest.raises(UserError, match=r"does not exist"):
        list_dataset(f"parquet:{tmp_path / 'none-*.parquet'}")
    path = write(tmp_path / "e.parquet", {"image": pa.array([None] * 3, IMAGE)})
    with pytest.raises(UserError, match="holds no image; the first refused: e/row 0: there is no"):
        list_dataset(path)


def test_damaged_parquet_gives_what_is_whole(tmp_path: Path) -> None:
    write_shard(tmp_path / "x.parquet", 0, 20, group=5)
    data = bytearray((tmp_path / "x.parquet").read_bytes())
    about = pq.read_metadata(tmp_path / "x.parquet")
    at = about.row_group(2).column(0).data_page_offset
    data[at + 60 : at + 900] = os.urandom(840)
    (tmp_path / "x.parquet").write_bytes(data)
    found = list_dataset(f"parquet:{tmp_path / 'x.parquet'}")
    read = {each.path for each in found.images}
    assert {f"x.tar/{row:06}" for row in (*range(10), *range(15, 20))} <= {p[:12] for p in read}
    assert len(read) == 20 or "the file is damaged" in found.rejected[0].reason
    (tmp_path / "x.parquet").write_bytes(data[:-9])
    for where in ("", "parquet:"):
        with pytest.raises(UserError, match=r"x\.parquet'? cannot be read as"):
            list_dataset(f"{where}{tmp_path / 'x.parquet'}")
    (tmp_path / "y.parquet").write_bytes(b"PAR1" + os.urandom(5000) + b"\xff\xff\xff\x7fPAR1")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        list_dataset(f"parquet:{tmp_path / 'y.parquet'}")


@pytest.mark.parametrize("is_stream", [True, False])
def test_arrow_files_as_save_to_disk_writes_them(is_stream: bool, tmp_path: Path) -> None:
    schema = pa.schema([("image", IMAGE), ("label", pa.int64())], metadata=features())
    for split in ("train", "test"):
        folder = tmp_path / "saved" / split
        folder.mkdir(parents=True)
        table = pa.table({"image": of_bytes(6), "label": [0, 1] * 3}, schema=schema)
        make = pa.ipc.new_stream if is_stream else pa.ipc.new_file
        with make(str(folder / "data-00000-of-00001.arrow"), schema) as to:
            to.write_table(table, max_chunksize=4)
        (folder / "dataset_info.json").write_text("{}")
        (folder / "cache-0123.arrow").write_bytes(b"")
    found = list_dataset(tmp_path / "saved")
    assert len(found.images) == 12 and {each.split for each in found.images} == {"train", "test"}
    assert {each.label for each in found.images} == {"cat", "dog"}
    data = (tmp_path / "saved/train/data-00000-of-00001.arrow").read_bytes()
    (tmp_path / "saved/train/data-00000-of-00001.arrow").write_bytes(data[: len(data) // 2])
    try:
        short = list_dataset(tmp_path / "saved")
    except UserError as error:
        assert "cannot be read as Arrow" in str(error)
    else:
        assert short.rejected and len(short.images) < 12


def test_folders_of_images_stay_folders(tmp_path: Path) -> None:
    write_shard(tmp_path / "mixed" / "metadata.parquet", 0, 3)
    (tmp_path / "mixed" / "sub").mkdir()
    (tmp_path / "mixed" / "sub" / "1.png").write_bytes(picture(0))
    assert list_dataset(tmp_path / "mixed", labels="none").kind == "folder"


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/validation-00000-of-00001-a09b74b3ef9c3b56.parquet", "val"),
        ("data/extra-00000-of-00001.parquet", "extra"),
        ("default/test/0000.parquet", "test"),
        ("default/partial-train/0000.parquet", "train"),
        ("train.parquet", "train"), ("val_02.parquet", "val"), ("dev/part-7.parquet", "val"),
        ("data-00000-of-00002.arrow", None), ("pets.parquet", None),
        ("train/data-00000-of-00002.arrow", "train"),
    ],
)  # fmt: skip
def test_splits_by_names_of_files(path: str, split: str | None) -> None:
    assert split_of(path) == split


def test_labels_of_values() -> None:
    assert label_of(np.int64(1), ("a", "b")) == "b" and label_of(5, ("a", "b")) == "5"
    assert label_of(np.array([1])) == "1" and label_of(np.zeros((3, 3))) is None
    assert label_of(["a", "b", "a"]) == ["a", "b"] and label_of([["a"], "b"]) == ["a", "b"]
    assert label_of(True) == "True" and label_of(-1) == "-1" and label_of({}) is None


def test_room_is_asked_for_before(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(tmp_path / "pets")
    monkeypatch.setattr(store, "RESERVE", 10**18)
    with pytest.raises(
        UserError, match="are free there: free some space, or set CONCORDANCE_SPOOL"
    ):
        list_dataset(tmp_path / "pets")
    assert not tars(spool)
    monkeypatch.setenv(store.VARIABLE, "/proc/none")
    with pytest.raises(UserError, match="set CONCORDANCE_SPOOL to a folder"):
        list_dataset(tmp_path / "pets")


MEMORY = """
import resource, sys
from pipeline.images import list_dataset
import pyarrow as pa
pa.jemalloc_set_decay_ms(0) if "jemalloc" in pa.supported_memory_backends() else None
import pipeline.images.archive, pipeline.images.spooled.parquet_source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = list_dataset(sys.argv[1])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(found.images), (after - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("group", [10_000, 100])
def test_memory_stays_flat(group: int, tmp_path: Path) -> None:
    """200 MB in one row group, or in many, take no more than a few batches."""
    head, n = picture(0), 4_000
    rng = np.random.default_rng(0)
    rows = [{"bytes": head + rng.bytes(50_000), "path": None} for _ in range(n)]
    table = pa.table({"image": pa.array(rows, IMAGE)})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=group, compression="none")
    del rows, table
    done = python(MEMORY, tmp_path / "x.parquet")
    n_found, taken = map(int, done.stdout.split())
    assert n_found == n and taken < 120_000_000, taken / 1e6


@pytest.mark.long
@pytest.mark.slow
def test_a_row_of_gigabytes_is_refused_and_the_others_are_read(tmp_path: Path) -> None:
    rows = [picture(0), picture(1) + bytes(1_600_000_000), picture(2)]
    table = pa.table({"image": pa.array([{"bytes": r, "path": None} for r in rows], IMAGE)})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd")
    assert (tmp_path / "x.parquet").stat().st_size < 10_000_000
    del rows, table
    found = list_dataset(tmp_path / "x.parquet")
    assert len(found.images) == 2
    assert [each.path for each in found.rejected] == ["x/row 1"]
    assert "too large" in found.rejected[0].reason


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["npy", "npz", "npz of splits"])
def test_files_of_numpy(kind: str, order: Any, tmp_path: Path, spool: Path) -> None:
    images = np.asarray(np.stack([pixels(seed) for seed in range(24)]), order=order)
    labels = np.arange(24) % 2
    if kind == "npy":
        path, n_parts = tmp_path / "x.npy", 1
        np.save(path, images)
    elif kind == "npz":
        path, n_parts = tmp_path / "x.npz", 1
        np.savez_compressed(path, images=images, labels=labels)
    else:
        path, n_parts = tmp_path / "x.npz", 2
        np.savez(
            path, train_images=images[:16], train_labels=labels[:16, None],
            test_images=images[16:], test_labels=labels[16:, None],
        )  # fmt: skip
    found = list_dataset(path)
    assert found.kind == "numpy" and len(found.images) == 24 and len(tars(spool)) == n_parts
    assert {each.label for each in found.images} == ({None} if kind == "npy" else {"0", "1"})
    expected = [None, None] if n_parts == 1 else ["test", "train"]
    assert [found.images[0].split, found.images[-1].split] == expected
    read = [read_image(found.source, each)[0].permute(1, 2, 0).numpy() for each in found.images]
    order_of = [*range(24)] if n_parts == 1 else [*range(16, 24), *range(16)]
    assert all(np.array_equal(a, images[at]) for a, at in zip(read, order_of, strict=True))
    before = tars(spool)
    list_dataset(path)
    assert tars(spool) == before


def test_a_job_on_numpys_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([pixels(seed) for seed in range(24)]))
    run = discover(tmp_path / "x.npy", run=tmp_path / "run", **OPTIONS)
    assert np.array_equal(open_run(run.folder).image("images.tar/000005.png"), pixels(5))


def test_files_of_numpy_that_are_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match="has no array of images"):
        list_dataset(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="has no array of images"):
        list_dataset(tmp_path / "b.npy")
    (tmp_path / "c.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match="cannot be read as arrays"):
        list_dataset(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.stack([pixels(seed) for seed in range(6)]))
    data = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(data[:-5000])
    with pytest.raises(UserError, match=r"damaged|cannot be read"):
        list_dataset(tmp_path / "d.npy")


@pytest.mark.parametrize(
    ("ending", "says"),
    [(".xlsx", "save the table as CSV"), (".h5", "as .npy"), (".mat", "loadmat"),
     (".tfrecord", "one by one"), (".lmdb", "one by one"), (".tar.gz", "unpack it first"),
     (".pkl", "may hold code"), (".doc", "neither a folder nor a table")],
)  # fmt: skip
def test_what_is_no_dataset_says_how_it_is_brought(ending: str, says: str, tmp_path: Path) -> None:
    (tmp_path / f"x{ending}").write_bytes(b"x")
    with pytest.raises(UserError, match=says):
        list_dataset(tmp_path / f"x{ending}")


def test_a_second_listing_opens_no_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(tmp_path / "pets")
    found = list_dataset(f"parquet:{tmp_path}/pets/*.parquet")

    def never(*_: object) -> None:
        raise AssertionError("what is spooled needs no Parquet")

    monkeypatch.setattr(parquet_rows, "Rows", never)
    again = list_dataset(f"parquet:{tmp_path}/pets/*.parquet")
    assert again.images == found.images and again.remarks == found.remarks
