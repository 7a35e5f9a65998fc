"""Imports run one way: from the stages down to the plain parts, never back."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.sources import MODULES, ROOT, SOURCES

LAYERS = (
    {"errors", "config", "files", "progress"},
    {"nmf"},  # knows nothing of files, models or images
    {"images", "models", "store", "sample"},
    {"extract", "factorize", "localize", "classify"},
    {"tables", "atlas"},
    {"jobs", "explain", "run"},
)
"""Parts of the library, lowest first: a part imports from its own layer and from those before.

A part that is named nowhere lies wherever its imports and its importers let it.
"""

RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
NMF_MAY_IMPORT = {"torch", "numpy", "scipy", "sklearn", "__future__", *sys.stdlib_module_names}
SHARED_BY_STAGES = {"stages", "stages.cli"}


def imports_of(name: str, tree: ast.Module) -> Iterator[str]:
    """Yield what a module imports, anywhere in it: modules where they are ours, else names."""
    package = name if (ROOT / Path(*name.split(".")) / "__init__.py").exists() else parent(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in MODULES else base


def parent(name: str) -> str:
    """Return the package of a module."""
    return name.rpartition(".")[0]


def part_of(name: str) -> str | None:
    """Return the part of the library a module belongs to; None for others and the package."""
    return name.split(".")[1] if name.startswith("pipeline.") else None


def part_imports() -> dict[str, set[str]]:
    """Return which parts of the library each part imports."""
    graph: dict[str, set[str]] = {}
    for name, tree in SOURCES.items():
        if (part := part_of(name)) is not None:
            needs = {part_of(each) for each in imports_of(name, tree)}
            graph.setdefault(part, set()).update(needs - {None, part})  # type: ignore[arg-type]
    return graph


def ranked_below(part: str, graph: dict[str, set[str]]) -> set[str]:
    """Return the ranked parts that a part needs, directly or by way of unranked ones."""
    found: set[str] = set()
    seen = {part}
    todo = set(graph[part])
    while todo:
        each = todo.pop()
        if each in RANK:
            found.add(each)
        elif each not in seen:
            todo |= graph.get(each, set())
        seen.add(each)
    return found


def test_library_imports_run_one_way() -> None:
    graph = part_imports()
    assert graph, "no modules were found"
    upwards = [
        f"pipeline.{part} imports pipeline.{needed}, which stands above it"
        for part in sorted(graph.keys() & RANK.keys())
        for needed in sorted(ranked_below(part, graph))
        if RANK[needed] > RANK[part]
    ]
    assert not upwards


def test_library_knows_neither_stages_nor_the_package_itself() -> None:
    wrong = [
        f"{name} imports {each}"
        for name, tree in SOURCES.items()
        if part_of(name) is not None
        for each in imports_of(name, tree)
        if each == "pipeline" or each.split(".")[0] in {"stages", "benchmarks", "tests"}
    ]
    assert not wrong


def test_nmf_is_pure() -> None:
    wrong = [
        f"{name} imports {each}"
        for name, tree in SOURCES.items()
        if part_of(name) == "nmf"
        for each in imports_of(name, tree)
        if each.split(".")[0] not in NMF_MAY_IMPORT
        and part_of(each) != "nmf"
        and each != "pipeline.errors"
    ]
    assert not wrong


def test_stages_do_not_import_each_other() -> None:
    wrong = [
        f"{name} imports {each}"
        for name, tree in SOURCES.items()
        if name.startswith("stages.")
        for each in imports_of(name, tree)
        if each.split(".")[0] == "stages" and each not in SHARED_BY_STAGES
    ]
    assert not wrong
