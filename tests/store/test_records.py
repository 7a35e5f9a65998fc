"""Records: what was written, whether it still is, and which records are trusted."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.store.encoding import SEAL, UnreadableError
from pipeline.store.records import (
    BEGUN,
    RECORD,
    Record,
    begin,
    check_whole,
    combine,
    is_of_site,
    read_begun,
    read_record,
    write_record,
)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def anything(name: str) -> bool:
    return bool(name)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A record of two files, one in a folder below it."""
    (tmp_path / "below").mkdir()
    for name, text in (("a.txt", "alpha"), ("below/b.txt", "be")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    path = tmp_path / "made.json"
    write_record(path, [tmp_path / "below" / "b.txt", tmp_path / "a.txt"], {"x": "1"}, {"n": 2})
    return path


def test_a_record_says_what_was_written(written: Path) -> None:
    record = read_record(written, anything)
    assert record is not None
    assert record.files == {"a.txt": (5, sha256("alpha")), "below/b.txt": (2, sha256("be"))}
    assert list(record.files) == ["a.txt", "below/b.txt"]
    assert (record.made_from, record.counts, record.n_bytes) == ({"x": "1"}, {"n": 2}, 7)
    both = f"a.txt {sha256('alpha')}\nbelow/b.txt {sha256('be')}"
    assert record.digest == sha256(both)[:32]
    assert Record(dict(reversed(list(record.files.items())))).digest == record.digest
    assert combine(["a", "b"]) == sha256("a\nb")[:32] != combine(["b", "a"])
    assert write_record(written.with_name("none.json"), []).counts == {}


def test_what_is_missing_or_of_another_size_is_noticed_without_reading(written: Path) -> None:
    record = read_record(written, anything)
    assert record is not None
    folder, a, b = written.parent, written.parent / "a.txt", written.parent / "below" / "b.txt"
    assert record.is_there(folder)
    assert record.damaged(folder) == []
    a.write_text("Alpha", encoding="utf-8")  # of the same size
    assert record.is_there(folder)
    assert record.damaged(folder) == [a]
    b.write_text("bee", encoding="utf-8")
    assert not record.is_there(folder)
    assert record.damaged(folder) == [a, b]
    a.write_text("alpha", encoding="utf-8")
    b.unlink()
    assert record.damaged(folder) == [b]
    b.symlink_to(a)
    assert not record.is_there(folder)


def test_a_record_of_names_that_a_product_has_not_is_none(written: Path) -> None:
    assert read_record(written, lambda name: name != "below/b.txt") is None
    assert read_record(written.with_name("other.json"), anything) is None
    value = json.loads(written.read_bytes())
    assert value["encoding-type"] == RECORD.type
    value["files"]["a.txt"]["bytes"] = 6
    written.write_text(json.dumps(value), encoding="utf-8")
    assert read_record(written, anything) is None
    # The first version had no digest.
    del value[SEAL]
    value["encoding-version"] = "1.0"
    written.write_text(json.dumps(value), encoding="utf-8")
    found = read_record(written, anything)
    assert found is not None
    assert found.files["a.txt"][0] == 6
    others: list[dict[str, object]]
    others = [{"files": []}, {"files": {"a": {}}}, {"made_from": 3}, {"counts": None}]
    for wrong in others:
        written.write_text(json.dumps(value | wrong), encoding="utf-8")
        assert read_record(written, anything) is None


def test_a_file_that_is_not_as_recorded_is_refused_once_it_is_read(written: Path) -> None:
    a = written.parent / "a.txt"

    def record() -> Record | None:
        return read_record(written, anything)

    check_whole(a, record)
    check_whole(written.parent / "none.txt", record)
    stranger = written.parent / "c.txt"
    stranger.write_text("c", encoding="utf-8")
    check_whole(stranger, record)
    a.write_text("Alpha", encoding="utf-8")
    os.utime(a, (1, 1))
    said = rf"{a} is damaged \(it holds something else than was written\)"
    with pytest.raises(UserError, match=said + "$"):
        check_whole(a, record)
    with pytest.raises(UserError, match=said + "; make it again$"):
        check_whole(a, record, "make it again")
    check_whole(a, lambda: None)


def test_a_file_that_cannot_be_read_now_is_not_taken_for_damaged() -> None:
    """What is damaged is removed and made again: trouble of the disk must not do that."""
    folder = Path(f"/proc/{os.getpid()}")
    record = Record({"mem": (0, "0")})
    assert record.is_there(folder)  # of its size
    with pytest.raises(UnreadableError, match="mem cannot be read now: Input/output error"):
        record.damaged(folder)
    with pytest.raises(UnreadableError, match="mem cannot be read now"):
        read_record(folder / "mem", anything)
    assert read_record(folder / "nowhere", anything) is None
    assert record.damaged(folder / "nowhere") == [folder / "nowhere" / "mem"]


def test_a_file_that_cannot_be_read_says_so() -> None:
    unreadable = Path("/proc/self/mem")  # a regular file, and its first byte is nobody's
    with pytest.raises(UserError, match="/proc/self/mem cannot be read: Input/output error"):
        check_whole(unreadable, lambda: Record({"mem": (5, "0")}))


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("index.html", True), ("media/1.jpg", True), ("atlas.pdf", True), ("a.exe", False),
        ("../index.html", False), ("a/../b.html", False), ("/index.html", False),
        ("./a.html", False), ("a//b.html", False), ("html", False), ("", False), (".html", False),
    ],
)  # fmt: skip
def test_names_of_a_site(name: str, is_one: bool) -> None:
    assert is_of_site(name) is is_one


def test_what_was_begun_is_known(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    assert read_begun(path, anything) == []
    begin(path, ["b.txt", "a.txt", "../c.txt"])
    assert json.loads(path.read_bytes())["encoding-type"] == BEGUN.type
    assert read_begun(path, lambda name: ".." not in name) == ["a.txt", "b.txt"]
    assert read_record(path, anything) is None
    path.write_text("{}", encoding="utf-8")
    assert read_begun(path, anything) == []
