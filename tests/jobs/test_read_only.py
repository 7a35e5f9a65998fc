"""Runs that one may only read: what reads does, what writes says so before it computes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.jobs import Case
from tests.sources import ROOT

BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Lets the superuser be bound to the modes of files as others are."""


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a command begins with so that modes of files bind it; skips where that cannot be."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("the superuser may write anywhere, and there is no setpriv to change that")
    folder = tmp_path_factory.mktemp("closed")
    folder.chmod(0o500)
    if subprocess.run([*BOUND, "touch", str(folder / "x")], capture_output=True).returncode == 0:
        pytest.skip("setpriv does not bind the superuser to the modes of files here")
    return BOUND


def look(run: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of everything in a run."""
    found = {str(path): path.lstat() for path in [run, *run.rglob("*")]}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


@pytest.fixture(scope="module")
def run(case: Case) -> Iterator[Path]:
    """A finished run, of which neither folders nor files may be changed."""
    copy = case.copy("read-only")
    paths = [copy, *copy.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = look(copy)
    yield copy
    assert look(copy) == before
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def call(bound: list[str], *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*bound, sys.executable, *argv],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["status", "concepts", "verify"])
def test_commands_that_read_do(command: str, run: Path, bound: list[str]) -> None:
    done = call(bound, "-m", f"stages.{command}", f"--run={run}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


READ = """
import sys
from pipeline import open_run
run = open_run(sys.argv[1])
image = int(run.sql("select image_id from images order by image_id").image_id[0])
assert len(run.table("concepts")) == 3
assert run.heatmap(image).shape[0] == 3
assert run.object_mask(image).dtype == bool
assert len(run.images_with(0)) > 0
assert run.bank.encode([sys.argv[2]]).H.min() >= 0
assert len(run.explain(sys.argv[2]).legend) > 0
run.show(image)
run.concept(0)
print(repr(run))
"""


@pytest.mark.slow
def test_notebooks_read(run: Path, bound: list[str], case: Case) -> None:
    image = next(Path(str(case.options["dataset"])).rglob("*.jp*g"))
    done = call(bound, "-c", READ, str(run), str(image))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_writes_says_so_before_it_computes(
    run: Path, bound: list[str], case: Case, tmp_path: Path
) -> None:
    image = next(Path(str(case.options["dataset"])).rglob("*.jp*g"))
    refused = f"error: cannot write to {run}: Permission denied; "
    done = call(bound, "-m", "stages.explain", f"--run={run}", f"--image={image}")
    assert done.returncode == 2
    assert done.stderr == f"{refused}pass --out=<file> with a place for the picture\n"
    out = tmp_path / "there" / "picture.png"
    done = call(bound, "-m", "stages.explain", f"--run={run}", f"--image={image}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 0
    done = call(bound, "-m", "stages.evaluate", f"--run={run}", "--masks=nowhere")
    assert done.returncode == 2
    assert done.stderr == f"{refused}copy the run to where you may write, and score the copy\n"
    for command in ("discover", "classify"):
        done = call(bound, "-m", f"stages.{command}", f"--run={run}")
        assert done.returncode == 2
        assert done.stderr == f"{refused}pass another --run\n"
    done = call(bound, "-m", "stages.clean", f"--run={run}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr
