"""Disks that fail, files that are damaged, jobs that are interrupted or meet in one folder."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pipeline.runs.integrity import check_files
from pipeline.runs.plan import to_make
from pipeline.runs.workspace import Workspace
from pipeline.system import files
from tests.calling import call
from tests.faults.jobs import ROOT, Case, assert_equal, contents
from tests.jobs.test_faults_kill import landed, steps

ERRORS = {errno.ENOSPC: "No space left on device", errno.EIO: "Input/output error"}


def check_error(printed: str, error: int, path: str) -> None:
    """Assert that a job ended in one sentence that says which file, why, and what to do."""
    assert "Traceback" not in printed, printed
    last = printed.strip().splitlines()[-1]
    assert last.startswith("error: cannot write"), printed
    assert ERRORS[error] in last
    assert "it goes on from here" in last
    assert Path(path.partition(files.TEMPORARY)[0]).name in last


def fail_along(case: Case, name: str, chosen: list[tuple[str, str, int]], **how: int) -> None:
    """Let one run fail again and again, each time further on; then let it end."""
    options = case.run(name)
    run = Path(str(options["run"]))
    for number, (kind, path, at) in enumerate(chosen):
        if landed(run, path):
            continue
        error = list(ERRORS)[number % 2]
        is_folder = kind == "fsync" and not Path(path).suffix
        pattern = path if is_folder or kind == "rename" else f"{path}{files.TEMPORARY}*"
        ended = case.servers[0].job(options, call=kind, path=pattern, at=at, error=error, **how)
        assert ended.code == 2, (kind, path, ended.printed)
        check_error(ended.printed, error, "" if is_folder else path)
        assert files.leftovers(run) == []
    ended = case.servers[0].job(options)
    assert ended.code == 0, ended.printed
    assert_equal(run, case.expected)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_the_job_goes_on(case: Case) -> None:
    chosen = [
        ("write", "activations/shard-00001.h5", 1),
        ("fsync", "bank/bank.h5", 1),
        ("rename", "tables/concepts.parquet", 1),
    ]
    fail_along(case, "full", chosen)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_kind_of_call_fails_on_every_kind_of_file(case: Case) -> None:
    listed = [step for step in steps(case.calls) if step[1] != "run.json" and step[2] == 1]
    assert {call for call, _, _ in listed} == {"open", "write", "fsync", "rename"}
    fail_along(case, "errors", listed[::2])


@pytest.mark.slow
def test_a_disk_that_stays_full_is_said_once(case: Case) -> None:
    options = case.run("stays-full")
    fault: dict[str, Any] = {"call": "write", "path": "heatmaps/*", "at": 1, "error": errno.ENOSPC}
    ended = case.servers[0].job(options, **fault, on=1)
    assert ended.code == 2, ended.printed
    assert ended.printed.count("No space left") == 1
    check_error(ended.printed, errno.ENOSPC, "shard-00000.h5")


def flip(at: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[min(len(data) - 1, int(at * len(data)))] ^= 0x10
        path.write_bytes(bytes(data))

    return change


def cut_off(at: float) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, int(at * path.stat().st_size))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "activations/shard-00001.h5": (flip(0.5), "activations/shard-00001"),
    "bank/bank.h5": (flip(0.7), "bank/b|bank/k"),
    "tables/concepts.parquet": (Path.unlink, "tables/"),
    "run.json": (cut_off(0.6), "activations/images|config.toml"),
}
MORE_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "activations/shard-00000.h5": (cut_off(0.3), "activations/shard-00000"),
    "activations/shard-00002.json": (cut_off(0.5), "activations/shard-00002"),
    "heatmaps/shard-00002.h5": (flip(0.01), "heatmaps/shard-00002"),
    "bank/k_metrics.json": (Path.unlink, "bank/b|bank/k"),
    "bank/classes.h5": (cut_off(0), "bank/classes|bank/objects|bank/suspects"),
    "atlas/index.html": (flip(0.9), "atlas/"),
    "activations/images.parquet": (flip(0.5), "activations/images|config.toml"),
    "config.toml": (Path.unlink, "activations/images|config.toml"),
}
"""A file, what happens to it, and the pattern of what is made again."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*DAMAGE, *MORE_DAMAGE])
def test_what_is_damaged_is_named_and_made_again_and_nothing_else(case: Case, name: str) -> None:
    run = case.copy(re.sub(r"\W", "-", name))
    change, again = (DAMAGE | MORE_DAMAGE)[name]
    change(run / name)
    if name != "run.json":
        _, bad = check_files(Workspace.open(run))
        assert list(bad) == [run / name]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    ended = case.servers[0].job(case.options | {"run": run})
    assert ended.code == 0, ended.printed
    assert_equal(run, case.expected)
    written = {
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and path.stat().st_mtime_ns != before.get(path)
    }
    others = [each for each in written if not re.match(f"{again}|run.json|logs/", each)]
    assert others == []
    assert name in written


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["heatmaps", "none"])
def test_what_is_not_kept_is_made_only_where_it_is_needed(case: Case, keep: str) -> None:
    run = case.copy(f"keep-{keep}")
    options = case.options | {"run": run, "keep": keep}
    assert case.servers[0].job(options).code == 0
    kept = ["heatmaps"] if keep == "heatmaps" else []
    stores = [path.parent.name for path in run.rglob("shard-00000.h5")]
    assert stores == kept
    workspace = Workspace.open(run)
    assert workspace.config.keep == keep
    assert to_make(workspace) == {}
    assert check_files(workspace)[1] == {}
    before = contents(run)
    assert case.servers[0].job({"run": run}).code == 0
    assert contents(run) == before
    lost = "heatmaps/shard-00001.h5" if keep == "heatmaps" else "tables/rejected.parquet"
    (run / lost).unlink()
    ended = case.servers[0].job({"run": run})
    assert ended.code == 0, ended.printed
    assert contents(run) == before
    ended = case.servers[0].job({"run": run, "keep": "all"})
    assert ended.code == 0, ended.printed
    assert_equal(run, case.expected)


@pytest.mark.slow
def test_leftovers_are_removed_and_locks_of_the_dead_do_not_hold(case: Case) -> None:
    run = case.copy("leftovers")
    for name in ("run.json", "activations/shard-00000.h5", "atlas/media/x.jpg"):
        (run / f"{name}{files.TEMPORARY}4242").write_bytes(b"half")
    (run / "logs" / "writer.lock").write_text("process 4242 on elsewhere since yesterday")
    assert call("verify", [f"--run={run}"]) == 2
    ended = case.servers[0].job(case.options | {"run": run})
    assert ended.code == 0, ended.printed
    assert_equal(run, case.expected)


@pytest.mark.slow
def test_two_jobs_in_one_folder(case: Case) -> None:
    options = case.run("two")
    run = Path(str(options["run"]))
    stop: dict[str, Any] = {"call": "rename", "path": "activations/shard-00001.h5", "at": 1}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(case.servers[0].job, options, **stop, signal=int(signal.SIGSTOP))
        while not (run / "activations" / "shard-00000.json").exists():
            assert not first.done(), first.result().printed
        second = case.servers[1].job(options)
        holder = re.search(r"being written by process (\d+) on (\S+) since", second.printed)
        assert holder is not None, second.printed
        assert second.code == 2
        assert holder[2] == os.uname().nodename
        assert call("clean", [f"--run={run}"]) == 2
        os.kill(int(holder[1]), signal.SIGCONT)
        assert first.result().code == 0, first.result().printed
    assert_equal(run, case.expected)


@pytest.mark.slow
def test_an_interrupted_job_says_how_to_go_on(case: Case) -> None:
    options = case.run("interrupted")
    run = Path(str(options["run"]))
    stop: dict[str, Any] = {"call": "rename", "path": "activations/shard-00001.h5", "at": 1}
    ended = case.servers[0].job(options, **stop, signal=int(signal.SIGINT))
    assert ended.code == 130, ended.printed
    assert "Traceback" not in ended.printed
    assert f"to go on: make discover RUN={run}" in ended.printed
    assert (run / "activations" / "shard-00000.json").exists()
    assert not (run / "bank" / "bank.h5").exists()  # shards in flight may still have landed
    assert '"failed"' in (run / "run.json").read_text()
    ended = case.servers[0].job({"run": run})
    assert ended.code == 0, ended.printed
    assert_equal(run, case.expected)


@pytest.mark.slow
def test_parts_side_by_side_make_what_one_job_makes(case: Case) -> None:
    options = case.run("parts")
    run = Path(str(options["run"]))
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(server.job, options | {"shard": f"{part}/2"})
            for part, server in enumerate(case.servers)
        ]
        for job in jobs:
            assert job.result().code == 0, job.result().printed
    assert len(list((run / "activations").glob("*.h5"))) == 3
    ended = case.servers[0].job({"run": run})
    assert ended.code == 0, ended.printed
    assert_equal(run, case.expected)


@pytest.mark.slow
def test_status_says_what_is_left(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(name: str) -> str:
        call(name, {"run": run})
        return capsys.readouterr().out

    run = case.copy("status")
    assert printed("status").count(" done ") == 6
    (run / "heatmaps" / "shard-00001.h5").unlink()
    shutil.rmtree(run / "atlas")
    told = printed("status")
    assert re.search(r"localize +to do", told)
    assert re.search(r"heatmaps +2 of 3 shards", told)
    assert re.search(r"atlas +0 of 1 written", told)
    assert f"to go on: make discover RUN={run}" in told
    named = printed("verify")
    assert f"bad  {run / 'heatmaps' / 'shard-00001.h5'}: is missing" in named
    assert f"bad  {run / 'atlas' / 'atlas.json'}: is missing" in named


@pytest.mark.slow
def test_clean_leaves_what_is_not_the_runs(case: Case) -> None:
    run = case.copy("clean")
    (run / "notes.txt").write_text("mine")
    assert call("clean", [f"--run={run}"]) == 0
    assert [path.name for path in run.iterdir()] == ["notes.txt"]
    other = case.servers[0].job(case.options | {"run": run})
    assert other.code == 2
    assert f"RUN={run} holds other files, such as 'notes.txt'" in other.printed


@pytest.mark.slow
def test_workers_are_interrupted_with_their_job(case: Case) -> None:
    """A process group, as a terminal interrupts it; the lock is free at once."""
    options = case.run("group") | {"workers": 2, "layer": "parts"}
    run = Path(str(options["run"]))
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.discover", *argv],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # as the servers have it
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(run.glob("activations/shard-*.h5")):
        assert process.poll() is None, process.communicate()[1]
    os.killpg(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    if process.returncode != 0:  # else it was faster than the signal
        assert process.returncode == 130, printed
        assert "the run can be resumed" in printed
        assert "Traceback" not in printed
    ended = case.servers[0].job({"run": run})
    assert ended.code == 0, ended.printed
    assert_equal(run, case.expected)
