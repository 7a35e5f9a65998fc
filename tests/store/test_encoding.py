"""What a file says of itself: kinds, versions, digests, and HDF5 files that stay what they are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.store import encoding
from pipeline.store.encoding import (
    MOST_BYTES,
    SEAL,
    Encoding,
    EncodingError,
    open_hdf5,
    read_sealed,
    says_type,
    seal,
)

KIND = Encoding("concordance.kind", "2.5", oldest="2.3")
ONE = Encoding("concordance.one", "1.2")


@pytest.mark.parametrize(
    ("version", "is_read"),
    [
        ("2.2", False), ("2.3", True), ("2.4", True), ("2.5", True), ("2.6", False),
        ("1.4", False), ("3.4", False), ("2", False), ("2.", False), (".4", False),
        ("2.x", False), ("x.4", False), ("-2.4", False), (None, False), (2.4, True),
    ],
)  # fmt: skip
def test_versions_that_are_read(version: object, is_read: bool) -> None:
    assert KIND.reads(version) is is_read


def test_without_an_oldest_version_only_the_one_written_is_read() -> None:
    assert [ONE.reads(f"1.{minor}") for minor in (1, 2, 3)] == [False, True, False]
    assert (ONE.range, KIND.range) == ("1.2", "2.3 to 2.5")
    assert not Encoding("x", "1.2", oldest="").reads("1.1")
    assert not Encoding("x", "no version").reads("no version")
    assert not Encoding("x", "1.2", oldest="none").reads("1.2")


def test_a_file_of_another_kind_or_version_is_refused_with_both() -> None:
    where = Path("folder/file")
    assert KIND.check({"encoding-type": KIND.type, "encoding-version": "2.4"}, where) == "2.4"
    for says, held in (
        ({"encoding-type": KIND.type, "encoding-version": "3.0"}, "concordance.kind 3.0"),
        ({"encoding-type": "other", "encoding-version": "2.4"}, "other 2.4"),
        ({"encoding-type": "other"}, "other"),
        ({}, "something unknown"),
    ):
        with pytest.raises(EncodingError) as caught:
            KIND.check(says, where)
        assert str(caught.value) == (
            f"folder/file holds {held}, not concordance.kind 2.3 to 2.5:"
            " it was written by another version or program"
        )


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_sealed_file_comes_back_and_an_edited_one_does_not(tmp_path: Path) -> None:
    sealed = seal(ONE, {"b": [1, 2.5, None], "a": "ü"})
    path = write(tmp_path / "file.json", sealed)
    assert read_sealed(path, ONE) == {"b": [1, 2.5, None], "a": "ü"} | ONE.stamp()
    # The order of keys is nobody's edit.
    write(path, dict(reversed(sealed.items())))
    assert read_sealed(path, ONE)["a"] == "ü"
    for edited in (
        sealed | {"a": "u"},
        sealed | {"c": 1},
        sealed | {SEAL: "0" * 64},
        {key: value for key, value in sealed.items() if key != SEAL},
    ):
        write(path, edited)
        with pytest.raises(UserError, match=r"file\.json is damaged \(its contents .*\); mend it"):
            read_sealed(path, ONE, "mend it")


def test_digests_are_those_of_other_versions() -> None:
    text = (
        '{"a": "\\u00fc", "b": 1.5, "encoding-type": "concordance.one", "encoding-version": "1.2"}'
    )
    assert seal(ONE, {"b": 1.5, "a": "ü"})[SEAL] == hashlib.sha256(text.encode()).hexdigest()
    with pytest.raises(ValueError, match="Out of range"):
        seal(ONE, {"a": float("nan")})


def test_only_files_of_the_first_version_may_lack_a_digest(tmp_path: Path) -> None:
    first = Encoding("concordance.one", "1.2", oldest="1.0")
    says = {"encoding-type": first.type, "a": 1}
    path = write(tmp_path / "file.json", says | {"encoding-version": "1.0"})
    assert read_sealed(path, first)["a"] == 1
    write(path, says | {"encoding-version": "1.0", SEAL: "0" * 64})
    with pytest.raises(UserError, match="is damaged"):
        read_sealed(path, first)
    write(path, says | {"encoding-version": "1.1"})
    with pytest.raises(UserError, match="is damaged"):
        read_sealed(path, first)


@pytest.mark.parametrize("text", ["", "[1]", "3", "{", "{]", '{"a": "\ud800', "[" * 100_000])
def test_what_is_no_object_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match="is damaged") as caught:
        read_sealed(path, ONE)
    assert not str(caught.value).endswith(";")


def test_what_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\); mend it"):
        read_sealed(tmp_path / "none.json", ONE, "mend it")
    with (
        pytest.raises(UserError, match=r"none\.h5 is missing; mend it"),
        open_hdf5(tmp_path / "none.h5", ONE, "mend it"),
    ):
        pass


def hdf5(path: Path, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs.update(ONE.stamp())
        for name, value in arrays.items():
            file[name] = value
    return path


def test_files_are_asked_what_they_are(tmp_path: Path) -> None:
    made = [
        hdf5(tmp_path / "a.h5"),
        write(tmp_path / "a.json", ONE.stamp()),
        tmp_path / "a.parquet",
        tmp_path / "a.toml",
    ]
    table = pa.table({"a": [1]}).replace_schema_metadata(ONE.stamp())
    pq.write_table(table, made[2])
    made[3].write_text('encoding-type = "concordance.one"\n', encoding="utf-8")
    assert [says_type(path) for path in made] == [ONE.type] * 4
    pq.write_table(pa.table({"a": [1]}), made[2])
    assert says_type(made[2]) == ""
    write(made[1], {"encoding-type": 3})
    assert says_type(made[1]) is None
    for path in made:
        path.write_bytes(b"[1]x")
    assert [says_type(path) for path in made] == [None] * 4
    write(made[1], [1])
    (tmp_path / "link.json").symlink_to(write(tmp_path / "b.json", ONE.stamp()))
    for path in (made[1], tmp_path / "none.h5", tmp_path):
        assert says_type(path) is None


def test_hdf5_is_read_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", x=np.arange(3), text="abc")
    with open_hdf5(path, ONE) as file:
        assert file["x"][()].tolist() == [0, 1, 2]
    faults: list[Callable[[h5py.File], object]] = [
        lambda file: file["absent"],
        lambda file: int(file["text"][()]),
        lambda file: file["x"].shape[1],
        lambda file: file["x"].decode(),
    ]
    for fault in faults:
        with (
            pytest.raises(UserError, match=r"a\.h5 is damaged \(.*\); mend it"),
            open_hdf5(path, ONE, "mend it") as file,
        ):
            fault(file)
    with (
        pytest.raises(EncodingError, match=r"holds concordance\.one 1\.2, not concordance\.kind"),
        open_hdf5(path, KIND),
    ):
        pass
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.h5 is damaged"), open_hdf5(path, ONE):
        pass


def test_errors_of_others_pass_through(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5")
    with pytest.raises(UserError, match="mine"), open_hdf5(path, ONE):
        raise UserError("mine")
    with pytest.raises(ZeroDivisionError), open_hdf5(path, ONE):
        raise ZeroDivisionError


def test_more_than_memory_is_refused_and_what_is_compressed_well_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_BYTES == 4 << 30
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update(ONE.stamp())
        file.create_dataset("a", (MOST_BYTES // 2,), np.uint8, chunks=(1 << 20,))
        file.create_dataset("group/b", (MOST_BYTES // 2,), np.uint8, chunks=(1 << 20,))
    with open_hdf5(path, ONE):
        pass
    monkeypatch.setattr(encoding, "MOST_BYTES", 1000)
    os.utime(path)  # it was looked at already, as it was
    n_bytes = path.stat().st_size
    small = hdf5(tmp_path / "b.h5", x=np.zeros(20_000, np.uint8))
    with open_hdf5(small, ONE):
        pass
    with pytest.raises(UserError) as caught, open_hdf5(path, ONE):
        pass
    most = (1000 + 100 * n_bytes) / 1e9
    assert str(caught.value) == (
        f"{path} is refused: what is in it would take 4.3 GB of memory, for a file of its size at"
        f" most {most:.1f}"
    )


def test_a_link_is_named_before_it_is_followed(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", x=np.arange(3))
    with h5py.File(path, "r+") as file:
        file["far/away"] = h5py.ExternalLink("/dev/null", "x")
    with (
        pytest.raises(UserError, match="is refused: 'far/away' in it leads to another place"),
        open_hdf5(path, ONE),
    ):
        pass
