"""Images that cannot be read are neither fitted on nor measured on, wherever they were to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.analysis.run import Run
from pipeline.config import make_config
from pipeline.images import make_image_id, unit_hash
from pipeline.jobs.discover import discover_run
from pipeline.runs.prepare import prepare
from pipeline.store.listing import HELDOUT


def names(n: int, *, heldout: bool) -> list[str]:
    """Return names of images that are held out under the seed 0, or are not."""
    known = (f"{index}.png" for index in range(1_000))
    is_held = {name: unit_hash(make_image_id(name), 0, "split") < HELDOUT for name in known}
    return [name for name, is_it in is_held.items() if is_it == heldout][:n]


def discovered(base: Path, good: list[str], broken: list[str]) -> Run:
    (base / "images").mkdir()
    for index, name in enumerate(good):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(base / "images" / name)
    for name in broken:
        (base / "images" / name).write_bytes(b"no image")
    options = {"dataset": str(base / "images"), "model": "sample", "image_size": "64", "k": "2"}
    return discover_run(prepare(make_config(options | {"balance": "image"}), base / "run"))


@pytest.mark.parametrize(
    ("n_good", "is_good_held", "n_broken"), [(3, False, 2), (1, True, 4), (1, False, 3)]
)
def test_one_split_that_cannot_be_read(
    tmp_path: Path, n_good: int, is_good_held: bool, n_broken: int
) -> None:
    good, broken = names(n_good, heldout=is_good_held), names(n_broken, heldout=not is_good_held)
    run = discovered(tmp_path, good, broken)
    listed = run.workspace.listing.frame.set_index("path")["split"]
    assert set(listed[good]) == {"heldout" if is_good_held else "fit"}
    assert set(listed[broken]) == {"fit" if is_good_held else "heldout"}
    assert run.table("images").set_index("path")["split"].to_dict() == dict.fromkeys(good, "fit")
    assert sorted(run.table("rejected").path) == sorted(broken)
    fidelity = run.table("fidelity")
    assert set(fidelity.split) == {"fit"}
    assert fidelity.n.max() == n_good
    assert np.isnan(run.workspace.bank.heldout_error)
    assert set(run.meaning.fidelity([2]).split) == {"fit"}


def test_where_both_splits_can_be_read_each_is_what_it_is(tmp_path: Path) -> None:
    fit, held = names(4, heldout=False), names(2, heldout=True)
    run = discovered(tmp_path, [*fit, held[0]], [held[1]])
    split = run.table("images").set_index("path")["split"].to_dict()
    assert split == dict.fromkeys(fit, "fit") | {held[0]: "heldout"}
    assert set(run.table("fidelity").split) == {"heldout"}
    assert np.isfinite(run.workspace.bank.heldout_error)
