"""Names with wildcards: ``shard-{000..011}.tar``, ``photos/**/*.jpg``, ``~``."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

MOST = 1_000_000
"""Names that braces may stand for, at most."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")


def has_wildcards(where: str) -> bool:
    """Say whether a text stands for several names."""
    return bool(re.search(r"[*?\[]", where)) or has_braces(where)


def has_braces(where: str) -> bool:
    """Say whether a text has braces that stand for several names."""
    return _expansion(where) is not None


def expand(where: str) -> Iterator[str]:
    """Yield the names that braces stand for: ranges with their zeros, and lists.

    Raises
    ------
    ValueError
        There are more than `MOST`.
    """
    todo, n = [where], 0
    while todo:
        text = todo.pop()
        found = _expansion(text)
        if found is None:
            n += 1
            if n > MOST:
                raise ValueError(f"braces stand for more than {MOST:,} names")
            yield text
            continue
        start, end, choices = found
        todo += [text[:start] + each + text[end:] for each in reversed(choices)]


def files(where: str) -> list[Path]:
    """Return the files of that name or names, each once, in order of their names.

    Raises
    ------
    ValueError
        There are too many names.
    """
    found: set[str] = set()
    for each in expand(os.path.expanduser(where)):  # noqa: PTH111, as text: it may hold wildcards
        if Path(each).is_file():  # whatever characters it is called by
            found.add(each)
            continue
        found.update(glob.glob(each, recursive=True) if has_wildcards(each) else [each])  # noqa: PTH207
    return sorted(path for path in map(Path, found) if path.is_file())


def root_of(where: str) -> Path:
    """Return the folder below which all that a name stands for lies."""
    parts = Path(os.path.expanduser(where)).parts  # noqa: PTH111
    plain = next((at for at, part in enumerate(parts) if has_wildcards(part)), len(parts) - 1)
    return Path(*parts[: min(plain, len(parts) - 1)]) if plain else Path()


def split_url(where: str) -> tuple[str, str]:
    """Part a URL into the folder below which all that it stands for lies, and the rest."""
    start = where.index("://") + 3
    parts = where[start:].split("/")
    plain = next((at for at, part in enumerate(parts) if has_wildcards(part)), len(parts) - 1)
    plain = max(1, min(plain, len(parts) - 1)) if len(parts) > 1 else 0
    return where[:start] + "/".join(parts[:plain]), "/".join(parts[plain:])


def _expansion(text: str) -> tuple[int, int, list[str]] | None:
    """Find the first braces that stand for several names, and these."""
    for found in _BRACES.finditer(text):
        inside = found[1]
        if (numbers := _RANGE.fullmatch(inside)) is not None:
            first, last = int(numbers[1]), int(numbers[2])
            if abs(last - first) > MOST:
                raise ValueError(f"braces stand for more than {MOST:,} names")
            width = max(map(len, numbers.groups())) if numbers[1].startswith("0") else 0
            step = 1 if last >= first else -1
            choices = [f"{each:0{width}d}" for each in range(first, last + step, step)]
            return found.start(), found.end(), choices
        if "," in inside:
            return found.start(), found.end(), inside.split(",")
    return None
