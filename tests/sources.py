"""The product's modules, parsed, for tests that read the code."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def read_sources(*folders: str) -> dict[str, ast.Module]:
    """Parse the modules below some folders of the repository, by their dotted names."""
    sources = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            sources[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return sources


PACKAGE = "pipeline"
"""Folder of the library, and its name in a checkout."""

SOURCES = read_sources("pipeline", "stages", "benchmarks")
MODULES = {name.rsplit(".", depth)[0] for name in SOURCES for depth in range(name.count(".") + 1)}
