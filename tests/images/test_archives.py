"""Archives are read by offset, as shards of WebDataset or as folders; hostile ones are refused."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.analysis.run import open_run
from pipeline.errors import UserError
from pipeline.images import DecodeError, list_dataset, patterns, read_image
from pipeline.jobs.discover import discover

RNG = np.random.default_rng(0)


def picture(seed: int, side: int = 40) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def tar(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def zipped(path: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def shards(folder: Path, n: int = 3, each: int = 8) -> dict[str, bytes]:
    """Write shards as WebDataset does; return the images by path."""
    images = {}
    for shard in range(n):
        members = {}
        for index in range(each):
            key = f"{shard * each + index:05}"
            images[f"set-{shard:03}.tar/{key}.png"] = members[f"{key}.png"] = picture(
                index + 100 * shard
            )
            members[f"{key}.cls"] = str(index % 2).encode()
            members[f"{key}.json"] = json.dumps({"caption": "x"}).encode()
        tar(folder / f"set-{shard:03}.tar", members)
    return images


@pytest.mark.parametrize("name", ["set-{000..002}.tar", "set-*.tar", "set-{000,001,002}.tar"])
@pytest.mark.parametrize("prefix", ["", "wds:"])
def test_shards_of_webdataset_are_listed_and_read(name: str, prefix: str, tmp_path: Path) -> None:
    images = shards(tmp_path)
    found = list_dataset(f"{prefix}{tmp_path / name}")
    assert {each.path for each in found.images} == set(images)
    assert {each.label for each in found.images} == {"0", "1"}
    assert found.kind == "wds" and found.name == "set"
    for each in found.images:
        assert found.source.read(each) == images[each.path]
        assert each.size == len(images[each.path])
    one = list_dataset(tmp_path / "set-001.tar")
    assert {each.path for each in one.images} == {path for path in images if "001.tar" in path}


def test_a_job_on_shards_goes_to_the_atlas_and_on(tmp_path: Path) -> None:
    shards(tmp_path)
    where = f"{tmp_path}/set-{{000..002}}.tar"
    run = discover(where, model="sample", image_size=32, k=3, run=tmp_path / "run")
    assert (run.folder / "atlas" / "index.html").exists()
    frame = run.table("images")
    assert len(frame) == 24 and set(frame.label) == {"0", "1"}
    opened = open_run(run.folder)
    image = opened.image("set-001.tar/00009.png")
    assert np.array_equal(image, np.asarray(Image.open(io.BytesIO(picture(101)))))
    bank = (run.folder / "bank" / "bank.h5").read_bytes()
    discover(run=run.folder)
    assert (run.folder / "bank" / "bank.h5").read_bytes() == bank
    # An archive that was written again with other images is another dataset.
    tar(tmp_path / "set-001.tar", {f"{8 + n:05}.png": picture(900 + n) for n in range(8)})
    with pytest.raises(UserError, match="was begun with other images"):
        discover(where, model="sample", image_size=32, k=3, run=tmp_path / "run")


def test_archives_are_called_anything_and_captions_are_no_labels(tmp_path: Path) -> None:
    members = {"a.png": picture(0), "a.txt": b"a photograph of a cat", "b.png": picture(1)}
    tar(tmp_path / "deep.tar" / "SHARD.TAR", members)  # a folder may be called so, too
    zipped(tmp_path / "PETS.ZIP", members)
    for name in ("deep.tar/SHARD.TAR", "PETS.ZIP"):
        found = list_dataset(tmp_path / name)
        assert [found.source.read(each) for each in found.images] == [picture(0), picture(1)]
        assert {each.label for each in found.images} == {None}
    found = list_dataset(tmp_path / "*" / "*.TAR")
    assert [each.path for each in found.images] == [
        "deep.tar/SHARD.TAR/a.png", "deep.tar/SHARD.TAR/b.png",
    ]  # fmt: skip
    assert [found.source.read(each) for each in found.images] == [picture(0), picture(1)]


def test_members_that_say_labels_are_not_passed_over(tmp_path: Path) -> None:
    members = {
        "a.png": picture(0), "a.cls": b"3", "b.png": picture(1), "b.json": b'{"label": 4}',
        "c.png": picture(2), "c.txt": b"a photograph of a cat",
    }  # fmt: skip
    tar(tmp_path / "x.tar", members)
    others = "passed over: {} members that are no images"
    said = ("labels are those of 2 members beside images", others.format(1))
    assert list_dataset(tmp_path / "x.tar").remarks == said
    assert list_dataset(tmp_path / "x.tar", labels="none").remarks == (others.format(3),)


def test_a_zip_file_is_read_as_a_folder(tmp_path: Path) -> None:
    names = ["photos/cat/1.png", "photos/dog/2.png", "__MACOSX/photos/cat/._1.png"]
    members = {name: picture(seed) for seed, name in enumerate(names)} | {"photos/read.me": b"x"}
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        zipped(tmp_path / "pets.zip", members, method)
        found = list_dataset(tmp_path / "pets.zip")
        assert {each.path: each.label for each in found.images} == {
            "pets.zip/photos/cat/1.png": "cat", "pets.zip/photos/dog/2.png": "dog",
        }  # fmt: skip
        assert [found.source.read(each) for each in found.images] == [members[n] for n in names[:2]]
        assert found.remarks == ("passed over: 2 members that are no images",)
    assert found.name == "pets"
    run = discover(tmp_path / "pets.zip", model="sample", image_size=32, k=2, run=tmp_path / "run")
    assert (run.folder / "atlas" / "index.html").exists()
    top = list_dataset(tmp_path / "pets.zip", labels="top")
    assert {each.label for each in top.images} == {"photos"}


HOSTILE = {
    "../out.png": "leads out of the archive",
    "/etc/out.png": "leads out of the archive",
    "a/../../out.png": "leads out of the archive",
    "..\\out.png": "leads out of the archive",
    "C:/out.png": "leads out of the archive",
}


def test_members_that_lead_out_are_refused(tmp_path: Path) -> None:
    members = {name: picture(0) for name in ("a.png", *HOSTILE)}
    tar(tmp_path / "x.tar", members)
    zipped(tmp_path / "x.zip", members)
    for name in ("x.tar", "x.zip"):
        found = list_dataset(tmp_path / name)
        assert [each.path for each in found.images] == [f"{name}/a.png"]
        said = {each.path.removeprefix(f"{name}/"): each.reason for each in found.rejected}
        for path, words in HOSTILE.items():
            assert words in said.get(path, said.get(path.replace("\\", "/"), ""))


def test_links_copies_and_secrets_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in (("link.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE),
                           ("pipe.png", tarfile.FIFOTYPE)):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for seed in (1, 2):
            info = tarfile.TarInfo("a.png")
            info.size = len(picture(seed))
            archive.addfile(info, io.BytesIO(picture(seed)))
    found = list_dataset(tmp_path / "x.tar")
    assert [found.source.read(each) for each in found.images] == [picture(1)]
    reasons = {each.path: each.reason for each in found.rejected}
    assert {path.removeprefix("x.tar/") for path in reasons} == {
        "link.png", "hard.png", "pipe.png", "a.png",
    }  # fmt: skip
    assert reasons["x.tar/a.png"] == "a second member of this name"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as zip_file:
        info_of_link = zipfile.ZipInfo("link.png")
        info_of_link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zip_file.writestr(info_of_link, "/etc/passwd")
        zip_file.writestr("a.png", picture(1))
        zip_file.writestr("b.png", picture(2), zipfile.ZIP_LZMA)
    found = list_dataset(tmp_path / "x.zip")
    assert [each.path for each in found.images] == ["x.zip/a.png"]
    assert len(found.rejected) == 2


def test_truncated_archives_give_what_is_whole(tmp_path: Path) -> None:
    shards(tmp_path, n=1)
    data = (tmp_path / "set-000.tar").read_bytes()
    whole = list_dataset(tmp_path / "set-000.tar")
    last = max(whole.images, key=lambda each: each.path)
    index = whole.source._index("set-000.tar")  # type: ignore[attr-defined]
    (tmp_path / "set-000.tar").write_bytes(data[: index.members["00007.png"].offset + 99])
    found = list_dataset(tmp_path / "set-000.tar")
    assert len(found.images) == 7
    assert any(
        "ends within it" in each.reason or "damaged" in each.reason for each in found.rejected
    )
    with pytest.raises(DecodeError, match="the archive ends within it"):
        whole.source.read(last)
    zipped(tmp_path / "x.zip", {"a.png": picture(0)})
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data[:-30])
    with pytest.raises(UserError, match=r"x\.zip is no zip file that can be read"):
        list_dataset(tmp_path / "x.zip")


def test_bombs_and_damage_in_zip_files_are_refused_image_by_image(tmp_path: Path) -> None:
    zipped(tmp_path / "x.zip", {"bomb.png": bytes(50_000_000), "a.png": picture(0)})
    found = list_dataset(tmp_path / "x.zip")
    bomb = next(each for each in found.images if "bomb" in each.path)
    with pytest.raises(DecodeError):
        read_image(found.source, bomb)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    at = data.index(picture(0)[30:40]) if picture(0)[30:40] in data else len(data) // 2
    data[at] ^= 0xFF
    (tmp_path / "y.zip").write_bytes(data)
    found = list_dataset(tmp_path / "y.zip")
    for each in found.images:
        with pytest.raises(DecodeError):
            read_image(found.source, each)


def test_a_label_that_cannot_be_read_is_listed_and_its_image_stays(tmp_path: Path) -> None:
    zipped(tmp_path / "x.zip", {"a.png": picture(0), "a.cls": b"7" * 40, "b.png": picture(1)})
    data = (tmp_path / "x.zip").read_bytes()
    at = data.index(b"PK\3\4", data.index(b"a.cls") - 40)
    (tmp_path / "x.zip").write_bytes(data[:at] + b"no" + data[at + 2 :])
    found = list_dataset(tmp_path / "x.zip")
    assert {each.path: each.label for each in found.images} == {
        "x.zip/a.png": None, "x.zip/b.png": None,
    }  # fmt: skip
    assert [each.path for each in found.rejected] == ["x.zip/a.cls"]


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(UserError, match=r"x\.tar is no tar file that can be read"):
        list_dataset(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "y.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(UserError, match="a compressed one is unpacked first"):
        list_dataset(tmp_path / "y.tar")
    with pytest.raises(UserError, match="does not exist: no archive is called so"):
        list_dataset(tmp_path / "none-{0..3}.tar")
    tar(tmp_path / "z.tar", {"a.txt": b"x"})
    with pytest.raises(UserError, match="no archive holds an image"):
        list_dataset(tmp_path / "z.tar")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a-{08..11}.tar", ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]),
        ("a-{8..10}", ["a-8", "a-9", "a-10"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("plain{x}", ["plain{x}"]),
        ("{3..1}", ["3", "2", "1"]),
    ],
)
def test_braces_stand_for_ranges_and_lists(text: str, names: list[str]) -> None:
    assert list(patterns.expand(text)) == names


def test_braces_that_never_end_are_refused() -> None:
    for text in ("{0..99999999999}", "{0..999}" * 3):
        with pytest.raises(ValueError, match="more than 1,000,000 names"):
            list(patterns.expand(text))


def test_wildcards_one_file_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat/1.png", "dog/2.png", "dog/3.jpg", "odd[1].png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(1))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = list_dataset("~/photos/*/*.png")
    assert {each.path: each.label for each in found.images} == {
        "cat/1.png": "cat", "dog/2.png": "dog",
    }  # fmt: skip
    assert len(list_dataset(tmp_path / "photos" / "**" / "*").images) == 4
    (one,) = list_dataset(tmp_path / "photos" / "odd[1].png").images
    assert (one.path, one.label) == ("odd[1].png", None)
    assert len(list_dataset("~/photos").images) == 4
    with pytest.raises(UserError, match="does not exist: no file is called so"):
        list_dataset(tmp_path / "*.webp")
    where = tmp_path / "photos" / "*" / "*.png"
    run = discover(where, model="sample", image_size=32, k=2, run=tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert open_run(run.folder).image("cat/1.png").shape == (40, 40, 3)
    discover(run=run.folder)
