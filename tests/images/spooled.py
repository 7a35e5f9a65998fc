"""Small datasets that are spooled, for the tests of them: Parquet as Hugging Face writes it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline.analysis.run import Run
from pipeline.tables import TABLES

ROOT = Path(__file__).resolve().parents[2]

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

OPTIONS: dict[str, Any] = {"model": "sample", "image_size": 64, "k": 2}


def pixels(seed: int, side: int = 40) -> NDArray[np.uint8]:
    """Return a picture with something in it: a disc on a ground, both of a colour of their own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    disc = np.hypot(y - rng.integers(12, 28), x - rng.integers(12, 28)) < rng.integers(6, 12)
    image = np.where(disc[..., None], rng.integers(0, 255, 3), rng.integers(0, 255, 3))
    return (image + rng.integers(0, 20, (side, side, 1))).clip(0, 255).astype(np.uint8)


def picture(seed: int, kind: str = "PNG", side: int = 40) -> bytes:
    """Return the same as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, side)).save(buffer, kind)
    return buffer.getvalue()


def features(names: Sequence[str] = ("cat", "dog"), **more: Any) -> dict[bytes, bytes]:
    """Return what Hugging Face says of columns in the metadata of a schema."""
    said = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": said | more}}).encode()}


def write_shard(
    path: Path, first: int, n: int, *, group: int = 5, named: bool = False
) -> dict[int, bytes]:
    """Write a shard of images with labels; return the images by row."""
    images = {row: picture(first + row, "JPEG" if row % 3 else "PNG") for row in range(n)}
    rows = [
        {"bytes": data, "path": f"photo.{first + row}.jpg" if named else None}
        for row, data in images.items()
    ]
    labels = [row % 2 for row in images]
    schema = pa.schema([("image", IMAGE), ("label", pa.int64())], metadata=features())
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": pa.array(rows, IMAGE), "label": labels}, schema=schema)
    pq.write_table(table, path, row_group_size=group)
    return images


def write_shards(folder: Path) -> dict[str, tuple[bytes, str, str]]:
    """Write 24 images in three shards; return contents, label and split of each by its path."""
    found = {}
    for name, first, split in (
        ("train-00000-of-00002", 0, "train"),
        ("train-00001-of-00002", 8, "train"),
        ("validation-00000-of-00001", 16, "val"),
    ):
        for row, data in write_shard(folder / f"{name}.parquet", first, 8).items():
            ending = "png" if data.startswith(b"\x89PNG") else "jpg"
            path = f"{name}.tar/{row:06}.{ending}"
            found[path] = data, ("cat", "dog")[row % 2], split
    return found


def as_folder(folder: Path, images: dict[str, tuple[bytes, str, str]]) -> Path:
    """Write the same images as files, with a table of their labels."""
    lines = ["path,label,split"]
    for path, (data, label, split) in images.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        lines.append(f"{path},{label},{split}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def check_equal_tables(a: Run, b: Run) -> None:
    """Hold two runs against each other, table by table."""
    assert len(a.table("images")) > 0 and len(a.table("image_concepts")) > 0
    for name in TABLES:
        assert a.table(name).equals(b.table(name)), name
