"""Help names the command as it is typed, its options with defaults and choices, and an example."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pipeline.cli import actions
from pipeline.cli.commands import COMMANDS, STAGES
from pipeline.cli.main import run, run_any
from pipeline.cli.options import CONFIG
from pipeline.config import Config
from pipeline.errors import Words, as_typed
from pipeline.runs.stages import BY_NAME
from tests.sources import ROOT

ALL = COMMANDS | STAGES


def test_stages_are_those_of_a_run() -> None:
    assert tuple(STAGES) == tuple(BY_NAME)


def test_every_command_is_carried_out_and_has_its_file() -> None:
    for command in ALL.values():
        assert callable(getattr(actions, command.action))
        assert (ROOT / "stages" / f"{command.name.replace('-', '_')}.py").is_file()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("words", "usage", "example"),
    [
        ("concordance", "concordance {}", "concordance {} --"),
        ("stages", "python -m stages.{}", "python -m stages.{} --"),
        ("make", "make {}", "make {} [A-Z]"),
    ],
)
def test_help_is_of_the_command_as_it_was_typed(
    capsys: pytest.CaptureFixture[str], name: str, words: Words, usage: str, example: str
) -> None:
    assert run(name, ["--help"], words) == 0
    printed = capsys.readouterr().out
    assert f"usage: {usage.format(name)}" in printed
    if ALL[name].example:
        assert re.search("Example:  " + example.format(name), printed)
    joined = " ".join(printed.split())
    for option, each in ALL[name].options.items():
        assert f"--{as_typed(option)}" in printed
        assert not each.default or f"default: {each.default}" in joined


def test_defaults_and_choices_are_those_of_the_configuration() -> None:
    assert CONFIG["resize"].default == "squash"
    assert CONFIG["transform"].choices == ("auto", "none", "relu", "split", "shift")
    assert "one of auto, none, relu, split, shift; default: auto" in CONFIG["transform"].text()
    assert set(CONFIG) == set(Config.model_fields)


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_any([]) == run_any(["--help"]) == 0
    printed = capsys.readouterr().out
    for command in ALL.values():
        assert re.search(rf"^  {command.name} +{re.escape(command.summary)}$", printed, re.M)
    assert run_any(["--version"]) == 0
    assert capsys.readouterr().out.startswith("concordance 0.")
    assert run_any(["dicsover"]) == 2
    assert "did you mean 'discover'" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli.main import run; run('discover', ['--help'], 'stages');"
        "print(sorted({'torch', 'numpy', 'pandas', 'h5py'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
