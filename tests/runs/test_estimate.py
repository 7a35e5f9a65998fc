"""What a run takes of disk and memory is known before, and refused with numbers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import Config, make_config
from pipeline.errors import UserError
from pipeline.images import list_dataset
from pipeline.jobs.execute import execute
from pipeline.runs.estimate import Estimate, estimate, probe
from pipeline.runs.plan import to_make
from pipeline.runs.prepare import prepare
from pipeline.runs.workspace import Workspace
from pipeline.store import make_listing
from pipeline.system import files
from tests.faults.jobs import Case

PRODUCTS = ("activations", "heatmaps", "tables", "atlas", "bank")


def estimated(run: Path) -> Estimate:
    """Estimate a run that has been made, as it was before."""
    workspace = Workspace.open(run)
    config = workspace.config
    dataset = list_dataset(Path(config.dataset))
    listing = make_listing(dataset, seed=config.seed, limit=config.limit, bytes_per_image=1)
    probed = probe(dataset, listing, workspace.cut, config, workspace.pixel_rule)
    return estimate(probed, workspace.cut, len(listing.frame), config)


@pytest.mark.slow
def test_a_run_takes_no_more_than_was_estimated(case: Case) -> None:
    run = case.base / "whole" / "run"
    found = estimated(run)
    assert set(found.disk) == set(PRODUCTS)
    for name in PRODUCTS:
        assert 0 < files.size(run / name) <= found.disk[name], name
    # Activations are measured, not guessed: they come to what was said, or a little less.
    assert files.size(run / "activations") >= 0.6 * found.disk["activations"]
    assert case.ended.memory <= sum(found.memory.values())


def options(case: Case, run: Path, **more: str) -> tuple[Config, Path]:
    given = {name: str(value) for name, value in case.options.items()}
    return make_config(given | more), run


def test_what_does_not_fit_is_refused_with_numbers(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepare(*options(case, tmp_path / "disk", max_disk="5MB"))
    assert "the run may take up to 0." in str(caught.value)
    assert "(activations 0.0" in str(caught.value)
    assert "but max_disk='5MB'; see limit" in str(caught.value)
    with pytest.raises(UserError, match=r"9000 workers of \d+\.\d+ GB of memory .* GB are free"):
        prepare(*options(case, tmp_path / "memory", workers="9000"))
    with pytest.raises(UserError, match=r"\(libraries 1\.30, .* but max_memory='1GB'; take"):
        prepare(*options(case, tmp_path / "memory", max_memory="1GB"))
    assert list(tmp_path.iterdir()) == []


def test_the_ceiling_of_memory_is_no_part_of_what_a_run_is(case: Case) -> None:
    run = case.copy("ceiling")
    workspace = prepare(*options(case, run, max_memory="3.5 GB"))
    assert workspace.config.max_memory_bytes() == 3.5e9
    assert workspace.config.digest() == Workspace.open(case.base / "whole" / "run").config.digest()
    assert to_make(workspace) == {}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of four megabytes."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], capture_output=True
    )
    if made.returncode != 0:
        pytest.skip("this process may not mount a file system")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_disk_that_is_too_small_is_refused(case: Case, tiny: Path) -> None:
    with pytest.raises(UserError, match=r"may take up to .* but 0\.00 GB are free there"):
        prepare(*options(case, tiny / "run"))


def test_a_run_stops_where_it_has_come_to_more(case: Case) -> None:
    run = case.copy("too-much")
    (run / "tables" / "objects.parquet").unlink()
    config = replace_max_disk(Workspace.open(run).config, "1MB")
    with pytest.raises(UserError, match=r"come to 0\.\d+ GB with export, more than max_disk='1MB'"):
        execute(prepare(config, run))
    execute(prepare(replace_max_disk(config, "1GB"), run))


def replace_max_disk(config: Config, most: str) -> Config:
    return make_config(config.model_dump() | {"max_disk": most})
