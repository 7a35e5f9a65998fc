"""What is written down agrees: pyproject, lock, conda, README, CI script, and the doctor."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Never

import pytest
import yaml
from packaging.requirements import Requirement

from pipeline.system import doctor
from stages import docs
from tests.calling import call
from tests.project.checkouts import COMMANDS, ROOT
from tests.project.test_imports import imports_of
from tests.sources import SOURCES

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
TEST_LOCK = (ROOT / "requirements-test.lock").read_text(encoding="utf-8")

CONDA_NAMES = {
    "torch": "pytorch",
    "dask": "dask-core",
    "duckdb": "python-duckdb",
    "matplotlib": "matplotlib-base",
}
"""Names on conda-forge, where they are other names than pip's."""


def versions(lock: str) -> dict[str, str]:
    """Return the locked version of each package."""
    return dict(line.split()[0].split("==") for line in lock.splitlines() if "==" in line)


def requirements() -> list[Requirement]:
    """Return what pyproject.toml asks for: for running, on clusters, in notebooks, for testing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["cluster"], *extras["notebook"], *extras["test"]]
    return [Requirement(text) for text in texts]


def test_conda_environment_equals_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    wanted = {f"{CONDA_NAMES.get(each.name, each.name)}{each.specifier}" for each in requirements()}
    *packages, ours = environment["dependencies"]
    assert set(packages) == wanted | {"python>=3.11", "pip"}
    assert ours == {"pip": ["-e ."]}
    assert environment["channels"] == ["conda-forge", "nodefaults"]


def test_locked_versions_satisfy_pyproject() -> None:
    locked = versions(TEST_LOCK)
    for each in requirements():
        assert each.name in locked, f"{each.name} is not locked; README.md says how"
        assert each.specifier.contains(locked[each.name]), f"{each} against {locked[each.name]}"


def test_the_lock_of_the_tests_adds_to_the_other() -> None:
    base, tests = versions(LOCK), versions(TEST_LOCK)
    assert base.items() < tests.items()
    assert not base.keys() & {"pytest", "mypy", "ruff", "hypothesis", "grad-cam", "ipykernel"}


def test_every_dependency_is_imported_somewhere() -> None:
    """What nothing imports is nobody's dependency; extras hold what few need."""
    names = {"scikit-learn": "sklearn", "scikit-image": "skimage", "pillow": "PIL"}
    modules = {**names, "fonttools": "fontTools"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    imported = {
        each.split(".")[0]
        for name, tree in SOURCES.items()
        if name.startswith("pipeline.")
        for each in imports_of(name, tree)
    }
    wanted = [Requirement(text).name for text in project["dependencies"]]
    assert [name for name in wanted if modules.get(name, name) not in imported] == []


def test_every_folder_of_the_library_is_packaged() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "pipeline").rglob("__init__.py")}
    names = {".".join(("concordance", *folder.parts[1:])) for folder in folders}
    assert set(tool["setuptools"]["packages"]) == names


def test_lock_holds_versions_and_hashes_only() -> None:
    package = re.compile(r"[a-z0-9-]+==\S+ \\")
    digest = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
    other = [
        line
        for line in (LOCK + TEST_LOCK).splitlines()
        if line and not line.startswith("#") and not package.fullmatch(line)
        and not digest.fullmatch(line)
    ]  # fmt: skip
    assert not other
    assert "://" not in LOCK


# What is written about it.


def test_readme_tables_are_as_the_code_says() -> None:
    assert docs.renewed(README, docs.tables()) == README, "run: make docs"


def test_renewing_replaces_what_is_between_the_marks() -> None:
    text = "a\n<!-- t -->\nold\n<!-- /t -->\nb\n"
    assert docs.renewed(text, {"t": "new"}) == "a\n<!-- t -->\nnew\n<!-- /t -->\nb\n"
    with pytest.raises(ValueError, match="lacks the marks <!-- u --> and <!-- /u -->"):
        docs.renewed(text, {"u": "new"})


def test_readme_documents_every_command() -> None:
    table = docs.command_table(MAKEFILE)
    assert sorted(re.findall(r"`make ([a-z-]+)`", table)) == sorted(COMMANDS)


def test_readme_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    local = [link for link in links if "://" not in link and not link.startswith("#")]
    assert local
    assert [link for link in local if not (ROOT / link.partition("#")[0]).exists()] == []


def test_promises_of_security_are_held_by_tests_that_there_are() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 15
    for path, test in named:
        functions = re.findall(r"^def (test_\w+)", (ROOT / path).read_text("utf-8"), re.MULTILINE)
        assert functions, path
        assert not test or test in functions, f"{path} has no {test}"
    assert not re.search(r"tests/\S+`", re.sub(r"`tests/[\w/]+\.py(::\w+)?`", "", text))
    assert len(text.split()) < 1000  # two pages


def test_ci_script_can_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)


# The doctor.


def test_doctor_reports_every_check() -> None:
    findings = list(doctor.examine())
    assert len(findings) == 10
    assert {"python", "torch", "hdf5"} <= {each.name for each in findings if each.needed}
    assert [each for each in findings if each.needed and not each.ok] == []
    assert all(each.advice for each in findings if not each.ok)


def test_doctor_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv("CONCORDANCE_ASSETS", str(tmp_path))
    monkeypatch.setattr(doctor, "LEAST_FREE_GB", 10**9)
    assert doctor.check_compiler().ok is False
    assert doctor.check_compiler().found == "no no-such-compiler"
    assert doctor.check_assets().found == f"not in {tmp_path}"
    assert doctor.check_disk().ok is False


def test_doctor_survives_a_broken_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str) -> Never:
        raise OSError("no metadata")

    monkeypatch.setattr(doctor, "_installed", broken)
    assert call("doctor") == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[1].startswith("missing  packages  OSError: no metadata")
    assert lines[1].endswith("→ run: rm -r .venv; make setup")
