"""Reading images from archives, and from elsewhere, beside the same images in a folder.

Each kind of archive is listed and read anew in turns with the folder, in as many threads as there
are cores, files being in the machine's memory: what differs is what the source does. What lies
elsewhere is extracted by a network, for that is what fetching goes on beside: from a web server of
this machine, a process of its own, that waits before each answer (`slow_server`).
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

from benchmarks.extract import extraction, fastest_runner
from benchmarks.harness import Report, Target, alternate, ratio, seconds, show, wants_quick
from benchmarks.slow_server import serving
from pipeline.images import Dataset, PixelRule, list_dataset, read_image
from pipeline.sample import write_sample
from pipeline.system.threads import one_thread


def _name(kind: str) -> str:
    return kind.replace(" ", "_")


N, QUICK, PER_SHARD, ROUNDS = 10_000, 1_000, 1_000, 5

N_ELSEWHERE = 1_000
"""Images that go through the network for each place, in each round: some 20 s on two cores."""

ARCHIVES = {"tar": "shard-*.tar", "zip": "all.zip"}

ELSEWHERE = {"web": "folder/", "web tar": "shard-{000..%03d}.tar", "web table": "list.csv"}
"""What lies on the server, by its kind."""

NETWORK, LATENCY = "squeezenet1_1", 0.02
"""What the images go through, and the seconds before each answer of the server."""

TARGETS = [
    *(Target(f"datasets.{kind}_over_folder", "at-least", 0.95) for kind in ARCHIVES),
    *(Target(f"datasets.{_name(kind)}_over_folder", "at-least", 0.8) for kind in ELSEWHERE),
]
"""Images a second of each kind, over those of the folder."""


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
        _measure_elsewhere(Path(base), min(n, N_ELSEWHERE), 2 if n == QUICK else 3, report)
    return report.finish()


def _measure_elsewhere(base: Path, n: int, rounds: int, report: Report) -> None:
    """Extract the same images from the folder and from a server far away, in turns."""
    places = sorted(base.glob("folder/*/*"), key=lambda path: path.name)
    for path in places[n:]:
        path.unlink()
    rows = "".join(f"folder/{path.parent.name}/{path.name}\n" for path in places[:n])
    (base / "list.csv").write_text(f"path\n{rows}", encoding="utf-8")
    runner = fastest_runner(NETWORK)
    with serving(base, LATENCY) as url:
        where = {"folder": f"{base}/folder"}
        for kind, place in ELSEWHERE.items():
            place = place % (n // PER_SHARD - 1) if "%" in place else place
            where[kind] = f"{url}/{place}"
        work = {
            kind: extraction(NETWORK, runner, each, base / f"run {kind}")
            for kind, each in where.items()
        }
        for each in work.values():
            each()
        times = alternate(work, rounds)
    rates = {kind: ratio(times["folder"], times[kind]) for kind in where}
    show(
        f"{n:,} JPEG through {NETWORK}, {LATENCY * 1e3:.0f} ms to the server",
        ["dataset", "images a second", "over the folder's"],
        [[kind, n / median(times[kind]), rates[kind]] for kind in where],
    )
    for kind in ELSEWHERE:
        report.measured(f"datasets.{_name(kind)}_over_folder", rates[kind])


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
