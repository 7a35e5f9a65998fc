"""`make setup`: once, whole, and only what the lock holds; with a package of our own in it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from stages import setup
from tests.project.checkouts import ROOT, make

PROJECT = """
[project]
name = "small"
version = "1.0"
dependencies = ["tiny>=1.0"]

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""

BACKEND = """
import tomllib, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = tomllib.load(open("pyproject.toml", "rb"))["project"]["name"]
    info, wheel = f"{name}-1.0.dist-info", f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{folder}/{wheel}", "w") as archive:
        archive.writestr(f"{name}.py", "answer = 43")
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return wheel
"""
"""What installs the small project: no other package is needed for it."""


def build(wheels: Path, name: str, version: str) -> str:
    """Make a wheel of one module; return its SHA-256."""
    wheel, info = wheels / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    texts = {
        f"{name}.py": "answer = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/RECORD": f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in texts.items():
            archive.writestr(path, text)
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Lay out a checkout whose lock holds one tiny package, and the settings to install it."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "stages").mkdir()
    for name in ("__init__.py", "setup.py"):
        shutil.copy(ROOT / "stages" / name, tmp_path / "stages")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    digest, more = (build(wheels, *each) for each in (("tiny", "1.0"), ("more", "2.0")))
    (tmp_path / "requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    (tmp_path / "requirements-test.lock").write_text(
        f"more==2.0 --hash=sha256:{more}\ntiny==1.0 --hash=sha256:{digest}\n"
    )
    settings = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
    }
    return tmp_path, settings


def has(folder: Path, module: str) -> bool:
    """Whether the environment of a folder holds a module, seen from anywhere."""
    command = [str(folder / ".venv" / "bin" / "python"), "-c", f"import {module}"]
    return subprocess.run(command, cwd="/", capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_setup_installs_once_and_again_after_an_interruption(
    small: tuple[Path, dict[str, str]],
) -> None:
    folder, settings = small
    first = make(folder, "setup", **settings)
    assert first.returncode == 0, first.stdout + first.stderr
    assert has(folder, "tiny")
    assert first.stdout.startswith("setup: 1 packages into .venv with Python 3.")
    assert "GB on the disk" in first.stdout.splitlines()[0]
    assert has(folder, "small")
    assert not has(folder, "more")
    assert first.stdout.endswith("setup: done\n")
    assert len(first.stdout.splitlines()) < 8

    assert make(folder, "setup", **settings).stdout == ""

    # As a kill leaves it: no record of a finished installation, and a package half gone.
    (folder / ".venv" / "installed-requirements.lock").unlink()
    next((folder / ".venv").rglob("tiny.py")).unlink()
    assert make(folder, "setup", **settings).returncode == 0
    assert has(folder, "tiny")


@pytest.mark.slow
def test_tests_have_more_and_a_changed_project_is_installed_again(
    small: tuple[Path, dict[str, str]],
) -> None:
    folder, settings = small
    assert make(folder, "setup-test", **settings).returncode == 0
    assert has(folder, "more")
    assert make(folder, "setup-test", **settings).stdout == ""
    (folder / "pyproject.toml").write_text(PROJECT.replace("small", "large"))
    again = make(folder, "setup", **settings)
    assert again.stdout == "setup: done\n"
    assert has(folder, "large")


@pytest.mark.slow
def test_an_index_gives_torch_and_keeps_its_libraries_away(
    small: tuple[Path, dict[str, str]],
) -> None:
    folder, settings = small
    build(folder / "wheels", "torch", "3.0")
    lock = folder / "requirements.lock"
    none = f" \\\n    --hash=sha256:{'0' * 64}\n"
    lock.write_text(lock.read_text() + f"torch==3.0{none}nvidia-large==1.0{none}")
    index = folder / "index"  # as pip finds it: a folder a package, with its files
    (index / "torch").mkdir(parents=True)
    (folder / "wheels" / "torch-3.0-py3-none-any.whl").rename(
        index / "torch" / "torch-3.0-py3-none-any.whl"
    )
    (index / "torch" / "index.html").write_text(
        "<a href='torch-3.0-py3-none-any.whl'>torch-3.0-py3-none-any.whl</a>"
    )
    settings = {name: value for name, value in settings.items() if name != "PIP_NO_INDEX"}
    settings["PIP_INDEX_URL"] = index.as_uri()  # nothing is asked of any other
    first = make(folder, "setup", f"INDEX={index.as_uri()}", **settings)
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"torch==3.0 from {index.as_uri()}: unhashed" in first.stdout
    assert has(folder, "torch")
    assert has(folder, "tiny")
    # The environment remembers where its torch is from.
    assert make(folder, "setup", **settings).stdout == ""
    assert make(folder, "setup-test", **settings).returncode == 0


def test_an_environment_of_the_users_own_is_looked_at(small: tuple[Path, dict[str, str]]) -> None:
    folder, settings = small
    refused = make(folder, "setup", f"PYTHON={sys.executable}", **settings)
    assert refused.returncode == 2
    assert f"PYTHON={sys.executable} lacks tiny: run {sys.executable} -m pip" in refused.stderr
    assert not (folder / ".venv").exists()
    (folder / "pyproject.toml").write_text(PROJECT.replace("tiny", "torch"))
    assert make(folder, "setup", f"PYTHON={sys.executable}", **settings).returncode == 0


def test_an_old_make_is_told_so(small: tuple[Path, dict[str, str]]) -> None:
    folder, settings = small
    old = make(folder, "setup", ".FEATURES=target-specific order-only", **settings)
    assert old.returncode == 2
    assert "Concordance needs GNU make 3.82 or newer" in old.stderr
    assert len(old.stderr.splitlines()) == 1


def test_the_sizes_that_setup_says_are_right() -> None:
    """What the locked packages take here, by the files that they have installed."""
    if (ROOT / ".venv" / "index").is_file():
        pytest.skip("torch of this environment is not the locked one")
    base, cuda = 0, 0
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if "==" in line:
            taken = sum(
                path.stat().st_size
                for file in importlib.metadata.files(line.split("==")[0]) or []
                if (path := Path(str(file.locate()))).is_file()
            )
            base += taken
            cuda += taken if line.startswith(("nvidia-", "cuda-", "triton")) else 0
    assert base / 1e9 == pytest.approx(setup.GB, rel=0.1)
    assert cuda / 1e9 == pytest.approx(setup.CUDA_GB, rel=0.1)


@pytest.mark.slow
def test_setup_refuses_what_does_not_match_the_lock(small: tuple[Path, dict[str, str]]) -> None:
    folder, settings = small
    right = (folder / "requirements.lock").read_text(encoding="utf-8")
    (folder / "requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    result = make(folder, "setup", **settings)
    assert result.returncode == 2
    assert "setup: a package could not be installed (.venv/setup.log says more)" in result.stderr
    assert "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES" in result.stdout
    assert not (folder / ".venv" / "installed-requirements.lock").exists()
    assert not has(folder, "tiny")

    (folder / "requirements.lock").write_text(right, encoding="utf-8")
    assert make(folder, "setup", **settings).returncode == 0
    assert has(folder, "tiny")


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
