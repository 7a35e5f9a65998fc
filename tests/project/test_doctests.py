"""Examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.sources import ROOT, SOURCES

NAMES = [
    name
    for name in SOURCES
    if name.startswith("pipeline.")
    and ">>>" in next(
        path for path in (
            ROOT.joinpath(*name.split(".")).with_suffix(".py"),
            ROOT.joinpath(*name.split("."), "__init__.py"),
        ) if path.is_file()
    ).read_text(encoding="utf-8")
]  # fmt: skip


def test_there_are_examples() -> None:
    found = [doctest.testmod(importlib.import_module(name)).attempted for name in NAMES]
    assert sum(found) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
