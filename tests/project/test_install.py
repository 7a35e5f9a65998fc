"""One copy of the code under two names in a checkout; one package, installed, anywhere."""

from __future__ import annotations

import importlib
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import pipeline
import pipeline.errors
from pipeline.store import Bank
from tests.project.checkouts import ROOT
from tests.sources import PACKAGE, SOURCES


def test_both_names_mean_the_same_modules() -> None:
    concordance = importlib.import_module("concordance")
    assert concordance is pipeline
    assert importlib.import_module("concordance.errors") is pipeline.errors
    for name in SOURCES:
        if name.startswith(f"{PACKAGE}.") and not name.endswith("__main__"):
            other = importlib.import_module(name.replace(PACKAGE, "concordance", 1))
            assert importlib.import_module(name) is other
            assert other.__name__.startswith("concordance.")
            assert other.__spec__ is not None
            assert other.__spec__.name == other.__name__


def test_a_name_is_a_function_where_the_package_says_so() -> None:
    """A module and a function of one name: importing the one leaves the other in its place."""
    code = (
        "from pipeline.nmf.initialise import initialise as f; from pipeline import nmf;"
        "assert nmf.initialise is f"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_is_pickled_names_the_installed_package() -> None:
    assert b"concordance.store.bank" in pickle.dumps(Bank)
    assert Bank.__module__ == "concordance.store.bank"


def test_a_module_that_is_not_there_is_missed_under_both_names() -> None:
    for name in ("pipeline.nothing", "concordance.nothing"):
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{name}'"):
            importlib.import_module(name)


def test_everything_public_is_there_and_documented() -> None:
    for name in pipeline.__all__:
        found = getattr(pipeline, name)
        assert found.__doc__, name
        assert found.__module__.startswith("concordance."), name
    with pytest.raises(AttributeError, match="'concordance' has no attribute 'discovr'"):
        pipeline.discovr  # noqa: B018


def test_two_copies_are_refused(tmp_path: Path) -> None:
    """A checkout beside an installed package: which of them would do the work?"""
    (tmp_path / "concordance").mkdir()
    (tmp_path / "concordance" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "import concordance, pipeline"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ImportError: concordance is loaded from" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, from a copy: what earlier builds left in the checkout would come along."""
    folder, source = (tmp_path_factory.mktemp(name) for name in ("wheel", "source"))
    shutil.copytree(
        ROOT / "pipeline", source / "pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(source)], check=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"concordance"}
    expected = {
        path.relative_to(ROOT / "pipeline").as_posix()
        for path in (ROOT / "pipeline").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name.removeprefix("concordance/") for name in names if "dist-info" not in name}
    assert held == expected
    assert "py.typed" in held


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and the packages it needs from this one; not the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "env", with_pip=False)
    site = next((folder / "env").rglob("site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # Only the folder itself: what .pth files in there point to, the checkout, is not followed.
    (site / "needs.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return folder


def command(elsewhere: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `concordance` there, in an empty folder."""
    (elsewhere / "work").mkdir(exist_ok=True)
    code = "from concordance.cli.main import main; main()"
    return subprocess.run(
        [str(elsewhere / "env" / "bin" / "python"), "-I", "-c", code, *argv],
        cwd=elsewhere / "work",
        env={
            name: value for name, value in os.environ.items() if not name.startswith("CONCORDANCE")
        }
        | {"XDG_CACHE_HOME": str(elsewhere / "cache"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_installed_it_says_what_it_can(elsewhere: Path) -> None:
    done = command(elsewhere, "--help")
    assert done.returncode == 0, done.stderr
    assert "concordance COMMAND --help tells the options of a command" in done.stdout
    one = command(elsewhere, "explain", "--help")
    assert "usage: concordance explain" in one.stdout
    assert "Example:  concordance explain --image=cat.jpg --run=runs/pets" in one.stdout
    wrong = command(elsewhere, "discovr")
    assert wrong.returncode == 2
    assert "there is no command 'discovr'; did you mean 'discover'" in wrong.stderr


def test_installed_it_speaks_of_itself(elsewhere: Path) -> None:
    done = command(elsewhere, "discover", "--datset=x")
    assert "unknown option --datset; did you mean '--dataset'" in done.stderr
    gone = command(elsewhere, "status", "--run=nowhere")
    assert "--run=nowhere is not a run" in gone.stderr
    assert "make" not in done.stderr + gone.stderr


@pytest.mark.slow
def test_installed_it_discovers_explains_and_goes_on(elsewhere: Path) -> None:
    done = command(elsewhere, "discover", "--limit=40", "--k=4", "--run=mine")
    assert done.returncode == 0, done.stderr
    run = elsewhere / "work" / "mine"
    assert (run / "atlas" / "index.html").is_file()
    assert (elsewhere / "cache" / "concordance" / "data" / "sample").is_dir()
    again = command(elsewhere, "discover", f"--config={run / 'config.toml'}", "--run=again")
    assert again.returncode == 0, again.stderr
    assert (elsewhere / "work" / "again" / "bank" / "bank.h5").read_bytes() == (
        run / "bank" / "bank.h5"
    ).read_bytes()
    image = next((elsewhere / "cache").rglob("*.jpg"))
    said = command(elsewhere, "explain", f"--image={image}", "--run=mine")
    assert "the network sees:" in said.stdout
    assert command(elsewhere, "verify", "--run=mine").returncode == 0
