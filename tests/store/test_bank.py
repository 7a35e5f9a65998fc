"""Banks: what is said of how sure concepts are comes back from the file, and may be missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.nmf import Reappearance
from pipeline.store import read_bank, write_bank
from tests.classify.fixture import make_bank

SURE = Reappearance(
    np.array([0.9, 0.2, np.nan]),
    np.array([0.8, 0.1, np.nan]),
    np.array([1.0, 0.7, np.nan]),
    np.array([[-1, -1], [0, 2], [-1, -1]]),
)


def test_how_sure_concepts_are_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "bank" / "bank.h5"
    write_bank(path, replace(make_bank(8, 3), reappearance=SURE))
    found = read_bank(path).reappearance
    assert found is not None
    for name, value in vars(SURE).items():
        assert np.array_equal(getattr(found, name), value, equal_nan=value.dtype.kind == "f")


def test_a_bank_of_an_earlier_version_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "bank" / "bank.h5"
    write_bank(path, make_bank(8, 3))
    with h5py.File(path, "r+") as file:
        file.attrs["encoding-version"] = "1.2"
    assert read_bank(path).reappearance is None


def test_partners_are_concepts_of_the_bank(tmp_path: Path) -> None:
    path = tmp_path / "bank" / "bank.h5"
    far = replace(SURE, partners=np.array([[-1, -1], [0, 3], [-1, -1]]))
    write_bank(path, replace(make_bank(8, 3), reappearance=far))
    with pytest.raises(UserError, match="comes back with concept 3 of 3"):
        read_bank(path)
