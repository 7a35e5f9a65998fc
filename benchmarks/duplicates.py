"""Near-duplicates of real photographs: how many are found, how many pairs are wrong, what it costs.

Photographs are brought to the network's input as they are and changed, in 13 ways. A pair found
among the photographs as they are is wrong unless it is one of `SAME`, which were seen by eye.
"""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from benchmarks.harness import Report, Target, assets, seconds, show, wants_quick
from pipeline.images import fit_to_input, load_image
from pipeline.images.alike import agreement, near_pairs, pack
from pipeline.images.look import hashes, thumbnail
from pipeline.system.threads import one_thread

FOLDERS = ("imagenet_samples", "imagenet_more", "imagenette224", "salient_objects/images",
           "weizmann_horses/images", "car_parts/images")  # fmt: skip

_TWICE = (
    ("horse004", "horse146"), ("horse180", "horse203"), ("horse118", "horse171"),
    ("horse240", "horse274"), ("horse175", "horse205"), ("horse006", "horse018"),
    ("horse246", "horse294"), ("horse071", "horse219"), ("horse263", "horse264"),
    ("train_train33", "train_train67"), ("train_train109", "train_train11"),
    ("train_train162", "train_train201"),
)  # fmt: skip
SAME = {*map(frozenset, _TWICE)}
"""Photographs that these folders hold twice."""

EVERY, QUICK = 4, 40
"""Of so many photographs one is changed."""

N_HASHES = 1_000_000

TARGETS = [
    Target("duplicates.recall.encoded_or_scaled", "at-least", 0.97),
    Target("duplicates.recall.cropped_2", "at-least", 0.8),
    Target("duplicates.wrong_pairs", "at-most", 0),
    Target("duplicates.milliseconds", "at-most", 0.1),
    Target("duplicates.seconds_per_million", "at-most", 30),
]

Change = Callable[[Image.Image, random.Random], Image.Image]


def encoded(quality: int) -> Change:
    """Return what encodes a picture anew."""

    def change(picture: Image.Image, draw: random.Random) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def scaled(factor: float) -> Change:
    """Return what scales a picture."""
    return lambda picture, draw: picture.resize(
        [max(1, round(each * factor)) for each in picture.size]
    )


def cropped(share: float) -> Change:
    """Return what takes a share off both sides, anywhere."""

    def change(picture: Image.Image, draw: random.Random) -> Image.Image:
        width, height = (round(each * (1 - share)) for each in picture.size)
        x, y = draw.randint(0, picture.width - width), draw.randint(0, picture.height - height)
        return picture.crop((x, y, x + width, y + height))

    return change


def brightened(factor: float) -> Change:
    """Return what makes a picture brighter."""
    return lambda picture, draw: ImageEnhance.Brightness(picture).enhance(factor)


def everything(picture: Image.Image, draw: random.Random) -> Image.Image:
    """Crop by 3 %, halve, brighten or darken by a tenth, encode anew."""
    for change in (cropped(0.03), scaled(0.5), brightened(draw.choice([0.9, 1.1])), encoded(50)):
        picture = change(picture, draw)
    return picture


CHANGES: dict[str, Change] = {
    "JPEG 30": encoded(30), "JPEG 60": encoded(60), "JPEG 95": encoded(95),
    "× 0.25": scaled(0.25), "× 0.5": scaled(0.5), "× 2": scaled(2),
    "brighter by 10 %": brightened(1.1), "darker by 10 %": brightened(0.9),
    "cropped by 2 %": cropped(0.02), "cropped by 3 %": cropped(0.03),
    "cropped by 5 %": cropped(0.05), "cropped, halved, brightened, encoded": everything,
    "mirrored": lambda picture, draw: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and return 1 where a target was missed."""
    every = QUICK if wants_quick(__doc__ or "", argv) else EVERY
    report = Report(TARGETS)
    try:
        photographs = [
            path
            for folder in FOLDERS
            for path in sorted(assets("images", folder).rglob("*.*"))
            if path.suffix.lower() in (".jpg", ".jpeg")
        ]
    except FileNotFoundError as error:
        for target in TARGETS[:3]:
            report.skipped(target.name, str(error))
    else:
        with one_thread():
            measure_photographs(photographs, every, report)
    measure_cost(report)
    return report.finish()


def measure_photographs(photographs: Sequence[Path], every: int, report: Report) -> None:
    """Count which changed photographs are found, and which pairs of different ones."""
    with ThreadPoolExecutor() as pool:
        looks = np.stack([*pool.map(lambda path: look(opened(path)), photographs)])
        chosen = range(0, len(photographs), every)
        rows: list[list[object]] = []
        rates: dict[str, float] = {}
        for name, change in CHANGES.items():
            changed = np.stack([*pool.map(partial(_changed, photographs, change), chosen)])
            found = near(np.concatenate([looks[chosen], changed]))
            n = len(chosen)
            rates[name] = sum((at, at + n) in found for at in range(n)) / n
            rows.append([name, rates[name]])
    pairs = near(looks)
    wrong = [pair for pair in pairs if frozenset(photographs[at].stem for at in pair) not in SAME]
    show(f"{len(photographs):,} photographs, {n:,} changed", ["change", "found"], rows)
    n_pairs = len(photographs) * (len(photographs) - 1) // 2
    print(f"\nof {n_pairs:,} pairs {len(pairs)} found, {len(wrong)} of them wrong")
    for one, other in wrong:
        print(f"  {photographs[one]} {photographs[other]}")
    report.measured("duplicates.recall.encoded_or_scaled", min(list(rates.values())[:8]))
    report.measured("duplicates.recall.cropped_2", rates["cropped by 2 %"])
    report.measured("duplicates.wrong_pairs", len(wrong))


def measure_cost(report: Report) -> None:
    """Time what extraction does for one image, and the search among a million hashes."""
    generator = np.random.default_rng(0)
    pixels = torch.from_numpy(generator.integers(0, 256, (3, 224, 224), dtype=np.uint8))
    n = 200

    def work() -> None:
        hashes(np.stack([thumbnail(pixels) for _ in range(n)]))

    with one_thread():
        work()
        report.measured(
            "duplicates.milliseconds", median(seconds(work) for _ in range(9)) / n * 1e3
        )
    codes = generator.integers(0, 2**64, (N_HASHES, 2), dtype=np.uint64)
    report.measured("duplicates.seconds_per_million", seconds(lambda: near_pairs(codes)))


def opened(path: Path) -> Image.Image:
    """Open a photograph as the library does."""
    return Image.fromarray(load_image(path))


def look(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the thumbnail of a picture at 224 × 224 pixels."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return thumbnail(fit_to_input(pixels, 224)[0])


def near(looks: NDArray[np.uint8]) -> set[tuple[int, int]]:
    """Return the pairs that are taken for near-duplicates."""
    found = hashes(looks)
    told = np.flatnonzero(found != "")
    pairs = told[near_pairs(pack(found[told].tolist()))]
    agreed = agreement(looks[pairs[:, 0]], looks[pairs[:, 1]])
    return {(int(a), int(b)) for a, b in pairs[agreed > 0]}


def _changed(photographs: Sequence[Path], change: Change, at: int) -> NDArray[np.uint8]:
    return look(change(opened(photographs[at]), random.Random(at)))


if __name__ == "__main__":
    sys.exit(main())
