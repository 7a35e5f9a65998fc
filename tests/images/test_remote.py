"""Images that lie elsewhere are those of the same folder here: listed, read, and when it fails."""

from __future__ import annotations

import errno
import io
import json
import re
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.images import (
    DecodeError,
    ahead,
    answers,
    elsewhere,
    list_dataset,
    make_record,
    read_image,
    reading_ahead,
    trouble,
    urls,
    web,
)
from pipeline.images.inputs import read_contents
from pipeline.images.ranged import RemoteFile
from pipeline.jobs.discover import discover
from tests.images.web import Fault, Web, serving

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")

OPTIONS: dict[str, Any] = {"model": "sample", "image_size": 32, "k": 3}


def picture(seed: int, side: int = 40) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def mask() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(n: int = 12) -> dict[str, bytes]:
    return {f"{('cat', 'dog')[i % 2]}/{i:02} a#b%.png": picture(i) for i in range(n)}


def tarred(members: Mapping[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def memory() -> Iterator[Any]:
    """fsspec's file system in memory, empty before and after."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Wait a short time for servers that are silent; leave no thread and no connection behind."""
    monkeypatch.setattr(web, "SILENCE", 0.5)
    monkeypatch.setattr(trouble, "PAUSES", (0.01, 0.01, 0.01))
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    elsewhere.hang_up()
    yield
    elsewhere.hang_up()
    assert not threads()


def threads() -> list[str]:
    return [
        each.name for each in threading.enumerate() if each.name.startswith(("ahead", "elsewhere"))
    ]


def put(system: Any, folder: str, files: Mapping[str, bytes]) -> str:
    for name, data in files.items():
        system.pipe_file(f"/{folder}/{name}", data)
    return f"memory://{folder}"


def images_of(where: str | Path, **options: Any) -> dict[str, tuple[str | None, str | None]]:
    return {each.path: (each.label, each.split) for each in list_dataset(where, **options).images}


LAYOUTS: dict[str, dict[str, bytes]] = {
    "labels": pictures(),
    "splits": {f"images/{s}/{c}/{i}.png": picture(i)
               for i, (s, c) in enumerate([("train", "a"), ("val", "b"), ("train", "b")])},
    "programs": {"cat/1.png": picture(1), "@eaDir/1.png": picture(1), "cat/._1.png": picture(1),
                 ".Trash-1/files/2.png": picture(2), "cat/Thumbs.db": b"x", "read.me": b"x",
                 "LICENSE": b"words", "0a1b": picture(3), "a.heic": b"x",
                 "run/config.toml": b'encoding-type = "concordance.config"\n',
                 "run/atlas/1.png": picture(4)},
    "table": {"a/1.png": picture(1), "b/2.png": picture(2),
              "labels.csv": b"file_name,label\n./a/1.png,x\nb/2.png,y\n"},
    "masks": {f"{i}.png": picture(i) for i in range(3)} | {
        f"masks/{i}.png": mask() for i in range(3)},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_elsewhere_means_what_the_same_folder_here_means(
    name: str, memory: Any, tmp_path: Path
) -> None:
    files = LAYOUTS[name]
    here = list_dataset(write(tmp_path, files))
    there = list_dataset(put(memory, "some/photos", files) + "/")
    assert [(i.path, i.image_id, i.label, i.split, i.size) for i in there.images] == [
        (i.path, i.image_id, i.label, i.split, i.size) for i in here.images
    ]
    assert [each.partition(": they are")[0] for each in there.remarks] == [
        each.partition(": they are")[0] for each in here.remarks
    ]
    assert there.fingerprint() == here.fingerprint() and there.name == "photos"
    for a, b in zip(here.images, there.images, strict=True):
        assert here.source.read(a) == there.source.read(b) and b.modified
    top = {"labels": "top"}
    assert images_of(tmp_path, **top) == images_of("memory://some/photos", **top)


def test_pages_of_a_web_server_are_listed(tmp_path: Path) -> None:
    files = {f"photos/{name}": data for name, data in pictures().items()}
    with serving(files | {"other/x.png": picture(99), "photos/read.me": b"x"}) as server:
        found = list_dataset(f"{server.url}/photos/")
        here = list_dataset(write(tmp_path, pictures()))
        assert found.fingerprint() == here.fingerprint()
        assert {i.path: found.source.read(i) for i in found.images} == pictures()
        assert found.remarks == ("passed over: 1 ending in .me",)
        star = list_dataset(f"{server.url}/photos/cat/*.png")
        assert len(star.images) == 6 and star.source.read(star.images[0]) == picture(0)
        with pytest.raises(UserError, match="does not list its folders"):
            list_dataset(f"{server.url}/photos/*/*.png")
        server.lists = False
        for where in ("photos/", "photos/*.png"):
            with pytest.raises(UserError, match="cannot be read: file unreadable: No such file"):
                list_dataset(f"{server.url}/{where}")
        server.files["empty/"] = b"<html><a href='https://other.host/a.png'>x</a></html>"
        with pytest.raises(UserError, match="name them in a table with a column of paths"):
            list_dataset(f"{server.url}/empty/")


def test_names_with_wildcards_and_single_files(memory: Any) -> None:
    where = put(memory, "photos", {"a/1.png": picture(1), "b/2.png": picture(2), "b/3.txt": b""})
    assert images_of(f"{where}/*/*.png") == {"a/1.png": ("a", None), "b/2.png": ("b", None)}
    assert images_of(f"{where}/{{a,b}}/*.png") == images_of(f"{where}/**/*.png")
    found = list_dataset(f"{where}/a/1.png")
    assert [each.path for each in found.images] == ["1.png"]
    assert found.source.read(found.images[0]) == picture(1)
    with pytest.raises(UserError, match="no file is called so"):
        list_dataset(f"{where}/*.webp")


SHARDS = "train-{000..002}.tar"


def shards(n: int = 3, each: int = 6, side: int = 40, **options: Any) -> dict[str, bytes]:
    files = {}
    for shard in range(n):
        members: dict[str, bytes] = {}
        for index in range(each):
            key = f"{shard * each + index:05}"
            members[f"{key}.png"] = picture(index + 100 * shard, side)
            members[f"{key}.cls"] = str(index % 2).encode()
            members[f"{key}.json"] = json.dumps({"caption": "x" * (9000 if index else 9)}).encode()
        files[f"train-{shard:03}.tar"] = tarred(members, **options)
    return files


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("prefix", ["", "wds:"])
def test_shards_elsewhere_are_read_by_ranges(prefix: str, form: int, tmp_path: Path) -> None:
    files = shards(format=form)
    here = list_dataset(write(tmp_path, files) / SHARDS)
    with serving(files) as server:
        found = list_dataset(f"{prefix}{server.url}/{SHARDS}")
        assert found.images == here.images and found.kind == "wds" and found.name == "train"
        for each in found.images:
            assert found.source.read(each) == here.source.read(each)
        assert len(images_of(f"{server.url}/train-*.tar")) == 18
        n = sum(server.asked.values())
        again = list_dataset(f"{prefix}{server.url}/{SHARDS}")
        assert again.images == here.images and sum(server.asked.values()) == n + 3
        assert all("Range" in each for each in server.headers if ".tar" in each["path"])


@pytest.mark.slow
def test_little_of_an_archive_is_fetched_to_know_what_is_in_it(memory: Any) -> None:
    files = {f"{i:04}.png": picture(i, 120) for i in range(100)}  # of 43 kB
    for name, pack in (("a.tar", tarred), ("a.zip", zipped)):
        data = pack(files)
        with serving({name: data}) as server:
            found = list_dataset(f"{server.url}/{name}")
            assert len(found.images) == 100
            assert server.n_bytes < 0.13 * len(data), name
            before = server.n_bytes
            assert found.source.read(found.images[7]) == picture(7, 120)
            assert server.n_bytes - before < 1.02 * len(picture(7, 120)) + 200
            assert server.asked[name] < 110
            n = server.asked[name]
            again = list_dataset(f"{server.url}/{name}")  # what is in it is known by now
            assert again.images == found.images and server.asked[name] == n + 1
            server.files[name] = pack({**files, "more.png": picture(101)})
            assert len(list_dataset(f"{server.url}/{name}").images) == 101
    small = {f"{i:04}.png": picture(i, 20) for i in range(100)}  # of 1.3 kB
    with serving({"a.tar": tarred(small)}) as server:
        assert len(list_dataset(f"{server.url}/a.tar").images) == 100


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_file_elsewhere_is_read_as_the_one_here(method: int, tmp_path: Path) -> None:
    members = pictures() | {"cat/03.cls": b"x", "read.me": b"x", "../out.png": b"x"}
    files = {"pets.zip": zipped(members, method), "none.zip": b"no zip", "nothing.zip": b""}
    here = list_dataset(write(tmp_path, files) / "pets.zip")
    with serving(files) as server:
        found = list_dataset(f"{server.url}/pets.zip")
        assert (found.images, found.rejected, found.remarks) == (
            here.images, here.rejected, here.remarks,
        )  # fmt: skip
        assert [found.source.read(i) for i in found.images] == [
            here.source.read(i) for i in here.images
        ]
        for name, words in (("none", "no zip file"), ("nothing", "empty"), ("lost", "No such")):
            with pytest.raises(UserError, match=words):
                list_dataset(f"{server.url}/{name}.zip")


def test_a_server_that_gives_files_whole_only_is_refused() -> None:
    files = shards(1, side=200)
    with serving(files, ranges=False) as server:
        with pytest.raises(UserError, match="answers no range"):
            list_dataset(f"{server.url}/train-000.tar")
        server.ranges = True
        found = list_dataset(f"{server.url}/train-000.tar")
        server.ranges = False
        with pytest.raises(UserError, match="answers no range"):
            read_contents(found.source, found.images[0])
        server.ranges = True
        server.files["train-000.tar"] += b"more"
        with pytest.raises(UserError, match=r"it had \d+ bytes when it was listed"):
            read_contents(found.source, found.images[0])


def test_shards_that_are_not_there_are_named(memory: Any) -> None:
    files = shards()
    del files["train-001.tar"]
    where = put(memory, "shards", files)
    found = list_dataset(f"{where}/{SHARDS}")
    assert len(found.images) == 12
    assert [(each.path, each.reason) for each in found.rejected] == [
        ("train-001.tar", "file unreadable: No such file or directory")
    ]
    with pytest.raises(UserError, match=r"cannot be read: none-0\.tar: file unreadable"):
        list_dataset(f"{where}/none-{{0..3}}.tar")


def test_what_is_read_from_this_machine_alone_says_so(memory: Any) -> None:
    for name in ("instances.json", "images.NPY", "pets.npz", "data.arrow"):
        where = put(memory, "far", {name: b"{}"})
        with pytest.raises(UserError, match="are not read elsewhere; fetch them to this machine"):
            list_dataset(f"{where}/{name}")
    for values in ([{"bytes": picture(0), "path": "0.png"}], [picture(0)]):
        pq.write_table(pa.table({"image": values}), written := io.BytesIO())
        where = put(memory, "far", {"x.parquet": written.getvalue()})
        with pytest.raises(UserError, match="is read on this machine: fetch it first") as refused:
            list_dataset(f"{where}/x.parquet")
        assert len(str(refused.value)) < 300
    for source in ("coco", "numpy", "parquet"):
        with pytest.raises(UserError, match="are not read elsewhere; fetch them to this machine"):
            list_dataset(f"{source}:{where}/x.parquet")


def csv(rows: Mapping[str, str]) -> bytes:
    return "".join(["path,label\n", *(f"{a},{b}\n" for a, b in rows.items())]).encode()


def test_a_table_here_names_urls(tmp_path: Path, memory: Any) -> None:
    put(memory, "bucket", {"1.png": picture(1)})
    write(tmp_path, {"local.png": picture(3), "far/too.png": picture(4)})
    with serving({"a/2.png": picture(2)}) as server:
        rows = {
            "memory://bucket/1.png": "x", f"{server.url}/a/2.png?id=3": "y", "local.png": "x",
            (tmp_path / "far" / "too.png").as_uri(): "z", "ftp://host/5.png": "x",
            "zip://a.png::file:///etc/a.zip": "x", "http:///6.png": "x",
        }  # fmt: skip
        table = tmp_path / "list.csv"
        table.write_bytes(csv(rows))
        found = list_dataset(table)
        assert {each.path: each.label for each in found.images} == {
            "memory://bucket/1.png": "x", f"{server.url}/a/2.png?id=3": "y", "local.png": "x",
            "far/too.png": "z",
        }  # fmt: skip
        assert found.remarks == (f"2 images are fetched from {server.url}, memory://bucket",)
        contents = {each.path: found.source.read(each) for each in found.images}
        assert sorted(contents.values()) == sorted(map(picture, (1, 2, 3, 4)))
        reasons = {each.path.partition(":")[0]: each.reason for each in found.rejected}
        assert "no protocol 'ftp'" in reasons["ftp"] and "chains" in reasons["zip"]
        assert "names no host" in reasons["http"]


def test_a_table_elsewhere_names_nothing_of_this_machine(tmp_path: Path, memory: Any) -> None:
    write(tmp_path, {"secret.png": picture(9)})
    secret = tmp_path / "secret.png"
    up = "../" * 9 + str(secret)[1:]
    rows = {str(secret): "a", secret.as_uri(): "a", up: "a", f"file:{secret}": "a",
            f"local://{secret}": "a", "~/x.png": "a", f"simplecache::file://{secret}": "a",
            "C:\\x.png": "a", "sub/1.png": "b", "./sub/../2.png": "c", "../up.png": "d",
            "memory://other/4.png": "e"}  # fmt: skip
    files = {"t/list.csv": csv(rows), "t/sub/1.png": picture(1), "t/2.png": picture(2),
             "up.png": picture(3)}  # fmt: skip
    put(memory, "other", {"4.png": picture(4)})
    with serving(files) as server:
        for where in (f"{server.url}/t/list.csv", put(memory, "root", files) + "/t/list.csv"):
            found = list_dataset(where)
            read = {}
            for each in found.images:
                try:
                    read[each.path] = found.source.read(each)
                except (DecodeError, FileNotFoundError):
                    continue
            assert read == {
                "sub/1.png": picture(1), "2.png": picture(2), "../up.png": picture(3),
                "memory://other/4.png": picture(4),
            }  # fmt: skip
            refused = {each.path for each in found.rejected}
            assert {str(secret), secret.as_uri(), "~/x.png"} <= refused
            assert len(refused) >= 7 and found.name == "list"
            with pytest.raises(DecodeError):
                found.source.read(make_record(str(secret)))
            with pytest.raises((DecodeError, ValueError)):
                found.source.read(make_record(secret.as_uri()))


@pytest.mark.parametrize("ending", ["jsonl", "tsv", "parquet"])
def test_tables_elsewhere_are_of_every_kind(ending: str, memory: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"file_name": ["1.png", "2.png"], "class": ["a", "b"]})
    path = tmp_path / f"list.{ending}"
    if ending == "parquet":
        frame.to_parquet(path)
    elif ending == "tsv":
        frame.to_csv(path, sep="\t", index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    where = put(memory, "x", {"1.png": picture(1), "2.png": picture(2),
                              path.name: path.read_bytes()})  # fmt: skip
    found = list_dataset(f"{where}/{path.name}")
    assert {each.path: each.label for each in found.images} == {"1.png": "a", "2.png": "b"}
    assert "its columns are taken: 'file_name' for paths, 'class' for labels" in found.remarks
    assert found.source.read(found.images[1]) == picture(2)


SIGNED = "X-Amz-Signature=5ec2e7&X-Amz-Credential=me%2Fus&X-Amz-Expires=60"


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://me:word@host/a.jpg", "https://host/a.jpg"),
        ("https://token@host/a.jpg?id=3&token=x#part", "https://host/a.jpg?id=3"),
        (f"https://b.s3.amazonaws.com/a.jpg?{SIGNED}&v=2", "https://b.s3.amazonaws.com/a.jpg?v=2"),
        ("https://x.blob.core.windows.net/c/a.jpg?sp=r&st=1&se=2&sv=3&sr=b&sig=s%3D",
         "https://x.blob.core.windows.net/c/a.jpg"),
        ("https://s.googleapis.com/b/a?GoogleAccessId=a&Expires=1&Signature=z",
         "https://s.googleapis.com/b/a"),
        ("https://h/a.jpg?w=640&sp=1", "https://h/a.jpg?w=640&sp=1"),
        ("s3://key:secret@bucket/a?b#c.jpg", "s3://bucket/a?b#c.jpg"),
        ("abfs://box@account.dfs.core.windows.net/a", "abfs://box@account.dfs.core.windows.net/a"),
        ("photos/1.jpg", "photos/1.jpg"),
    ],
)  # fmt: skip
def test_no_secret_is_part_of_a_place(url: str, plain: str) -> None:
    assert urls.without_secrets(url) == plain
    assert urls.scrubbed(f"no '{url}' there") == f"no '{plain}' there"


def test_secrets_are_used_and_written_nowhere(tmp_path: Path) -> None:
    with serving({f"{i}.png": picture(i) for i in range(8)}) as server:
        host = server.url.replace("http://", "http://me:pass-word@")
        table = tmp_path / "list.csv"
        table.write_bytes(csv({f"{host}/{i}.png?id={i}&{SIGNED}": "ab"[i % 2] for i in range(8)}))
        run = discover(table, run=tmp_path / "run", **OPTIONS)
        assert set(run.table("images").path) == {f"{server.url}/{i}.png?id={i}" for i in range(8)}
        assert all("5ec2e7" in each["path"] for each in server.headers)
        assert all(each["Authorization"].startswith("Basic ") for each in server.headers)
        opened = open_run(run.folder)
        path = f"{server.url}/3.png?id=3"
        assert np.array_equal(opened.image(path), np.asarray(Image.open(io.BytesIO(picture(3)))))
        assert "5ec2e7" in server.headers[-1]["path"]
        server.fault = lambda path, n: 503
        with pytest.raises(UserError) as refused:
            opened.image(f"{server.url}/4.png?id=4")
        assert "5ec2e7" not in str(refused.value) and "pass-word" not in str(refused.value)
    for file in run.folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert b"5ec2e7" not in data and b"pass-word" not in data, file
    same = {f"http://h/1.png?{sign}=1": "a" for sign in ("sig", "token")}
    table.write_bytes(csv(same))
    assert [each.reason for each in list_dataset(table).rejected] == [
        "without what lets one in, its URL is that of another image"
    ]
    for where in ("https://me:word@host/a.tar", f"https://host/list.csv?{SIGNED}"):
        with pytest.raises(UserError, match="was given with a password or signature") as refused:
            list_dataset(where)
        assert "word@" not in str(refused.value) and "5ec2e7" not in str(refused.value)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("ftp://host/x/", "no protocol 'ftp'"),
        ("ssh://host/x.tar", "no protocol 'ssh'"),
        ("simplecache::http://host/x.zip", "chains of protocols"),
        ("zip://*.png::http://host/x.zip", "chains of protocols"),
        ("http:///x", "names no host"),
        ("http://[bad/x.csv", "names no host"),
        ("remote:file:///etc", "lies on this machine"),
        ("s3://bucket/x/", "s3fs is not installed: pip install 's3fs', or concordance.s3."),
        ("gs://bucket/x.tar", "gcsfs is not installed"),
        ("wds:az://box/x.tar", "adlfs is not installed"),
    ],
)  # fmt: skip
def test_what_is_not_fetched_is_said(where: str, words: str) -> None:
    for name in ("s3fs", "gcsfs", "adlfs"):
        if words.startswith(name) and __import__("importlib.util").util.find_spec(name):
            pytest.skip(f"{name} is installed")
    with pytest.raises(UserError, match=words):
        list_dataset(where)


def test_a_file_url_is_the_path(tmp_path: Path) -> None:
    write(tmp_path / "ph otos", pictures())
    found = list_dataset((tmp_path / "ph otos").as_uri())
    assert found.kind == "folder" and len(found.images) == 12
    with pytest.raises(UserError, match="does not exist"):
        list_dataset((tmp_path / "none").as_uri())


FOR_GOOD: list[tuple[Fault, type[Exception], int | None]] = [
    (404, FileNotFoundError, errno.ENOENT),
    (410, FileNotFoundError, errno.ENOENT),
    (401, PermissionError, errno.EACCES),
    (403, PermissionError, errno.EACCES),
    (400, DecodeError, None),
    ("to file:///etc/passwd", DecodeError, None),
]


@pytest.mark.parametrize(("fault", "kind", "number"), FOR_GOOD)
def test_an_image_that_is_refused_for_good_is_rejected(
    fault: Fault, kind: type[Exception], number: int | None, tmp_path: Path
) -> None:
    table = tmp_path / "list.csv"
    with serving({"1.png": picture(1)}, fault=lambda path, n: fault) as server:
        table.write_bytes(csv({f"{server.url}/1.png": "a"}))
        found = list_dataset(table)
        with pytest.raises(kind) as refused:
            found.source.read(found.images[0])
        assert getattr(refused.value, "errno", None) == number
        with pytest.raises(DecodeError, match="file unreadable"):
            read_image(found.source, found.images[0])
        assert server.asked["1.png"] == 2


@pytest.mark.parametrize("fault", [500, 502, 503, 429, 408, "short", "dead", "stalled"])
@pytest.mark.parametrize("is_archive", [False, True])
def test_trouble_that_passes_is_waited_for(fault: Fault, is_archive: bool, tmp_path: Path) -> None:
    members = {"a.png": picture(1), "b.png": picture(2)}
    with serving({"x.tar": tarred(members), **members}) as server:
        table = tmp_path / "list.csv"
        table.write_bytes(csv({f"{server.url}/{name}": "a" for name in members}))
        found = list_dataset(f"{server.url}/x.tar" if is_archive else table)
        name = "x.tar" if is_archive else "a.png"
        n = server.asked[name]
        server.fault = lambda path, at: fault if n < at <= n + 2 else None
        if fault == "dead":  # which the library, too, asks again
            server.fault = lambda path, at: fault if n < at <= n + 5 else None
        assert read_contents(found.source, found.images[0]) == picture(1)
        assert server.asked[name] >= n + 3
        server.fault = lambda path, at: fault
        with pytest.raises(UserError, match=r"could not be read in 4 attempts.*goes on from here"):
            read_contents(found.source, found.images[1])


def test_a_server_that_is_gone_is_no_fault_of_images(tmp_path: Path) -> None:
    with serving({}) as server:
        pass
    for where in (f"{server.url}/x.tar", f"{server.url}/photos/", f"{server.url}/list.csv"):
        with pytest.raises(UserError, match="could not be read in 4 attempts"):
            list_dataset(where)


def test_what_is_too_large_or_empty_is_refused() -> None:
    large = serving({"1.png": bytes(5_000_000)})
    words = "too large: 5000000 bytes, at most 1000000"
    with large as server, pytest.raises(DecodeError, match=words):
        elsewhere.read(f"{server.url}/1.png", most=1_000_000)
    with serving({"1.png": b""}) as server, pytest.raises(DecodeError, match="empty file"):
        elsewhere.read(f"{server.url}/1.png")


def columns(run: Any, *leave_out: str) -> pd.DataFrame:
    frame: pd.DataFrame = run.table("images").sort_values("image_id").reset_index(drop=True)
    return frame.drop(columns=list(leave_out))


@pytest.mark.slow
def test_jobs_elsewhere_come_to_what_the_job_here_comes_to(tmp_path: Path, memory: Any) -> None:
    files = pictures(40)
    here = discover(write(tmp_path / "photos", files), run=tmp_path / "here", **OPTIONS)
    there = discover(put(memory, "photos", files), run=tmp_path / "there", **OPTIONS)
    pd.testing.assert_frame_equal(columns(here), columns(there))
    for name in ("concepts", "image_concepts"):
        if name in here.sql("show tables")["name"].tolist():
            pd.testing.assert_frame_equal(here.table(name), there.table(name))
    with serving({f"photos/{name}": data for name, data in files.items()}) as server:
        web_run = discover(f"{server.url}/photos/", run=tmp_path / "web", **OPTIONS)
        pd.testing.assert_frame_equal(columns(here), columns(web_run))
        assert (web_run.folder / "atlas" / "index.html").exists()
        image = open_run(web_run.folder).image("dog/07 a#b%.png")
        assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(picture(7)))))
        n = sum(server.asked.values())
        bank = (web_run.folder / "bank" / "bank.h5").read_bytes()
        discover(run=web_run.folder)
        assert (web_run.folder / "bank" / "bank.h5").read_bytes() == bank
        assert sum(server.asked.values()) - n < 40  # what has not changed is not read again
    assert not threads()


@pytest.mark.slow
def test_a_job_on_shards_elsewhere_goes_to_the_atlas_and_on(tmp_path: Path) -> None:
    files = shards(3, 8)
    here = discover(write(tmp_path, files) / SHARDS, run=tmp_path / "here", **OPTIONS)
    with serving(files) as server:
        there = discover(f"{server.url}/{SHARDS}", run=tmp_path / "there", workers=2, **OPTIONS)
        pd.testing.assert_frame_equal(columns(here), columns(there))
        assert open_run(there.folder).image("train-001.tar/00009.png").shape == (40, 40, 3)
        discover(run=there.folder)
        other = shards(3, 8)["train-000.tar"].replace(b"IDAT", b"IDAX")
        server.files["train-001.tar"] = other
        with pytest.raises(UserError, match="was begun with other images"):
            discover(f"{server.url}/{SHARDS}", run=there.folder, **OPTIONS)


@pytest.mark.slow
def test_a_job_on_a_table_of_urls_stops_and_goes_on(tmp_path: Path) -> None:
    files = {f"{i}.png": picture(i) for i in range(60)}
    table = tmp_path / "list.csv"
    with serving(files) as server:
        table.write_bytes(csv({f"{server.url}/{name}": "ab"[len(name) % 2] for name in files}))
        lost: dict[str, Fault] = {"7.png": 404, "8.png": 403, "9.png": "short"}
        server.fault = lambda path, n: lost.get(path)
        with pytest.raises(UserError, match=r"9\.png could not be read in 4 attempts"):
            discover(table, run=tmp_path / "run", **OPTIONS)
        assert not threads()
        del lost["9.png"]
        run = discover(table, run=tmp_path / "run", **OPTIONS)
        assert len(run.table("images")) == 58
        said = run.table("rejected").set_index("path")["reason"].to_dict()
        assert said == {
            f"{server.url}/7.png": "file unreadable: No such file or directory",
            f"{server.url}/8.png": "file unreadable: Permission denied",
        }
        lost.clear()
        assert len(discover(run=tmp_path / "run").table("images")) == 60


def source_of(server: Web, n: int, tmp_path: Path) -> Any:
    table = tmp_path / "list.csv"
    table.write_bytes(csv({f"{server.url}/{i:03}.png": "a" for i in range(n)}))
    return list_dataset(table)


@pytest.mark.slow
def test_images_are_fetched_before_they_are_asked_for(tmp_path: Path) -> None:
    with serving({f"{i:03}.png": picture(i) for i in range(100)}, latency=0.02) as server:
        found = source_of(server, 100, tmp_path)
        with reading_ahead(found.source, found.images):
            read = [found.source.read(each) for each in found.images]
        assert read == [picture(i) for i in range(100)]
        assert server.most_at_once > 8 and max(server.asked.values()) == 1


def test_little_waits_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MOST_BYTES", 20 * len(picture(0)))
    monkeypatch.setattr(ahead, "TYPICAL", len(picture(0)))
    with serving({f"{i:03}.png": picture(i) for i in range(100)}) as server:
        found = source_of(server, 100, tmp_path)
        with reading_ahead(found.source, iter(found.images)):
            for n in (0, 1, 2, 30, 31):
                assert found.source.read(found.images[n]) == picture(n)
                time.sleep(0.2)
                assert sum(server.asked.values()) <= 20 + n + 2
            for each in reversed(found.images):  # in any order
                assert found.source.read(each) == picture(int(each.path[-7:-4]))
        assert server.asked["050.png"] == 1


def test_what_fails_ahead_fails_where_it_is_read(tmp_path: Path) -> None:
    faults: dict[str, Fault] = {"003.png": 404, "005.png": 503}
    with serving({f"{i:03}.png": picture(i) for i in range(10)}) as server:
        server.fault = lambda path, n: faults.get(path) if n == 1 or path == "003.png" else None
        found = source_of(server, 10, tmp_path)
        with reading_ahead(found.source, found.images):
            for number, each in enumerate(found.images):
                if number == 3:
                    with pytest.raises(DecodeError, match="No such file"):
                        read_contents(found.source, each)
                else:
                    assert read_contents(found.source, each) == picture(number)


def test_an_interrupt_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SILENCE", 3600)  # whoever waits for the server never ends
    with serving({f"{i:03}.png": picture(i) for i in range(50)}) as server:
        server.fault = lambda path, n: "stalled" if path > "003.png" else None
        found = source_of(server, 50, tmp_path)
        with pytest.raises(KeyboardInterrupt), reading_ahead(found.source, found.images):
            found.source.read(found.images[0])
            assert threads()
            raise KeyboardInterrupt
        assert not threads()
        server.over.set()


def open_sockets() -> set[str]:
    links = Path("/proc/self/fd")
    return {target for each in links.iterdir() if (target := _link(each)).startswith("socket:")}


def _link(each: Path) -> str:
    try:
        return str(each.readlink())
    except OSError:
        return ""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_no_connection_stays_open(tmp_path: Path) -> None:
    with serving({f"{i:03}.png": picture(i) for i in range(50)}) as server:
        found = source_of(server, 50, tmp_path)
        found.source.read(found.images[0])  # fsspec's thread is there from now on
        elsewhere.hang_up()
        time.sleep(0.2)
        before = open_sockets()
        with reading_ahead(found.source, found.images):
            for each in found.images[:20]:
                found.source.read(each)
            assert len(open_sockets()) > len(before)
        time.sleep(0.3)
        assert len(open_sockets()) <= len(before)


def test_a_local_source_reads_nothing_ahead(tmp_path: Path) -> None:
    write(tmp_path, {**pictures(), "x.tar": tarred(pictures()), "t.csv": csv({"x.png": "a"})})
    for where in (tmp_path / "cat", tmp_path / "x.tar"):
        found = list_dataset(where)
        with reading_ahead(found.source, found.images):
            assert not threads()
            assert found.source.read(found.images[0])


def test_a_file_elsewhere_is_read_in_parts(memory: Any) -> None:
    put(memory, "x", {"a.bin": bytes(range(256)) * 100})
    file = RemoteFile("memory://x/a.bin")
    assert file.size == 25_600 and file.read_at(10, 3) == b"\n\x0b\x0c"
    assert file.read_at(25_599, 10) == b"\xff" and file.read_at(30_000, 10) == b""
    with file.look_through() as opened:
        assert opened.read(3) == b"\0\1\2" and opened.seek(-2, 2) == 25_598
        assert opened.read() == b"\xfe\xff" and opened.seek(5) == 5
        assert opened.read(20_000) == (bytes(range(256)) * 100)[5:20_005]


def test_messages_of_libraries_have_no_numbers_of_files() -> None:
    """An error of a library may bear a number by chance that says a file is not there."""

    class OddError(OSError):
        pass

    said = answers.as_of_a_disk(OddError(errno.ENOENT, "ssl"), "s3://b/x")
    assert isinstance(said, OSError) and not trouble.is_of_the_file(said)
    for status, kind in ((404, FileNotFoundError), (403, PermissionError), (503, OSError)):
        error = RuntimeError("x")
        error.response = {"ResponseMetadata": {"HTTPStatusCode": status}}  # type: ignore[attr-defined]
        assert isinstance(answers.as_of_a_disk(error, "s3://b/x"), kind)
    assert re.search("RuntimeError", str(answers.as_of_a_disk(RuntimeError(), "s3://b/x")))
