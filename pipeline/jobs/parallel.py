"""Running one function over shards: in processes of this machine, or in the workers of a cluster.

The function is named by its import path and gets a run's folder and a shard's index, so that a
task is a few bytes and a worker loads the network once. Which worker did what, and when, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from ..config import Config
from ..runs.record import RunRecord
from ..runs.stages import MAKER
from ..store import combine, read_record
from ..system.processes import as_they_come
from . import cluster

ShardTask = Callable[[Path, int], dict[str, int]]


def is_distributed(config: Config) -> bool:
    """Say whether other processes than this one work on the shards."""
    return config.workers > 0 or config.scheduler is not None


def over_shards(
    task: ShardTask, folder: Path, shards: Sequence[int], config: Config
) -> Iterator[dict[str, int]]:
    """Run ``task(folder, shard)`` for every shard in other processes; yield counts as they come.

    Parameters
    ----------
    task : callable
        A module-level function; it publishes its outcome and returns counts.
    folder : Path
        The run.
    shards : sequence of int
        What to work on.
    config : Config
        ``scheduler`` names a running cluster; else ``workers`` local processes are started, which
        share the cores evenly.

    Raises
    ------
    UserError
        Workers died over and over, or the cluster went away.
    """
    work = partial(task, folder.resolve())
    if config.scheduler is not None:
        yield from cluster.as_they_come(work, shards, config.scheduler)
        return
    threads = max(1, torch.get_num_threads() // config.workers)
    environment = {"OMP_NUM_THREADS": str(threads)}
    yield from as_they_come(work, shards, config.workers, environment)


def parts_of_shard(parts: Sequence[int], shard: str | None) -> list[int]:
    """Return the parts that fall to ``SHARD=i/n``; all of them where it is not given."""
    if shard is None:
        return list(parts)
    index, n = map(int, shard.split("/"))
    return [part for part in parts if part % n == index]


def binding(folder: Path) -> str:
    """Digest what a worker loads of a run: it lives for long, and the run may be made anew."""
    record = RunRecord.load(folder / "run.json")
    made = record.model_copy(update={"stages": {}}).model_dump_json()
    bank = read_record(MAKER["bank"].record_path(folder), MAKER["bank"].makes)
    return combine([made, "" if bank is None else bank.digest])
