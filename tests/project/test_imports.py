"""Imports run one way: every module has a place in one order, and imports only from before it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import checkout
from tests.sources import MODULES, PACKAGE, ROOT, SOURCES

ORDER = (
    "escape", "errors", "checkout", "plugins", "config", "config_file", "system",
    "nmf",  # pure: knows nothing of files, models or images
    "images", "pictures", "sample",
    "models", "store",
    "localize", "truth", "classify", "tables", "names",
    "runs", "analysis", "atlas", "jobs", "cli",
)  # fmt: skip
"""Parts of the library, lowest first. A part imports from those before it; there is no circle."""

RANK = {part: rank for rank, part in enumerate(ORDER)}
NMF_MAY_IMPORT = {
    "torch", "numpy", "numba", "scipy", "sklearn", "__future__", *sys.stdlib_module_names,
}  # fmt: skip
NMF_MAY_TAKE = {f"{PACKAGE}.errors", f"{PACKAGE}.system.threads", f"{PACKAGE}.system.denormals"}
LIGHT = {
    "argparse", "codecs", "collections", "contextlib", "dataclasses", "difflib", "errno", "hashlib",
    "importlib", "io", "json", "logging", "math", "os", "pathlib", "re", "shlex", "signal",
    "socket", "sys", "textwrap", "threading", "time", "tomllib", "typing", "urllib", "__future__",
    "ctypes", "pydantic", "psutil", "platformdirs", "tqdm", PACKAGE,
}  # fmt: skip
"""What may be imported before a command has been parsed: help must be there at once."""

SLOW = ("torchvision", "sklearn", "scipy.stats", "timm", "transformers")
"""What takes half a second or more to import beside torch."""

TRAINING = f"{PACKAGE}.sample.training"


def imports_of(name: str, tree: ast.AST, *, top_only: bool = False) -> Iterator[str]:
    """Yield what a module imports, anywhere in it: modules where they are ours, else names."""
    is_package = (ROOT / Path(*name.split(".")) / "__init__.py").exists()
    package = name if is_package else name.rpartition(".")[0]
    for node in _outside_functions(tree) if top_only else ast.walk(tree):
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


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs when a module is imported; what is for type checkers only does not."""
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_for_types:
            yield node
            yield from _outside_functions(node)


def part_of(name: str) -> str | None:
    """Return the part of the library a module belongs to; None for others and the package."""
    return name.split(".")[1] if name.startswith(f"{PACKAGE}.") else None


def upward(sources: dict[str, ast.Module]) -> list[str]:
    """Return what is wrong with modules: no rank, or an import from a part that comes later."""
    wrong = []
    for name, tree in sources.items():
        part = part_of(name)
        if part is None:
            continue
        if part not in RANK:
            wrong.append(f"{name} has no place in the order")
            continue
        imported = set(imports_of(name, tree))
        if PACKAGE in imported:  # which gives all there is: it could not be ranked
            wrong.append(f"{name} imports from {PACKAGE} itself")
        needs = {part_of(each) for each in imported} - {None, part}
        wrong += [
            f"{name} imports {PACKAGE}.{need}, which comes after it"
            for need in sorted(each for each in needs if each is not None)
            if RANK.get(need, len(ORDER)) > RANK[part]
        ]
    return wrong


def test_library_imports_run_one_way() -> None:
    assert len([name for name in SOURCES if part_of(name) is not None]) > 100
    assert upward(SOURCES) == []


def test_every_part_of_the_order_is_there() -> None:
    assert {part_of(name) for name in SOURCES} - {None} == set(ORDER)


@pytest.mark.parametrize(
    ("name", "source", "wrong"),
    [
        ("newpart.x", "import os", "has no place in the order"),
        ("errors", "from .config import Config", "which comes after it"),
        ("store.bank", "def f():\n    from ..analysis.run import Run", "which comes after it"),
        ("models.cut", "from .. import jobs", "which comes after it"),
        ("models.cut", "from .. import discover", "from pipeline itself"),
    ],
)
def test_what_is_wrong_is_found(name: str, source: str, wrong: str) -> None:
    found = upward({f"{PACKAGE}.{name}": ast.parse(source)})
    assert len(found) == 1
    assert wrong in found[0]


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {
        name: {each for each in imports_of(name, tree) if each in SOURCES and each != name}
        for name, tree in SOURCES.items()
        if part_of(name) is not None
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' → '.join([*path[path.index(name) :], name])}"
        if name not in done:
            # A package imports its modules to offer what is in them; that is no dependence.
            needs = graph.get(name, set()) if not _is_package(name) else set()
            for each in sorted(needs):
                visit(each, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def _is_package(name: str) -> bool:
    return (ROOT / Path(*name.split(".")) / "__init__.py").exists()


def test_library_imports_itself_by_relative_names_and_knows_nothing_around_it() -> None:
    """Installed, the package has another name, and nothing else of the checkout is there."""
    wrong = []
    for name, tree in SOURCES.items():
        if part_of(name) is None:
            continue
        for node in ast.walk(tree):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                named = [str(node.module)]
            outside = {PACKAGE, checkout.PACKAGE, "stages", "benchmarks", "tests"}
            wrong += [f"{name} imports {each}" for each in named if each.split(".")[0] in outside]
    assert not wrong


def test_modules_are_imported_by_their_text_in_few_places() -> None:
    """What no one can rank: the door of plug-ins, the user's own code and optional packages, and
    what is loaded late to keep help light."""
    found = {
        name
        for name, tree in SOURCES.items()
        if part_of(name) is not None or name == PACKAGE
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
        and ast.unparse(node).rpartition(".")[2] in ("import_module", "__import__")
    }
    late = (
        "", ".checkout", ".cli.main", ".jobs.execute", ".models.code_source",
        ".plugins", ".system.optional", ".system.processes",
    )  # fmt: skip
    assert found == {f"{PACKAGE}{name}" for name in late}


def test_nmf_is_pure() -> None:
    wrong = [
        f"{name} imports {each}"
        for name, tree in SOURCES.items()
        if part_of(name) == "nmf"
        for each in imports_of(name, tree)
        if each.split(".")[0] not in NMF_MAY_IMPORT
        and part_of(each) != "nmf"
        and each not in NMF_MAY_TAKE
    ]
    assert not wrong


def test_stages_are_a_line_each() -> None:
    wrong = [
        f"{name} imports {each}"
        for name, tree in SOURCES.items()
        if name.startswith("stages.")
        and name not in ("stages.__main__", "stages.docs", "stages.setup", "stages.third_party")
        for each in imports_of(name, tree)
        if each != f"{PACKAGE}.cli.main"
    ]
    assert not wrong


def reached(start: list[str]) -> Iterator[tuple[str, str]]:
    """Yield, of all modules that are loaded with some, each with what it imports."""
    seen: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name in seen or name not in SOURCES:
            continue
        seen.add(name)
        for each in imports_of(name, SOURCES[name], top_only=True):
            yield name, each
            todo += [each, *(each.rsplit(".", n)[0] for n in range(1, each.count(".")))]


def test_help_needs_nothing_heavy() -> None:
    found = reached([f"{PACKAGE}.cli.main", f"{PACKAGE}.system.heap"])
    heavy = {f"{name}: {each}" for name, each in found if each.split(".")[0] not in LIGHT}
    assert not heavy


def test_no_command_waits_for_what_few_need() -> None:
    """Every command loads torch; what takes as long again is loaded where it is called."""
    actions = f"{PACKAGE}.cli.actions"
    start = [name for name in imports_of(actions, SOURCES[actions]) if name != TRAINING]
    found = list(reached(start))
    assert any(each == "torch" for _, each in found)
    slow = {f"{name}: {each}" for name, each in found if each.startswith(SLOW)}
    assert not slow
