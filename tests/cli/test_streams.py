"""Commands whose streams are closed, full or read by nobody: the work is done all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import ROOT

SAY = """
import os, sys
from pathlib import Path
from pipeline.cli import main, streams, text
streams.prepare()
with open(sys.argv[1], "wb") as shard:
    number = shard.fileno()
    os.write(2, b"a library says something") if sys.argv[2] == "closed" else None
    print("so does Python", file=sys.stderr)
    print("and this", flush=True) if sys.argv[2] == "closed" else None
    sys.stdin.read()
    shard.write(b"data")
text.show("a bar", on_stderr=True)
sys.exit(0 if number > 2 else 3)
"""


def start(redirect: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run Python with streams as a shell makes them."""
    return subprocess.run(
        ["bash", "-c", f'"$0" "$@" {redirect}', sys.executable, *argv],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("redirect", ["2>&- <&-", ">&- <&-", ">&- 2>&- <&-"])
def test_what_is_printed_never_lands_in_a_file(tmp_path: Path, redirect: str) -> None:
    """The first file that is opened would be stderr, for all that C libraries know."""
    assert start(redirect, "-c", SAY, str(tmp_path / "shard"), "closed").returncode == 0
    assert (tmp_path / "shard").read_bytes() == b"data"


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2> >(true)"])
def test_a_job_does_not_end_with_its_log(tmp_path: Path, redirect: str) -> None:
    ended = start(f"{redirect} </dev/null", "-c", SAY, str(tmp_path / "shard"), "full")
    assert ended.returncode == 0
    assert (tmp_path / "shard").read_bytes() == b"data"


def test_what_cannot_be_printed_is_said_in_a_sentence() -> None:
    ended = start(">/dev/full", "-m", "stages.layers", "--model=sample")
    assert ended.returncode == 2
    assert ended.stderr == (
        "error: what was found cannot be written to stdout: No space left on device\n"
    )


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    code = (
        "import os, sys; from pipeline.cli.main import main; os.chdir(sys.argv.pop(1));"
        " os.rmdir(os.getcwd()); main('discover')"
    )
    ended = start("", "-c", code, str(tmp_path / "gone"), "--model=sample", f"--dataset={tmp_path}")
    assert (ended.returncode, ended.stderr) == (
        2,
        "error: the folder you are in is gone; go to another\n",
    )
