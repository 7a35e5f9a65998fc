"""`make setup`: the environment of the checkout, `.venv`, from hash-locked packages.

Run by any Python, before anything is installed; so it needs nothing but Python itself.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.metadata
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK, TEST_LOCK = ROOT / "requirements.lock", ROOT / "requirements-test.lock"
PROJECT, INDEX = ROOT / "pyproject.toml", VENV / "index"

GB, CUDA_GB, TEST_GB = 6.7, 4.3, 0.4
"""Measured: what the locked packages take on the disk, what of it CUDA's libraries take and what
the tests add. A test compares."""

OF_TORCH = re.compile(r"(torch|torchvision|triton|nvidia-[\w-]+|cuda-[\w-]+)==")
"""Packages that come from another index where one is given, or that its torch does not need."""


class SetupError(Exception):
    """Setting up is not possible; the text says why and what to do."""


def set_up(*, tests: bool = False, index: str | None = None) -> None:
    """Make `.venv` as the locks say, or what of it is missing.

    Parameters
    ----------
    tests : bool
        With what the tests need.
    index : str, optional
        Where torch and torchvision come from, unhashed; without it from the lock.

    Raises
    ------
    SetupError
        The locks are for another machine, or a package could not be installed.
    """
    if (system := f"{platform.system()} {platform.machine()}") != "Linux x86_64":
        raise SetupError(
            f"the locked packages are for Linux x86_64 and this is {system}: make an environment"
            " of your own, install with pip install -e . and give it as PYTHON=<its python>"
        )
    with LOCK.open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # a second make waits here, and then has nothing to do
        if index is None and INDEX.is_file():
            index = INDEX.read_text(encoding="utf-8").strip()
        if not _is_installed(LOCK) or (index or "") != _index():
            _install_base(index)
        if tests and not _is_installed(TEST_LOCK):
            _say(f"{_count(TEST_LOCK, index) - _count(LOCK, index)} packages for the tests"
                 f" (about {TEST_GB} GB)")  # fmt: skip
            _install(TEST_LOCK, index)
        if not _is_installed(PROJECT):
            _pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
            _note(PROJECT)
    _say("done")


def check(python: str) -> None:
    """Refuse an environment of the user's own that lacks what Concordance needs."""
    wanted = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.split(r"[<>=\s\[]", each)[0] for each in wanted]
    missing = [name for name in names if not _has(name)]
    if missing:
        raise SetupError(
            f"PYTHON={python} lacks {', '.join(missing)}: run {python} -m pip install -e {ROOT}"
        )


def _install_base(index: str | None) -> None:
    size = GB if index is None else GB - CUDA_GB
    _say(
        f"{_count(LOCK, index)} packages into .venv with Python {platform.python_version()},"
        f" about {size:.1f} GB on the disk (once; it takes minutes)"
    )
    if index is None:
        _say(
            f"{CUDA_GB} GB of it are CUDA libraries; make setup INDEX=<url> takes torch from an"
            " index of yours, such as the CPU index of PyTorch's install page"
        )
    # From nothing: half of an interrupted installation can look whole to pip.
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    if index is not None:
        versions = [line.split()[0] for line in _lines(LOCK) if re.match(r"torch(vision)?==", line)]
        _say(f"{' and '.join(versions)} from {index}: unhashed, as the lock knows other files")
        _pip("--index-url", index, *versions)
    _install(LOCK, index)
    if index is not None:
        INDEX.write_text(index + "\n", encoding="utf-8")


def _install(lock: Path, index: str | None) -> None:
    kept = VENV / f"{lock.stem}.part"
    kept.write_text("".join(_entries(lock, index)), encoding="utf-8")
    _pip("--no-deps", "--require-hashes", "--requirement", str(kept), total=_count(lock, index))
    kept.unlink()
    _note(lock)


def _pip(*arguments: str, total: int = 0) -> None:
    """Run pip; keep what it says, and show how far it is."""
    command = [str(PYTHON), "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
    fetched = 0
    with (
        (VENV / "setup.log").open("a", encoding="utf-8") as log,
        subprocess.Popen(
            [*command, "--no-user", "--progress-bar", "off", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as pip,
    ):
        assert pip.stdout is not None
        for line in pip.stdout:
            log.write(line)
            fetched += line.startswith(("Collecting", "Processing"))
            if line.startswith("ERROR"):
                print(f"  {line.rstrip()}")
            elif line.startswith(("Collecting", "Processing")) and total and fetched % 25 == 0:
                print(f"  {fetched} of {total} packages fetched", flush=True)
            elif line.startswith("Installing collected") and total:
                print("  installing", flush=True)
    if pip.returncode:
        raise SetupError(
            "a package could not be installed (.venv/setup.log says more);"
            " mend the cause and run make setup again"
        )


def _entries(lock: Path, index: str | None) -> Iterator[str]:
    """Give a lock's text, without what comes from elsewhere where there is an index."""
    is_kept = True
    for line in _lines(lock):
        if line and not line[0].isspace():
            is_kept = index is None or not OF_TORCH.match(line)
        if is_kept:
            yield line


def _lines(lock: Path) -> list[str]:
    return lock.read_text(encoding="utf-8").splitlines(keepends=True)


def _count(lock: Path, index: str | None) -> int:
    return sum("==" in line for line in _entries(lock, index))


def _index() -> str:
    return INDEX.read_text(encoding="utf-8").strip() if INDEX.is_file() else ""


def _stamp(source: Path) -> Path:
    return VENV / f"installed-{source.name}"


def _is_installed(source: Path) -> bool:
    stamp = _stamp(source)
    return stamp.is_file() and stamp.read_bytes() == source.read_bytes()


def _note(source: Path) -> None:
    part = _stamp(source).with_suffix(".part")
    shutil.copyfile(source, part)
    part.replace(_stamp(source))


def _has(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _say(line: str) -> None:
    print(f"setup: {line}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Set up, or check an environment that is there; 2 where that is not possible."""
    parser = argparse.ArgumentParser(prog="make setup", description=__doc__)
    parser.add_argument("--test", action="store_true", help="with what the tests need")
    parser.add_argument("--index", help="where torch comes from")
    parser.add_argument("--check", metavar="PYTHON", help="look at this environment instead")
    given = parser.parse_args(argv)
    try:
        if given.check is not None:
            check(given.check)
        else:
            set_up(tests=given.test, index=given.index)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError:
        print(
            f"setup: {sys.executable} -m venv does not work: install its venv module"
            " (Debian: apt-get install python3-venv) and run make setup again",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
