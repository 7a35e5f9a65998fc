"""Commands on data and in folders whose names are hostile: nothing is obeyed, nothing run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.analysis.run import open_run
from pipeline.escape import visible
from pipeline.sample import write_sample
from tests.calling import call
from tests.hostile import FOLDERS, raw_in
from tests.project.checkouts import ROOT, lay_out

RUN = "a'b\"$(touch PWNED) `touch PWNED` $HOME !x\\ & é"
OTHER = "two\nlines; touch PWNED #\x1b[31m \u202e $(touch PWNED) 'q\""


def command(
    folder: Path, name: str, *options: str, encoding: str = "utf-8", by: str = "make"
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process whose terminal has an encoding; read what it says in it."""
    return ran(
        folder,
        [".venv/bin/python", "-m", f"stages.{name}", *options],
        encoding,
        CONCORDANCE_BY_MAKE="1" if by == "make" else "",
    )


def ran(
    folder: Path, words: list[str], encoding: str = "utf-8", **more: str
) -> subprocess.CompletedProcess[str]:
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MAKE", "MFLAGS", "PYTHON", "CONCORDANCE_C"))
    }
    path = f"{folder / '.venv' / 'bin'}:{inherited['PATH']}"
    environment = inherited | {"PYTHONIOENCODING": encoding, "PATH": path} | more
    return subprocess.run(
        words,
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding=encoding,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout in which commands can be pasted, with a dataset of hostile labels."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("stages", "pipeline"):
        (folder / name).symlink_to(ROOT / name)
    write_sample(folder / "sample", n_images=96, size=64)
    kinds = sorted((folder / "sample" / "images").iterdir())
    for kind, label in zip(kinds, FOLDERS, strict=False):
        for at, file in enumerate(sorted(kind.iterdir())):
            file.rename(kind / f"{FOLDERS[at % len(FOLDERS)][:40]}{file.name}")
        kind.rename(kind.with_name(label))
    yield lay_out(folder)
    assert not list(folder.rglob("PWNED"))


@pytest.fixture(scope="module")
def discovered(checkout: Path) -> subprocess.CompletedProcess[str]:
    options = [
        "--dataset=sample/images",
        "--model=sample",
        "--image-size=64",
        "--k=3",
        f"--run={RUN}",
    ]
    return command(checkout, "discover", *options, encoding="latin-1")


def test_a_run_on_hostile_names_says_nothing_a_terminal_obeys(
    checkout: Path, discovered: subprocess.CompletedProcess[str]
) -> None:
    assert discovered.returncode == 0, discovered.stderr
    assert not raw_in(discovered.stdout)
    assert not raw_in(discovered.stderr.replace("\r", ""))
    assert discovered.stdout.splitlines()[-1].startswith("try     .venv/bin/python -c ")
    log = (checkout / RUN / "logs" / "run.log").read_text("utf-8")
    assert not raw_in(log)


@pytest.mark.usefixtures("discovered")
@pytest.mark.parametrize(
    ("encoding", "name", "options", "code", "said"),
    [
        ("ascii", "concepts", [f"--run={RUN}"], 0, r"agreement of the network"),
        ("latin-1", "status", [f"--run={RUN}"], 0, RUN),
        pytest.param("ascii", "discover", ["--help"], 0, "-", marks=pytest.mark.slow),
        ("ascii", "status", ["--run=no–where\x1b[2J\n世"], 2, r"RUN=no-where\x1b[2J\n\u4e16 is"),
        pytest.param(
            "latin-1",
            "status",
            ["--run=no–where é"],
            2,
            "RUN=no-where é is not a run",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "utf-8",
            "status",
            ["--run=no–where\x9b2J世"],
            2,
            r"RUN=no–where\x9b2J世 is not a run",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_terminal_is_too_poor_for_an_answer(
    checkout: Path, encoding: str, name: str, options: list[str], code: int, said: str
) -> None:
    found = command(checkout, name, *options, encoding=encoding)
    assert found.returncode == code, found.stderr
    printed = found.stderr if code else found.stdout
    assert said in printed
    assert len(printed.splitlines()) == 1 or not code
    assert "Traceback" not in found.stderr
    assert not raw_in(printed)


def test_a_fault_of_ours_is_told_without_obeying_names(checkout: Path) -> None:
    code = (
        "from pipeline.cli import main, actions\n"
        "def doctor(options): raise ValueError('no\\x1b[2J\\u202e–')\n"
        "actions.doctor = doctor; main.main('doctor', [])"
    )
    found = ran(checkout, [".venv/bin/python", "-c", code], "latin-1")
    assert found.returncode == 1
    assert found.stderr.startswith("Traceback (most recent call last):\n")
    assert found.stderr.splitlines()[-1] == r"ValueError: no\x1b[2J\u202e-"
    assert not raw_in(found.stderr)


@pytest.mark.usefixtures("discovered")
def test_tables_show_what_labels_are(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("concepts", {"run": checkout / RUN}) == 0
    printed = capsys.readouterr().out
    labels = open_run(checkout / RUN).table("concepts")["dataset_label"].dropna().tolist()
    assert any(raw_in(label) or "\n" in label for label in labels)
    assert all(visible(label)[:12] in printed for label in labels)
    assert not raw_in(printed)


@pytest.mark.slow
@pytest.mark.usefixtures("discovered")
@pytest.mark.parametrize(("name", "by"), [(OTHER, "make"), (RUN, "stages")], ids=ascii)
def test_what_is_printed_to_be_pasted_does_what_it_says(checkout: Path, name: str, by: str) -> None:
    folder = checkout / name
    if not folder.exists():
        shutil.copytree(checkout / RUN, folder)
    shutil.rmtree(folder / "atlas")
    found = command(checkout, "status", f"--run={name}", by=by)
    assert found.returncode == 0, found.stderr
    line = found.stdout.splitlines()[-1]
    start = "make discover RUN=" if by == "make" else "python -m stages.discover --run="
    assert line.startswith(f"to go on: {start}")
    again = ran(checkout, ["bash", "-c", line.removeprefix("to go on: ")])
    assert again.returncode == 0, again.stderr
    assert (folder / "atlas" / "index.html").is_file()
    query = again.stdout.splitlines()[-1]
    assert query.startswith("try     ")
    answer = ran(checkout, ["bash", "-c", query.removeprefix("try     ")])
    assert answer.returncode == 0, answer.stderr
    assert "coverage" in answer.stdout
    assert len(answer.stdout.splitlines()) == 4
    assert not list(checkout.rglob("PWNED"))
    assert not list(Path.home().glob("PWNED"))
