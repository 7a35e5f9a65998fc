"""A planted spurious cue: found as a concept, blamed for the errors, and taken out again."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cue import find_cue
from pipeline.sample.shortcut import train_shortcut


@pytest.mark.long
@pytest.mark.slow
def test_a_planted_cue_is_found_and_blamed_and_can_be_taken_out(tmp_path: Path) -> None:
    weights = train_shortcut(tmp_path / "shortcut.safetensors")
    found = find_cue(tmp_path, weights)
    assert found.n_counter >= 40  # the network is misled
    assert found.iou > 0.15  # a mark of three cells; the next concept is another thing
    assert found.iou > 2 * found.next_iou
    assert found.rank <= 3
    assert found.error_excess > 0.2
    assert found.error_q < 1e-4
    assert found.error_rank <= 3
    assert found.restored > 0.5
    assert found.restored > 3 * found.restored_by_others
