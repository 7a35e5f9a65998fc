"""Tables read by pandas 2 and 3, polars, DuckDB and pyarrow, old and new, with equal contents."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.analysis.run import Run
from tests.tables.test_tables import run as run_of_tables

run = run_of_tables  # the fixture of the other module

WITH_PANDAS_2 = ("pandas<3", "pyarrow<18", "numpy<2.3")
WITH_POLARS = ("polars", "pandas>=3", "pyarrow")

READ = """
import json, sys
from pathlib import Path
import pandas, pyarrow

def plain(value):
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [plain(each) for each in value]
    if value is None or value is pandas.NA or value != value:
        return None
    return round(float(value), 4) if isinstance(value, float) else value

reader = sys.argv[2]
found = {}
for path in sorted(Path(sys.argv[1]).glob("*.parquet")):
    if reader == "pandas":
        frame = pandas.read_parquet(path)
        columns = {name: frame[name].tolist() for name in frame}
    else:
        import polars
        frame = polars.read_parquet(path, glob=False)
        columns = {name: frame[name].to_list() for name in frame.columns}
    found[path.stem] = {name: list(map(plain, values)) for name, values in columns.items()}
print(json.dumps({"pandas": pandas.__version__, "pyarrow": pyarrow.__version__, "tables": found}))
"""


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make an environment with some packages; its interpreter."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{', '.join(packages)} cannot be installed here: {done.stderr[-300:]}")
    return python


def plain(value: object) -> object:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, list):
        return [plain(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "reader"),
    [(WITH_PANDAS_2, "pandas"), (WITH_POLARS, "pandas"), (WITH_POLARS, "polars")],
    ids=["pandas-2-pyarrow-17", "pandas-3", "polars"],
)
def test_every_reader_finds_the_same(
    run: Run, session_folder: Callable[[str], Path], packages: tuple[str, ...], reader: str
) -> None:
    folder = session_folder("-".join(each.partition("<")[0].partition(">")[0] for each in packages))
    python = folder / "bin" / "python"
    if not python.exists():
        python = environment(folder, packages)
    tables = run.folder / "tables"
    command = [str(python), "-c", READ, str(tables), reader]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(f"{reader}: pandas {found['pandas']}, pyarrow {found['pyarrow']}")
    assert len(found["tables"]) == len(list(tables.glob("*.parquet")))
    for name, columns in found["tables"].items():
        table = pq.read_table(tables / f"{name}.parquet")
        assert list(columns) == table.column_names
        for column, values in columns.items():
            expected = [plain(each) for each in table[column].to_pylist()]
            assert values == expected, (name, column)
