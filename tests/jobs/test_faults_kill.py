"""Jobs killed at every publishing step and at random moments go on to the same bits."""

from __future__ import annotations

import random
import re
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.system import files
from tests.faults.jobs import Case, Server, assert_equal, contents

N_MOMENTS = 30
UNFINISHED = ("bank/unfinished.h5", "atlas/atlas.begun.json")
"""What a fit goes on from, and what tells an atlas that was begun; no finished run has them."""


def published(run: Path) -> dict[str, bytes]:
    """Return what a run that was killed has of a finished one's files, by name."""
    return {
        name: data
        for name, data in contents(run).items()
        if files.TEMPORARY not in name and name not in UNFINISHED
    }


def check_partial(run: Path, case: Case, *, nothing_yet: bool = False) -> None:
    """Assert that something was published and something was not."""
    found = published(run)
    assert found.keys() <= case.expected.keys()
    assert found != case.expected
    assert found or nothing_yet


@pytest.mark.slow
def test_a_killed_job_goes_on_to_the_same_bits(case: Case) -> None:
    options = case.run("once")
    run = Path(str(options["run"]))
    ended = case.servers[0].job(options, call="rename", path="heatmaps/shard-00001.h5", at=1)
    assert ended.code == -signal.SIGKILL, ended.printed
    check_partial(run, case)
    assert (run / "heatmaps" / "shard-00000.json").exists()
    assert not (run / "heatmaps" / "shard-00001.h5").exists()
    left = files.leftovers(run)
    assert [path.name.split(files.TEMPORARY)[0] for path in left] == ["shard-00001.h5"]
    untouched = (run / "activations" / "shard-00000.h5").stat().st_mtime_ns
    ended = case.servers[0].job(options)
    assert ended.code == 0, ended.printed
    assert (run / "activations" / "shard-00000.h5").stat().st_mtime_ns == untouched
    assert_equal(run, case.expected)


def landed(run: Path, path: str) -> bool:
    """Say whether a shard is there already: others are in flight while a job fails at one."""
    return "/shard-" in path and (run / path).with_suffix(".json").exists()


LAST = (
    "activations/shard-00002.json", "bank/bank.json", "heatmaps/shard-00002.json",
    "bank/classes.json", "tables/tables.json", "atlas/atlas.json",
)  # fmt: skip
"""The last file of each stage; what follows is its end in ``run.json``."""


def steps(calls: list[tuple[str, str]]) -> list[tuple[str, str, int]]:
    """Return which calls to kill at, in the order in which a job comes to them.

    Of each kind of call on each kind of file the first two; shards are of one kind, so are tables,
    and so is what the atlas consists of. Of ``run.json`` the beginning and the end of each stage:
    the first and the second time that it is renamed by a job that begins there.
    """
    found: list[tuple[str, str, int]] = []
    times: Counter[tuple[str, str]] = Counter()
    seen: set[tuple[str, str]] = set()
    for call, path in calls:
        if f"/scratch{files.TEMPORARY}" in path:
            continue  # what a stage puts aside is not published
        name = path.partition(files.TEMPORARY)[0]
        kind = re.sub(r"\d+", "#", name)
        kind = re.sub(r"^(tables|atlas)/.+(?<!\.json)$", r"\1/*", kind)
        if (call, name) == ("rename", "run.json"):
            found.append((call, name, 1))
        elif (call, name) not in seen and times[call, kind] < 2:
            seen.add((call, name))
            times[call, kind] += 1
            found.append((call, name, 1))
        if call == "rename" and name in LAST:
            found.append((call, "run.json", 2))
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 5])
def test_kills_at_publishing_steps(case: Case, stride: int) -> None:
    """One run is killed again and again, each time a step further; then it is let go on."""
    every = steps(case.calls)
    assert {call for call, _, _ in every} == {"open", "write", "fsync", "rename"}
    assert len(every) > 80
    listed = every[::stride]

    def chain(half: int) -> int:
        options = case.run(f"steps-{stride}-{half}")
        run = Path(str(options["run"]))
        n_killed = 0
        for call, path, at in listed[half::2]:
            if landed(run, path):
                continue
            is_folder = call == "fsync" and not Path(path).suffix
            pattern = path if is_folder or call == "rename" else f"{path}{files.TEMPORARY}*"
            ended = case.servers[half].job(options, call=call, path=pattern, at=at)
            assert ended.code in (0, -signal.SIGKILL), ended.printed
            if ended.code == 0:
                break  # a second chance: nothing was left to do
            n_killed += 1
            is_first = not (run / "activations" / "images.parquet").exists()
            check_partial(run, case, nothing_yet=is_first)
        ended = case.servers[half].job(options)
        assert ended.code == 0, ended.printed
        assert_equal(run, case.expected)
        return n_killed

    with ThreadPoolExecutor(2) as pool:
        n_killed = sum(pool.map(chain, (0, 1)))
    print(f"killed at {n_killed} of {len(listed)} steps")
    assert n_killed >= 0.9 * len(listed)  # the last few may find nothing left to do


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_kills_at_random_moments(case: Case) -> None:
    """Moments are drawn until enough of them fall where something was published, but not all."""

    def kill(server: Server, draw: random.Random, number: int, longest: float) -> float:
        """Kill a job at a moment, let it go on; return the moment, 0 or less if it was unfit."""
        options = case.run(f"moment-{number}")
        run = Path(str(options["run"]))
        moment = draw.uniform(0.0, longest)
        ended = server.job(options, kill_after=moment)
        if ended.code == 0:
            return -ended.seconds
        assert ended.code == -signal.SIGKILL, ended.printed
        if not (run / "run.json").exists() or published(run) == case.expected:
            return 0.0  # before the first file, or after the last
        check_partial(run, case)
        ended = server.job(options)
        assert ended.code == 0, ended.printed
        assert_equal(run, case.expected)
        files.remove(run)
        return moment

    def moments(half: int) -> list[float]:
        draw = random.Random(half)
        found: list[float] = []
        longest = case.ended.seconds
        for number in range(4 * N_MOMENTS):
            moment = kill(case.servers[half], draw, 2 * number + half, longest)
            if moment < 0:
                longest = -moment  # the machine has become faster than it was
            elif moment > 0:
                found.append(moment)
            if len(found) == N_MOMENTS // 2:
                break
        return found

    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        found = sorted(moment for part in pool.map(moments, (0, 1)) for moment in part)
    print(f"{len(found)} kills at {', '.join(f'{moment:.1f}' for moment in found)} s")
    print(f"{time.monotonic() - start:.0f} s in all")
    assert len(found) == N_MOMENTS
