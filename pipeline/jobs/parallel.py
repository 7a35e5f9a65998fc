"""Running one function over shards: in this process, or in the workers of a Dask cluster.

The function is named by its import path and gets a run's folder and a shard's index, so that a
task is a few bytes and a worker loads the network once. Results come back in shard order; which
worker did what, and when, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..config import Config
from ..errors import UserError, option
from ..system.processes import IMPORTABLE, python_path

ShardTask = Callable[[Path, int], dict[str, int]]


def is_distributed(config: Config) -> bool:
    """Say whether the run asks for a cluster."""
    return config.workers > 0 or config.scheduler is not None


def over_shards(
    task: ShardTask, folder: Path, shards: Sequence[int], config: Config
) -> Iterator[dict[str, int]]:
    """Run ``task(folder, shard)`` for every shard on a Dask cluster; yield counts as they come.

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
    """
    from distributed import Client, LocalCluster, as_completed

    if config.scheduler is not None:
        with Client(config.scheduler) as client:
            yield from _gather(client, as_completed, task, folder, shards)
        return
    threads = max(1, torch.get_num_threads() // config.workers)
    with (
        LocalCluster(
            n_workers=config.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            env={"OMP_NUM_THREADS": str(threads), "PYTHONPATH": python_path()},
            preload=[f"{IMPORTABLE}.jobs.worker"],
        ) as cluster,
        Client(cluster) as client,
    ):
        yield from _gather(client, as_completed, task, folder, shards)


def _gather(
    client: Any, as_completed: Any, task: ShardTask, folder: Path, shards: Sequence[int]
) -> Iterator[dict[str, int]]:
    from distributed import KilledWorker

    futures = client.map(task, [folder.resolve()] * len(shards), list(shards), pure=False)
    try:
        for future in as_completed(futures):
            yield future.result()
    except KilledWorker as error:
        raise UserError(
            f"workers died over and over ({error}): where memory is short, take fewer"
            f" {option('workers')}; then give the same command again: it goes on from here"
        ) from error


def parts_of_shard(parts: Sequence[int], shard: str | None) -> list[int]:
    """Return the parts that fall to ``SHARD=i/n``; all of them where it is not given."""
    if shard is None:
        return list(parts)
    index, n = map(int, shard.split("/"))
    return [part for part in parts if part % n == index]
