"""Reading images from archives beside the same images in a folder: listing, reading, decoding.

Each kind is listed and read anew in turns with the folder, in as many threads as there are cores,
files being in the machine's memory: what differs is what the source does.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from benchmarks.harness import Report, Target, alternate, ratio, seconds, show, wants_quick
from pipeline.images import Dataset, PixelRule, list_dataset, read_image
from pipeline.sample import write_sample
from pipeline.system.threads import one_thread

N, QUICK, PER_SHARD, ROUNDS = 10_000, 1_000, 1_000, 5

ARCHIVES = {"tar": "shard-*.tar", "zip": "all.zip"}

TARGETS = [Target(f"datasets.{kind}_over_folder", "at-least", 0.95) for kind in ARCHIVES]
"""Images a second of an archive, over those of the folder."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and return 1 where a target was missed."""
    n = QUICK if wants_quick(__doc__ or "", argv) else N
    report = Report(TARGETS)
    with tempfile.TemporaryDirectory() as base:
        _write(Path(base), n)
        where = {"folder": f"{base}/folder"} | {k: f"{base}/{v}" for k, v in ARCHIVES.items()}
        listing = {k: [seconds(_listing(each)) for _ in range(3)] for k, each in where.items()}
        work = {kind: _reading(list_dataset(each)) for kind, each in where.items()}
        for each in work.values():
            each()
        times = alternate(work, ROUNDS)
    rates = {kind: ratio(times["folder"], times[kind]) for kind in where}
    show(
        f"{n:,} JPEG of 160 × 160 pixels, decoded",
        ["dataset", "listing, s", "images a second", "over the folder's"],
        [[k, median(listing[k]), n / median(times[k]), rates[k]] for k in where],
    )
    for kind in ARCHIVES:
        report.measured(f"datasets.{kind}_over_folder", rates[kind])
    return report.finish()


def _write(base: Path, n: int) -> None:
    """Write the same images as a folder, as shards and as a zip file."""
    write_sample(base / "sample", n_images=500)
    some = sorted((base / "sample" / "images").rglob("*.jpg"))
    names = []
    for index in range(n):
        source = some[index % len(some)]
        name = f"{source.parent.name}/{index:06}.jpg"
        (base / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "folder" / name).write_bytes(source.read_bytes())
        names.append(name)
    for first in range(0, n, PER_SHARD):
        with tarfile.open(base / f"shard-{first // PER_SHARD:03}.tar", "w") as shard:
            for name in names[first : first + PER_SHARD]:
                shard.add(base / "folder" / name, name)
    with zipfile.ZipFile(base / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(base / "folder" / name, name)


def _listing(where: str) -> Callable[[], object]:
    return lambda: list_dataset(where)


def _reading(found: Dataset) -> Callable[[], object]:
    """Return what reads and decodes all images, in as many threads as there are."""
    rule = PixelRule()

    def read() -> None:
        with one_thread() as n_threads, ThreadPoolExecutor(n_threads) as pool:
            for pixels, _ in pool.map(
                lambda each: read_image(found.source, each, rule), found.images
            ):
                assert pixels.shape == (3, 160, 160)

    return read


if __name__ == "__main__":
    sys.exit(main())
