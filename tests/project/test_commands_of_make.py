"""Options given to make reach Python as they were typed; sentences and codes reach the user."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.project.checkouts import COMMANDS, ROOT, lay_out, make

ECHO = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "environment": dict(os.environ)}))
"""


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """Lay out a checkout whose `discover` prints the options it was given."""
    (tmp_path / "stages").mkdir()
    shutil.copy(ROOT / "stages" / "__main__.py", tmp_path / "stages")
    (tmp_path / "stages" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "stages" / "discover.py").write_text(ECHO, encoding="utf-8")
    return lay_out(tmp_path)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Lay out a checkout with the real stages and library."""
    for name in ("stages", "pipeline"):
        (tmp_path / name).symlink_to(ROOT / name)
    return lay_out(tmp_path)


def given_options(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the options that the echoing stage printed."""
    assert result.returncode == 0, result.stderr
    options: list[str] = json.loads(result.stdout)["argv"]
    return options


HOSTILE = [
    "a b; touch x",
    "$(shell touch x)",
    "$$(touch x)",
    "$(touch x)",
    "${DATASET}",
    "`touch x`",
    '"a" \'b\' \\"c\\" & touch x',
    "a\nb\ttouch x",
    "$(error stop)",
    "$(eval x: ; touch x)",
    "a#b%c\\d~*?[e]{f,g}!h",
    "--dataset=other",
    "-n",
    "ends in spaces  ",
    "ends in a backslash\\",
    "ends in $",
    "Grüße, 世界",
    "=",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_options_reach_python_as_they_were_typed(echo: Path, value: str) -> None:
    before = sorted(echo.iterdir())
    result = make(echo, "discover", f"DATASET={value}")
    assert given_options(result) == [f"--dataset={value}"]
    assert [path for path in sorted(echo.iterdir()) if path.name != "stages"] == [
        path for path in before if path.name != "stages"
    ]


def test_undecodable_bytes_reach_python(echo: Path) -> None:
    result = make(echo, "discover", b"DATASET=caf\xe9")
    assert given_options(result) == ["--dataset=caf\udce9"]


def test_names_become_options(echo: Path) -> None:
    result = make(echo, "discover", "IMAGE_SIZE=320", "K=8,12", "AUX_LAYERS=layer2,layer3")
    assert given_options(result) == ["--aux-layers=layer2,layer3", "--image-size=320", "--k=8,12"]
    assert "K" not in json.loads(result.stdout)["environment"]


def test_empty_means_not_given(echo: Path) -> None:
    assert given_options(make(echo, "discover", "K=", "SEED=1")) == ["--seed=1"]


def test_environment_gives_no_options(echo: Path) -> None:
    result = make(echo, "discover", K="7", LABEL="kept")
    assert given_options(result) == []
    environment = json.loads(result.stdout)["environment"]
    assert environment["K"] == "7"
    assert environment["LABEL"] == "kept"


def test_names_that_mean_something_to_make_or_shell(echo: Path) -> None:
    result = make(echo, "discover", "SHELL=/bin/false", "MAKE=false", "A-B=1")
    names = [option.partition("=")[0] for option in given_options(result)]
    assert names == ["--a-b", "--make", "--shell"]


def test_recipes_are_not_echoed(echo: Path) -> None:
    result = make(echo, "discover")
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""


def test_exit_code_and_sentence_reach_the_user(checkout: Path) -> None:
    result = make(checkout, "doctor", "FOO=1")
    assert result.returncode == 2
    first, second = result.stderr.splitlines()
    assert first == "error: unknown option FOO; options: none"
    assert re.fullmatch(r"make: \*\*\* .*doctor\] Error 2", second)


@pytest.mark.parametrize("command", ["test", "notebooks", "docs", "lint"])
def test_commands_without_options_say_so(checkout: Path, command: str) -> None:
    result = make(checkout, command, "FOO=1")
    assert result.returncode == 2
    assert "unknown option FOO; this command takes none" in result.stderr


def test_command_that_is_not_there(echo: Path) -> None:
    result = make(echo, "verify")
    assert result.returncode == 2
    assert "error: there is no command verify; `make` lists those there are" in result.stderr


def test_unknown_option_of_a_stage_suggests_the_near_one(checkout: Path) -> None:
    result = make(checkout, "discover", "DATSET=pets")
    assert result.returncode == 2
    assert "unknown option DATSET; did you mean 'DATASET'" in result.stderr


def test_hostile_dataset_is_named_and_nothing_else(checkout: Path) -> None:
    result = make(checkout, "discover", "DATASET=a b; touch x $(shell touch x) `touch x`")
    assert result.returncode == 2
    assert "a b; touch x $(shell touch x) `touch x`" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (checkout / "x").exists()


def test_help_lists_every_command(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)  # and no environment: help needs none
    result = make(tmp_path)
    assert result.returncode == 0
    listed = re.findall(r"^  ([a-z-]+) +\S", result.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    assert max(map(len, result.stdout.splitlines())) <= 100
