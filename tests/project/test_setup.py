"""`make setup`: once, whole, and only what the lock holds; with a package of our own in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.project.checkouts import ROOT, make


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Lay out a checkout whose lock holds one tiny package, and the settings to install it."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        info = "tiny-1.0.dist-info"
        archive.writestr("tiny.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(
            f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (tmp_path / "requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    settings = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
    }
    return tmp_path, settings


def has_tiny(folder: Path) -> bool:
    """Whether the environment of a folder holds the tiny package."""
    command = [str(folder / ".venv" / "bin" / "python"), "-c", "import tiny; print(tiny.answer)"]
    return subprocess.run(command, capture_output=True, check=False).stdout == b"42\n"


def test_setup_installs_once_and_again_after_an_interruption(
    small: tuple[Path, dict[str, str]],
) -> None:
    folder, settings = small
    first = make(folder, "setup", **settings)
    assert first.returncode == 0, first.stdout + first.stderr
    assert has_tiny(folder)
    assert first.stdout.startswith("setup: 1 packages into .venv with Python 3.")
    assert first.stdout.endswith("setup: done\n")
    assert len(first.stdout.splitlines()) < 8

    assert make(folder, "setup", **settings).stdout == ""

    # As a kill leaves it: no record of a finished installation, and a package half gone.
    (folder / ".venv" / "installed.lock").unlink()
    next((folder / ".venv").rglob("tiny.py")).unlink()
    assert make(folder, "setup", **settings).returncode == 0
    assert has_tiny(folder)


def test_setup_refuses_what_does_not_match_the_lock(small: tuple[Path, dict[str, str]]) -> None:
    folder, settings = small
    right = (folder / "requirements.lock").read_text(encoding="utf-8")
    (folder / "requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    result = make(folder, "setup", **settings)
    assert result.returncode == 2
    assert "setup: a package could not be installed (.venv/setup.log says more)" in result.stderr
    assert "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" in result.stdout
    assert not (folder / ".venv" / "installed.lock").exists()
    assert not has_tiny(folder)

    (folder / "requirements.lock").write_text(right, encoding="utf-8")
    assert make(folder, "setup", **settings).returncode == 0
    assert has_tiny(folder)


def test_setup_without_a_fitting_python(small: tuple[Path, dict[str, str]]) -> None:
    folder, settings = small
    tools = folder / "tools"
    tools.mkdir()
    for name in ("make", "cmp", "uname", "flock"):
        found = shutil.which(name)
        assert found, f"{name} is missing on this machine"
        (tools / name).symlink_to(found)
    (tools / "python3").write_text(
        "#!/bin/sh\nexit 1\n", encoding="utf-8"
    )  # as one that is too old
    (tools / "python3").chmod(0o755)
    result = make(folder, "setup", **settings, PATH=str(tools))
    assert result.returncode == 2
    assert "Concordance needs Python 3.11 or newer, and neither python3.11 nor python3 is" in (
        result.stderr
    )
    assert not (folder / ".venv").exists()
