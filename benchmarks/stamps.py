"""Photographs with a mark on some of them, for a network to be misled by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from benchmarks.harness import assets

SIDE, SHORTER = 224, 256
"""The networks' input, and what the shorter side is scaled to before the middle is cut out."""


@dataclass(frozen=True)
class Case:
    """A network on a dataset, at a seed of both the run and the stamps."""

    network: str
    dataset: str
    seed: int
    k: str = "auto"
    limit: int | None = None


def listed(case: Case) -> Iterator[Path]:
    """Yield the photographs of a case, in the order of their paths."""
    folder = assets("images", case.dataset)
    every = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    yield from every[:: max(1, len(every) // case.limit) if case.limit else 1]


def write(
    paths: Sequence[Path], stamped: set[str], mark: Callable[[Any], Any], to: Path, case: Case
) -> None:
    """Write all images alike, as JPEG of the network's size, those of some names with the mark."""
    label_of = _labels(case)
    for path in paths:
        with Image.open(path) as image:
            shown = _middle(image.convert("RGB"))
        target = to / label_of(path) / f"{path.stem}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        (mark(shown) if path.name in stamped else shown).save(target, quality=95)


def _middle(image: Image.Image) -> Image.Image:
    """Scale the shorter side to `SHORTER` and cut the middle out; what fits stays as it is."""
    if image.size == (SIDE, SIDE):
        return image
    scale = SHORTER / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + SIDE, top + SIDE))


def _labels(case: Case) -> Callable[[Path], str]:
    if case.dataset == "imagenette224":
        return lambda path: path.parent.name
    rows = pd.read_csv(assets("images", f"{case.dataset}.csv"))
    label = {
        Path(path).name: str(name) for path, name in zip(rows["path"], rows["label"], strict=True)
    }
    return lambda path: label[path.name]
