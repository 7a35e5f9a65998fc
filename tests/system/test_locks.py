"""Locks: one writer at a time, and a sentence where a file system has none."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.system import files
from tests.sources import ROOT


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the system refuse locks, as some disks do that this machine does not have."""

    def flock(descriptor: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.mark.parametrize(
    "number", [524, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS]
)
def test_a_disk_without_locks_is_said_once(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "concordance")
    refuse(monkeypatch, number)
    for _ in range(2):
        with files.lock(tmp_path / "run" / "writer.lock", "the run"):
            pass
    (record,) = caplog.records
    assert f"the disk of {tmp_path / 'run'} has no locks" in record.getMessage()
    assert "no two processes write there" in record.getMessage()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.EINVAL])
def test_a_lock_that_is_refused_is_one_sentence(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, number)
    path = tmp_path / "writer.lock"
    with pytest.raises(UserError) as caught, files.lock(path, "the run"):
        raise AssertionError
    assert str(caught.value) == f"cannot lock {path}: {os.strerror(number)}; pass another run"


HOLD = """
import sys
from pathlib import Path
from pipeline.system import files
with files.lock(Path(sys.argv[1]), "the run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_who_holds_a_lock_is_named_where_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "writer.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        named = rf"the run is being written by process {holder.pid} on .* since "
        with pytest.raises(UserError, match=named), files.lock(path, "the run"):
            raise AssertionError

        def pread(*_: object) -> bytes:  # as SMB does: what is locked cannot be read either
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "pread", pread)
        named = "the run is being written by another process: wait"
        with pytest.raises(UserError, match=named), files.lock(path, "the run"):
            raise AssertionError
        holder.communicate("")
    with files.lock(path, "the run"):
        pass


@pytest.mark.parametrize("number", [errno.EINVAL, 524])
def test_a_disk_that_cannot_sync_is_written_to_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(tmp_path / "file", "whole")
    assert (tmp_path / "file").read_text() == "whole"


def test_a_disk_that_fails_to_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError, match="the disk may be failing"):
        files.write_text(tmp_path / "file", "whole")
    assert list(tmp_path.iterdir()) == []


def test_macos_empties_the_disks_own_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, call: asked.append(call))
    files.write_text(tmp_path / "file", "whole")
    assert asked == [51, 51]  # the file, and the folder that holds its name


def test_systems_without_sync_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sync")
    files.flush()
