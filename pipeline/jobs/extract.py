"""Extraction: every image through the network once, its activations into shards.

Batches go through all their steps in lanes (see `system.lanes`), durable writes follow in a
thread of their own; batches never straddle shards, so what a shard holds depends on its images
alone.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import torch

from ..errors import UserError, option
from ..images import UNREADABLE, ImageRecord, Rejected, reading_ahead
from ..models.runtime import Runner, compile_cut
from ..models.together import Together
from ..runs.duplicates import tell_duplicates
from ..runs.estimate import bound_decoding
from ..runs.identity import images_digest
from ..runs.record import ForwardPass
from ..runs.workspace import Workspace
from ..store import BATCHES
from ..system.lanes import in_order, lanes
from ..system.progress import bar, say
from .batch import Batch, decode_image, join, run_batch
from .parallel import binding, is_distributed, over_shards

BATCH_CUDA, BATCH = BATCHES
"""Images a lane takes at once. On SqueezeNet and MobileNetV2, 8 and 32 were 5 to 20 % slower than
16; on a GPU more of them are needed to fill it."""

PROBES = 256
"""Images on which ``PRECISION=auto`` is decided."""

WRITES_AHEAD = 1
"""Finished shards that may wait for the disk."""

Tick = Callable[[int], object]
"""Told of so many images more that went through the network."""


def extract(
    workspace: Workspace,
    shards: list[int] | None = None,
    beside: Sequence[Workspace] = (),
) -> dict[str, int | float]:
    """Dump the activations of all images that are not yet there.

    Parameters
    ----------
    workspace : Workspace
        A prepared run.
    shards : list of int, optional
        What to make; by default all shards that are missing.
    beside : sequence of Workspace
        Runs at other layers whose same shards the same forward passes make, in whose records they
        then stand; see `pipeline.jobs.together`.

    Returns
    -------
    dict
        Counts: images, rejected, shards and, once all shards are there, distinct images.

    Raises
    ------
    UserError
        NaN or overflow in the activations, too many rejected images, none left.
    """
    store = workspace.activations
    missing = store.missing() if shards is None else shards
    n_images = len(workspace.listing.frame)
    n_done = n_images - sum(len(workspace.listing.shard(index)) for index in missing)
    rejected = len(list_rejected(workspace))
    _check_rejects(workspace, rejected)
    # First, for the time left of the extraction would count it in.
    runs = (workspace, *beside)
    runner = choose_runner(runs) if missing else None
    with bar("extract", n_images, "images", n_done) as shown:
        for counts in _run_shards(runs, runner, missing, shown.update):
            rejected += counts["rejected"]
            _check_rejects(workspace, rejected)
    rejected = len(list_rejected(workspace))
    n_kept = n_images - (rejected - len(workspace.record.dataset.rejected))
    if n_kept == 0:
        raise UserError(
            f"none of the {n_images} images could be read; the first:"
            f" {list_rejected(workspace)[0].path}: {list_rejected(workspace)[0].reason}"
        )
    total: dict[str, int | float] = {"images": n_kept, "rejected": rejected}
    total["shards"] = store.n_shards
    stores = (store, workspace.heatmaps)  # of the shards that are not kept, heatmaps tell as well
    if all(any(each.is_there(index) for each in stores) for index in range(store.n_shards)):
        total["distinct"] = _count_distinct(workspace)
    return total


def _count_distinct(workspace: Workspace) -> int:
    """Count the images that are no copy of another; say which are copies or near-duplicates."""
    workspace.reload("images")
    for line in tell_duplicates(workspace.duplicates, workspace.images["label"].sort_index()):
        workspace.tell(f"extract    {line}")
    return int((~workspace.duplicates.is_copy).sum())


def list_rejected(workspace: Workspace) -> list[Rejected]:
    """List what was refused, when the dataset was listed and when it was decoded, by path."""
    rejected = [Rejected(each.path, each.reason) for each in workspace.record.dataset.rejected]
    stores = (workspace.activations, workspace.heatmaps)
    for index in range(workspace.listing.n_shards):
        # Heatmaps hold them too, for activations need not be kept.
        store = next((store for store in stores if store.is_there(index)), None)
        if store is None:
            continue
        arrays = store.read(index, ["rejected_path", "rejected_reason"])
        pairs = zip(arrays["rejected_path"], arrays["rejected_reason"], strict=True)
        rejected += [Rejected(path.decode(), reason.decode()) for path, reason in pairs]
    return sorted(rejected, key=lambda entry: (entry.path, entry.reason))


def extract_shard(
    folder: Path, index: int, workers: int = 1, beside: tuple[Path, ...] = ()
) -> dict[str, int]:
    """Extract one shard of the run in `folder`, as one of so many workers of this machine.

    Those of the runs `beside` it are made with it. Returns counts: images, rejected.
    """
    folders = (folder, *beside)
    runs, runner = _worker(folders, workers, tuple(map(binding, folders)))
    (counts,) = _extract(runs, runner, [index], lambda n: None)
    return counts


def choose_runner(runs: Sequence[Workspace]) -> Runner:
    """Compile the network for a run's device and precision, and those beside it.

    What ``PRECISION=auto`` comes to is decided once per run, by timing and agreement on its first
    images, and recorded: workers and resumed runs must compute as the first shards were.
    """
    first = runs[0]
    if first.record.forward is None:
        with first.alone("forward"):  # parts side by side must not decide differently
            return _compile(runs, first.record.forward)
    return _compile(runs, first.record.forward)


def _compile(runs: Sequence[Workspace], decided: ForwardPass | None) -> Runner:
    if decided is not None:
        runner = _choose_way(runs, decided, lambda n: None)
    else:
        with bar("precision", None, "images tried", leave=False) as shown:
            runner = _choose_way(runs, None, shown.update)
        say(f"extract    {runner.how}")
    for workspace in runs:
        if workspace.record.forward is None:
            note_runner(workspace, runner)
    return runner


def _choose_way(runs: Sequence[Workspace], decided: ForwardPass | None, tick: Tick) -> Runner:
    workspace = runs[0]
    config = workspace.config
    device = workspace.device
    return compile_cut(
        Together([each.trunk for each in runs]),
        device=device,
        precision=config.precision if decided is None else decided.precision,
        compiled=None if decided is None else decided.compiled,
        batch_size=BATCH if device == "cpu" else BATCH_CUDA,
        probe_images=None if decided or config.precision != "auto" else _probes(workspace),
        n_images=len(workspace.listing.frame),
        tick=tick,
    )


def note_runner(workspace: Workspace, runner: Runner) -> None:
    """Record how a run's activations are computed."""
    found = ForwardPass(precision=runner.precision, compiled=runner.compiled, how=runner.how)
    workspace.note(forward=found)


def _probes(workspace: Workspace) -> torch.Tensor | None:
    """Decode the first images of the run, those that can be."""
    listing = workspace.listing
    records = listing.records(slice(0, PROBES))
    with lanes() as pool, reading_ahead(workspace.source, records):
        decode = partial(decode_image, workspace)
        probes = [*in_order(pool, decode, records)]
    pixels = [probe.pixels for probe in probes if probe.pixels is not None]
    return torch.stack(pixels) if pixels else None


def _run_shards(
    runs: Sequence[Workspace], runner: Runner | None, shards: list[int], tick: Tick
) -> Iterator[dict[str, int]]:
    if runner is None:
        return
    workspace = runs[0]
    if is_distributed(workspace.config):
        beside = tuple(each.folder.resolve() for each in runs[1:])
        task = partial(extract_shard, workers=max(1, workspace.config.workers), beside=beside)
        for counts in over_shards(task, workspace.folder, shards, workspace.config):
            tick(counts["images"] + counts["rejected"])
            yield counts
        return
    yield from _extract(runs, runner, shards, tick)


@lru_cache(maxsize=1)
def _worker(
    folders: tuple[Path, ...], workers: int, bound: tuple[str, ...]
) -> tuple[list[Workspace], Runner]:
    runs = [Workspace.open(folder) for folder in folders]
    for each in runs[1:]:
        each.hold(network=runs[0].network)
    bound_decoding([each.trunk for each in runs], runs[0].config, workers)
    return runs, choose_runner(runs)


def _extract(
    runs: Sequence[Workspace], runner: Runner, shards: Sequence[int], tick: Tick
) -> Iterator[dict[str, int]]:
    """Extract shards one after the other, their batches in lanes; write the last one meanwhile."""

    def work(task: tuple[int, list[ImageRecord]]) -> tuple[int, Batch]:
        return task[0], run_batch(runs, runner, task[1])

    writing: deque[Future[dict[str, int]]] = deque()
    images = chain.from_iterable(map(runs[0].listing.shard, shards))
    with (
        lanes(keep_memory=True) as pool,
        ThreadPoolExecutor(1) as writer,
        reading_ahead(runs[0].source, images),
    ):
        done = in_order(pool, work, _tasks(runs[0], shards, runner.batch_size))
        for index, results in groupby(done, key=itemgetter(0)):
            batches = []
            for _, batch in results:
                batches.append(batch)
                tick(len(batch.images))
            writing.append(writer.submit(_publish, runs, index, batches))
            if len(writing) > WRITES_AHEAD:
                yield writing.popleft().result()
        while writing:
            yield writing.popleft().result()


def _tasks(
    workspace: Workspace, shards: Sequence[int], size: int
) -> Iterator[tuple[int, list[ImageRecord]]]:
    """Yield the batches of shards; none straddles two, so a shard depends on its images alone."""
    for index in shards:
        records = workspace.listing.shard(index)
        for start in range(0, len(records), size):
            yield index, records[start : start + size]


def _publish(runs: Sequence[Workspace], index: int, batches: list[Batch]) -> dict[str, int]:
    images = [image for batch in batches for image in batch.images]
    made_from = {"images": images_digest([image.content for image in images])}
    closed = [image.record.path for image in images if image.reason.startswith(UNREADABLE)]
    if closed:
        made_from["unreadable"] = json.dumps(closed)
    for place, workspace in enumerate(runs):
        if len(runs) > 1 and workspace.activations.is_there(index):
            continue  # one of several was killed before the others had theirs
        forward = workspace.record.forward
        assert forward is not None  # chosen before the first shard
        of_run = {
            "inputs": workspace.inputs_digest(index),
            "forward": json.dumps(forward.model_dump(), sort_keys=True),
        }
        arrays = join(workspace, batches, place)
        workspace.activations.write(index, arrays, made_from | of_run, layer=workspace.config.layer)
    n_rejected = sum(bool(image.reason) for image in images)
    return {"images": len(images) - n_rejected, "rejected": n_rejected}


def _check_rejects(workspace: Workspace, n_rejected: int) -> None:
    most = workspace.config.max_rejects
    if most is None or n_rejected <= most:
        return
    last = list_rejected(workspace)[-1]
    raise UserError(
        f"{n_rejected} images could not be read, more than {option('max_rejects', most)};"
        f" the last: {last.path}: {last.reason}"
    )
