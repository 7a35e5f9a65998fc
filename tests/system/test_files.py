"""Writing: a file appears whole under its name, or not at all, and nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.system import files


def test_a_file_appears_under_its_name_only_once_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.bin"
    with files.publish(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"half"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file_and_no_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError, match="midway"), files.publish(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError("midway")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_device_or_pipe_is_not_replaced(tmp_path: Path, name: str) -> None:
    """Whoever may do all would have a picture for ``/dev/null``, and with them all others."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(UserError, match=f"cannot write .*{name}: it is no regular file"):
        files.write_bytes(tmp_path / name, b"new")
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("name", ["~", "http:", "a:b", "label=x"])
def test_tables_lie_where_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Arrow takes ``~`` for the home folder and ``http:`` for a server, in relative paths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    table = pa.table({"a": [1, 2]})
    files.write_parquet(Path(name) / "one.parquet", table)
    files.write_parquet_groups(Path(name) / "two.parquet", table.schema, [table])
    for each in ("one", "two"):
        assert pq.ParquetFile(tmp_path / name / f"{each}.parquet").read().equals(table)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_leftovers_of_a_killed_writer_are_found_and_removed(tmp_path: Path) -> None:
    kept, left = tmp_path / "a.h5", tmp_path / "sub" / f"b.h5{files.TEMPORARY}123"
    left.parent.mkdir()
    kept.touch()
    left.touch()
    assert files.remove_leftovers(tmp_path) == [left]
    assert kept.exists()
    assert not left.exists()


def test_hdf5_is_published_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with files.write_hdf5(path) as file:
        file["x"] = [1, 2]
        assert not path.exists()
    assert path.stat().st_size > 0


def test_an_output_below_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file/run: .*; pass another run"):
        files.check_writable(tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        files.check_writable(tmp_path / "run")
    tmp_path.chmod(0o700)
