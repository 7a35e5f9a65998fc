"""Benchmark of the atlas: its share of the time of a whole job, and what the site comes to."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes

from benchmarks.harness import Report, Target, assets, plot, show, wants_quick
from benchmarks.whole import REST, discover
from pipeline.system import files

TARGETS = (Target("atlas.share_of_job", "at-most", 0.1),)
N_IMAGES, N_QUICK, K = 1_000, 200, 50
ROUNDS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where the target was missed."""
    quick = wants_quick(__doc__ or "", argv)
    report = Report(TARGETS)
    try:
        images = assets("images", "imagenette224")
        weights = assets("weights", "mobilenet_v2.safetensors")
    except FileNotFoundError as error:
        report.skip_rest(str(error))
        return report.finish()
    options = {"dataset": str(images), "model": "mobilenet_v2", "weights": str(weights)}
    options |= {"limit": str(N_QUICK if quick else N_IMAGES), "k": str(K)}
    jobs: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        for index in range(1 if quick else ROUNDS):
            run = Path(name) / f"run-{index}"
            jobs.append(discover(options, run))
            if index == 0:
                _show_site(run / "atlas")
            files.remove(run)
    shares = {stage: _share(jobs, stage) for stage in jobs[0]}
    seconds = {stage: median(job[stage] for job in jobs) for stage in jobs[0]}
    rows = [[stage, seconds[stage], share] for stage, share in shares.items()]
    rows.append(["whole job", median(sum(job.values()) for job in jobs), 1.0])
    show(f"{options['limit']} images, {K} concepts", ["stage", "seconds", "share"], rows)
    plot("atlas-quick" if quick else "atlas", partial(_draw, shares))
    if quick:
        report.skip_rest("a small job is for the most part start-up, run without --quick")
    else:
        report.measured("atlas.share_of_job", shares["atlas"])
    return report.finish()


def _share(jobs: Sequence[dict[str, float]], stage: str) -> float:
    return median(job[stage] / sum(job.values()) for job in jobs)


def _show_site(folder: Path) -> None:
    """Print how many files of each kind the site has, and how large they are."""
    sizes: dict[str, list[int]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            kind = f"{path.relative_to(folder).parent.name or 'front'}/*{path.suffix}"
            sizes.setdefault(kind, []).append(path.stat().st_size)
    rows: list[list[object]] = [
        [kind, len(each), sum(each) / 1e6, max(each) / 1e3] for kind, each in sizes.items()
    ]
    everything = [size for each in sizes.values() for size in each]
    rows.append(["all", len(everything), sum(everything) / 1e6, max(everything) / 1e3])
    show("the site", ["files", "number", "MB", "largest, kB"], rows)


def _draw(shares: dict[str, float], axes: Axes) -> None:
    """Draw the share of each stage, the atlas in another colour."""
    colours = ["C1" if stage == "atlas" else "C7" if stage == REST else "C0" for stage in shares]
    axes.barh(list(shares), list(shares.values()), color=colours)
    axes.axvline(TARGETS[0].bound, color="grey", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("share of the whole job's time")


if __name__ == "__main__":
    sys.exit(main())
