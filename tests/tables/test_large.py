"""A table of twenty million rows: written in bounded memory, and a question that reads little."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipeline.tables import view_statements
from pipeline.tables.schemas import ROW_GROUP

ROOT = Path(__file__).resolve().parents[2]
N_IMAGES, K = 1_000_000, 20

WRITE = """
import sys
from pathlib import Path
import numpy as np
import pandas as pd
import resource
from pipeline.system import files
from pipeline.tables import TableWriter

n, k, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with files.scratch(folder) as scratch:
    writer = TableWriter(folder, scratch)
    for start in range(0, n, 20_000):  # as shards of heatmaps come: all concepts of some images
        rng = np.random.default_rng(start)
        numbers = np.arange(start, min(n, start + 20_000), dtype=np.uint64)
        ids = (numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(1)
        count = len(ids)
        peak = rng.gamma(2.0, 0.4, (count, k)).astype(np.float32)
        writer.add("image_concepts", pd.DataFrame({
            "image_id": np.repeat(ids, k).astype(np.int64),
            "concept_id": np.tile(np.arange(k), count),
            "mean": (peak * 0.2).ravel(),
            "max": peak.ravel(),
            "area": rng.random(count * k),
            "peak_x": rng.random(count * k) * 500,
            "peak_y": rng.random(count * k) * 375,
            "contribution": rng.normal(size=count * k),
        }))
        writer.add("images", pd.DataFrame({
            "image_id": ids.astype(np.int64), "path": [f"part-{i % 997:03d}/{i}.jpg" for i in ids],
            "label": None, "width": 500, "height": 375, "split": "fit", "pred_class": 1,
            "pred_label": "one", "pred_prob": 0.5, "residual": 0.5, "damage": None,
            "labels": None, "note": None, "true_class": 1, "label_name": "one", "correct": True,
        }))
    writer.finish()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((peak - before) / 1e6)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Write the table in a process of its own: the folder, and the memory it took in GB."""
    folder = tmp_path_factory.mktemp("large")
    command = [sys.executable, "-c", WRITE, str(N_IMAGES), str(K), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, float(done.stdout)


class Counting(io.FileIO):
    """A file that counts the bytes that are read from it."""

    n_read = 0

    def read(self, size: int = -1) -> bytes:  # type: ignore[override]
        data = super().read(size) or b""
        self.n_read += len(data)
        return data

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        n = super().readinto(buffer) or 0
        self.n_read += n
        return n


def read_so_far() -> int:
    """Bytes that this process has read from files."""
    text = Path("/proc/self/io").read_text("utf-8")
    return int(text.split("rchar:")[1].split()[0])


@pytest.mark.long
@pytest.mark.slow
def test_memory_is_bounded_and_rows_are_in_order(large: tuple[Path, float]) -> None:
    folder, memory = large
    path = folder / "image_concepts.parquet"
    metadata = pq.read_metadata(path)
    assert metadata.num_rows == N_IMAGES * K
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert set(sizes[:-1]) == {ROW_GROUP}
    print(f"{metadata.num_rows:,} rows, {path.stat().st_size / 1e6:.0f} MB, {memory:.2f} GB taken")
    assert memory < 2.5
    found = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    concepts = [(each.column(1).statistics.min, each.column(1).statistics.max) for each in found]
    assert [each for pair in concepts for each in pair] == sorted(sum(concepts, ()))
    strengths = [(each.column(3).statistics.min, each.column(3).statistics.max) for each in found]
    within = 0  # neighbours that hold one and the same concept: its strength falls
    for (one, two), (above, below) in zip(pairwise(concepts), pairwise(strengths), strict=True):
        if one[0] == one[1] == two[0] == two[1]:
            assert below[1] <= above[0]
            within += 1
    assert within > 10 * K


@pytest.mark.long
@pytest.mark.slow
def test_the_strongest_images_of_a_concept_are_read_from_little(
    large: tuple[Path, float],
) -> None:
    folder, _ = large
    path = folder / "image_concepts.parquet"
    size = path.stat().st_size
    expected = strongest(7, 50)

    with duckdb.connect() as database:
        database.execute(view_statements(folder))
        start = read_so_far()
        found = database.execute(
            "select image_id, max from image_concepts where concept_id = 7"
            " order by max desc limit 50"
        ).df()
        by_duckdb = read_so_far() - start
        start = read_so_far()
        some = database.execute("select sum(max) from image_concepts").fetchone()
        whole = read_so_far() - start
    pd.testing.assert_frame_equal(found, expected)
    assert some is not None

    with Counting(path) as file:
        table = pq.ParquetFile(file)
        groups = [
            i
            for i in range(table.num_row_groups)
            if table.metadata.row_group(i).column(1).statistics.min
            <= 7
            <= table.metadata.row_group(i).column(1).statistics.max
        ]
        rows = table.read_row_groups(groups[:2], columns=["image_id", "concept_id", "max"])
        by_pyarrow = file.n_read
    first = rows.to_pandas().query("concept_id == 7").head(50)[["image_id", "max"]]
    pd.testing.assert_frame_equal(first.reset_index(drop=True), expected)
    print(
        f"of {size / 1e6:.0f} MB in {table.num_row_groups} row groups: DuckDB read"
        f" {by_duckdb / 1e6:.2f} MB (one whole column: {whole / 1e6:.0f} MB), pyarrow"
        f" {by_pyarrow / 1e6:.2f} MB and 2 row groups of the {len(groups)} of the concept"
    )
    assert by_duckdb < 0.02 * size
    assert by_pyarrow < 0.02 * size
    assert whole > 10 * by_duckdb


def strongest(concept: int, n: int) -> pd.DataFrame:
    """Find the strongest images of a concept from the numbers that were drawn, without a table."""
    best = pd.DataFrame({"image_id": pd.Series(dtype="int64"), "max": pd.Series(dtype="float32")})
    for start in range(0, N_IMAGES, 20_000):
        rng = np.random.default_rng(start)
        numbers = np.arange(start, start + 20_000, dtype=np.uint64)
        ids = (numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(1)
        peak = rng.gamma(2.0, 0.4, (len(ids), K)).astype(np.float32)[:, concept]
        more = pd.DataFrame({"image_id": ids.astype(np.int64), "max": peak})
        best = pd.concat([best, more]).nlargest(n, "max")
    return best.reset_index(drop=True)
