"""Benchmark of the extraction: against the bare network and decoder, and against the plain way.

The limit is what this machine needs if decoding and the forward pass cost only themselves:
1 / (1/forward + 1/decode) images per second, both on all cores, the one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from matplotlib.axes import Axes
from torchvision.io import ImageReadMode, decode_jpeg, read_file

from benchmarks.harness import (
    Report,
    Target,
    alternate,
    assets,
    introduce,
    plot,
    ratio,
    seconds,
    show,
)
from benchmarks.layers import TARGET, measure_layers
from benchmarks.plain import Images, dump
from benchmarks.whole import STAGE_NAMES, discover_over_extract, memory_of_stages, repeat_images
from pipeline.config import make_config
from pipeline.images import InputSize, decode, fit_to_input, sides
from pipeline.jobs import extract as job
from pipeline.models import cut, load_network
from pipeline.models.runtime import Runner, compile_cut
from pipeline.runs.prepare import prepare
from pipeline.system import files
from pipeline.system.lanes import in_order, lanes

NETWORKS = ("resnet50", "mobilenet_v2", "squeezenet1_1")
PARTS = (*NETWORKS, "layers", "discover", "memory")
COMMON = {"weights": "random", "device": "cpu"}
"""For networks without real weights at hand. ``PRECISION=auto`` would find little agreement with
random ones, so the precision is the one that is timed as faster."""

TARGETS = (
    Target("extract.resnet50.of_limit", "at-least", 0.85),
    Target("extract.mobilenet_v2.of_limit", "at-least", 0.7),
    Target("extract.squeezenet1_1.of_limit", "at-least", 0.7),
    Target("extract.resnet50.over_plain", "at-least", 5),
    Target("extract.discover_over_extract", "at-most", 1.25),
    Target(TARGET, "at-most", 1.15),
    Target("extract.peak_memory_gb", "at-most", 1.5),
    Target("extract.memory_growth", "at-most", 1.05),
)
LONG_JOB = 100_000
"""Images for which compiling pays: the limit is that of a long job."""

LAYER_OF_PLAIN = "layer4"
Times = dict[str, list[float]]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    n_images: int
    n_forward: int
    n_plain: int
    rounds: int
    memory: tuple[int, int]
    thorough: bool


QUICK = Size(384, n_forward=192, n_plain=32, rounds=2, memory=(800, 2_400), thorough=False)
FULL = Size(1_920, n_forward=960, n_plain=96, rounds=7, memory=(1_000, 20_000), thorough=True)
"""Many short turns rather than few long ones: what else a machine does comes and goes within a
minute, and parts of one ratio should meet the same of it."""

N_DISCOVERED = 10_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a smaller case, within two minutes")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; repeatable")
    given = parser.parse_args(argv)
    introduce(given.quick)
    quick, asked = given.quick, given.only or PARTS
    size = QUICK if quick else FULL
    report = Report(TARGETS)
    try:
        photos, small = assets("images", "imagenet_samples"), assets("images", "imagenette224")
    except FileNotFoundError as error:
        report.skip_rest(str(error))
        return report.finish()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _show_peaks()
        photos = repeat_images(photos, folder / "photos", size.n_images)
        rates = {
            network: _measure(network, photos, size, folder, report)
            for network in NETWORKS
            if network in asked
        }
        if "layers" in asked:
            measure_layers(photos, folder, {**COMMON, "precision": "bf16"}, size.rounds, report)
        _measure_whole_jobs(small, quick, asked, folder, report)
    if rates:
        plot("extract-quick" if quick else "extract", partial(_draw, rates))
    report.skip_rest("not asked for")
    return report.finish()


def fastest_runner(network: str) -> Runner:
    """Return the fastest way this machine has to run a network."""
    layer = cut(load_network(network, Path(_weights(network))), "auto")
    shape = (4, job.BATCH, 3, *sides(layer.network.image_size))
    batches = list(torch.randint(0, 256, shape, dtype=torch.uint8))
    runners = [
        compile_cut(layer, precision=precision, batch_size=job.BATCH, n_images=LONG_JOB)
        for precision in ("fp32", "bf16")
    ]
    times = {
        runner.precision: min(seconds(partial(in_lanes, runner, batches)) for _ in "12")
        for runner in runners
    }
    return min(runners, key=lambda runner: times[runner.precision])


def _weights(network: str) -> str:
    """Name the real weights, where there are some: other activations are not as sparse."""
    with contextlib.suppress(FileNotFoundError):
        return str(assets("weights", f"{network}.safetensors"))
    return COMMON["weights"]


def fastest_forward(
    runner: Runner, images: torch.Tensor, thorough: bool
) -> tuple[str, Callable[[], object]]:
    """Return the fastest way to run the network on ready tensors, and its name.

    Parameters
    ----------
    runner : Runner
        What the extraction runs, in lanes.
    images : Tensor
        uint8 (n, 3, size, size).
    thorough : bool
        Whether to try it compiled for all threads together too, in larger batches, which takes
        another compilation.
    """
    ready = torch.split(images, runner.batch_size)
    ways: dict[str, Callable[[], object]] = {"in lanes": partial(in_lanes, runner, ready)}
    if thorough and runner.compiled and torch.get_num_threads() > 1:
        plain = compile_cut(runner.cut, precision="bf16", compiled=False, batch_size=32)
        whole = torch.compile(plain.body, dynamic=False, options={"freezing": True})
        large = [batch for batch in torch.split(images, 32) if len(batch) == 32]

        def together() -> None:
            with torch.no_grad():
                for batch in large:
                    whole(batch)

        together()
        ways["on all threads"] = together
    names = sorted(ways, key=lambda name: min(seconds(ways[name]) for _ in "12"))
    return names[0], ways[names[0]]


def in_lanes(work: Callable[[Any], object], items: Iterable[Any]) -> list[object]:
    """Do `work` on all items, in lanes."""
    with lanes(keep_memory=True) as pool:
        return list(in_order(pool, work, items))


def fastest_decoding(paths: Sequence[Path], size: InputSize) -> Callable[[], list[torch.Tensor]]:
    """Return the fastest way to the very tensors that the extraction gives the network.

    libjpeg-turbo and the resizing alone, in lanes, without the checks the product makes; the
    product's own way for files that come out different, and altogether if it is faster.
    """
    links = [path.resolve() for path in paths]  # many names, few files
    different = {
        path for path in set(links) if not torch.equal(_bare(path, size), _own(path, size))
    }
    ways: list[Callable[[Path], torch.Tensor]] = [
        lambda path: (_own if path in different else _bare)(path, size),
        partial(_own, size=size),
    ]

    works = [partial(_decode_all, way, links) for way in ways]
    return min(works, key=seconds)


def _decode_all(way: Callable[[Path], torch.Tensor], paths: Sequence[Path]) -> list[torch.Tensor]:
    batches = [paths[start : start + job.BATCH] for start in range(0, len(paths), job.BATCH)]
    with lanes() as pool:
        done = in_order(pool, lambda batch: [way(path) for path in batch], batches)
        return [image for batch in done for image in batch]


def _bare(path: Path, size: InputSize) -> torch.Tensor:
    return fit_to_input(decode_jpeg(read_file(str(path)), mode=ImageReadMode.RGB), size)[0]


def _own(path: Path, size: InputSize) -> torch.Tensor:
    return fit_to_input(decode(path), size)[0]


def _measure(
    network: str, photos: Path, size: Size, folder: Path, report: Report
) -> dict[str, float]:
    """Time a network's forward pass, decoding and extraction in turns, and judge them.

    Returns
    -------
    dict
        Images per second of each.
    """
    runner = fastest_runner(network)
    paths = sorted(photos.iterdir())
    decoding = fastest_decoding(paths, runner.cut.network.image_size)
    ready = torch.stack(decoding()[: size.n_forward])
    how, forward = fastest_forward(runner, ready, thorough=size.thorough)
    works: dict[str, Callable[[], object]] = {
        "forward": forward,
        "decode": decoding,
        "extraction": extraction(network, runner, photos, folder / network),
    }
    n_images = dict.fromkeys(works, len(paths)) | {"forward": len(ready)}
    if network == "resnet50":
        works |= (plain := _plain_ways(runner, paths[: size.n_plain], folder))
        n_images |= dict.fromkeys(plain, size.n_plain)
    times = alternate(works, size.rounds)
    each = {name: [took / n_images[name] for took in times[name]] for name in works}
    limit = [sum(pair) for pair in zip(each["forward"], each["decode"], strict=True)]
    report.measured(f"extract.{network}.of_limit", ratio(limit, each["extraction"]))
    if network == "resnet50":
        over = min(ratio(each[name], each["extraction"]) for name in plain)
        report.measured("extract.resnet50.over_plain", over)
    rates = {name: 1 / median(took) for name, took in {**each, "limit": limit}.items()}
    rows = [[name, rate, rate / rates["limit"]] for name, rate in rates.items()]
    show(f"{network}: {runner.how}; forward {how}", ["way", "images/s", "of the limit"], rows)
    return rates


def extraction(
    network: str, runner: Runner, dataset: str | Path, run: Path
) -> Callable[[], object]:
    """Prepare a run; return its extraction, from the first file to the last durable shard.

    Choosing and compiling are left out: they take the same seconds however long the job is.
    """
    options = {"dataset": str(dataset), "model": network, "precision": runner.precision} | COMMON
    options["weights"] = _weights(network)
    workspace = prepare(make_config(options), run)
    job.note_runner(workspace, runner)
    store = workspace.activations

    def extract() -> None:
        for index in range(store.n_shards):
            files.remove(store.path(index))
            files.remove(store.path(index).with_suffix(".json"))
        with patch.object(job, "choose_runner", return_value=runner):
            counts = job.extract(workspace)
        assert counts["images"] == len(workspace.listing.frame), counts

    return extract


def _plain_ways(
    runner: Runner, paths: Sequence[Path], folder: Path
) -> dict[str, Callable[[], object]]:
    """Return the plain way without worker processes, and with one per core."""
    network = runner.cut.network
    images = Images(paths, sides(network.image_size)[0], network.mean, network.std)
    target = folder / "plain.h5"
    return {
        f"plain, {workers} workers": partial(
            dump, images, network.module, LAYER_OF_PLAIN, target, workers
        )
        for workers in sorted({0, os.cpu_count() or 0})
    }


def _show_peaks(side: int = 2_048) -> None:
    """Print how fast this machine multiplies matrices: what bfloat16 can gain at the most."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(side, side, dtype=dtype)
        took = min(seconds(partial(torch.matmul, matrix, matrix)) for _ in range(4))
        rates[str(dtype).removeprefix("torch.")] = 2 * side**3 / took / 1e9
    rows = [[name, rate, rate / rates["float32"]] for name, rate in rates.items()]
    show("matrix products", ["type", "GFLOP/s", "over float32"], rows)


def _measure_whole_jobs(
    images: Path, quick: bool, asked: Sequence[str], folder: Path, report: Report
) -> None:
    """Measure what needs whole jobs: their memory, and their time beside the extraction's."""
    size = QUICK if quick else FULL
    n_images = max(*size.memory, N_DISCOVERED)
    dataset = repeat_images(images, folder / "repeated", max(size.memory) if quick else n_images)
    options = {"dataset": str(dataset), "k": "20", "precision": "bf16"} | COMMON
    largest = options | {"model": "squeezenet1_1"}  # of the three, the most positions per image
    if quick:
        report.skipped("extract.discover_over_extract", "needs 10,000 images, run without --quick")
    elif "discover" in asked:
        limited = options | {"model": "resnet50", "limit": str(N_DISCOVERED)}
        report.measured("extract.discover_over_extract", discover_over_extract(limited, folder))
    if "memory" in asked:
        stages = ("extract",) if quick else STAGE_NAMES
        repeats = 1 if quick else 3
        peak, growth = memory_of_stages(largest, size.memory, folder, stages, repeats)
        report.measured("extract.peak_memory_gb", peak)
        report.measured("extract.memory_growth", growth)


def _draw(rates: dict[str, dict[str, float]], axes: Axes) -> None:
    """Draw a bar for each way and network."""
    ways = list(dict.fromkeys(way for each in rates.values() for way in each))
    height = 0.8 / len(ways)
    for index, way in enumerate(ways):
        known = [row for row, network in enumerate(rates) if way in rates[network]]
        values = [rates[network][way] for network in rates if way in rates[network]]
        axes.barh([row + index * height for row in known], values, height, label=way)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(rates))], list(rates))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.set_xlabel("images a second")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


if __name__ == "__main__":
    sys.exit(main())
