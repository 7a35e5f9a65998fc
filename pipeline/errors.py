"""What a user is told when something they gave cannot work: one clear sentence.

A library is called from Python, and from two command lines; what it advises is written in the words
of the place it is called from. `option` and `command` write them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Literal

from .escape import shell_word, visible_lines

Words = Literal["python", "make", "concordance", "stages"]

_CALLED_FROM = "CONCORDANCE_CALLED_FROM"
"""Environment variable that tells the processes a command starts which command line it is."""


_FUNCTIONS = {"layers": "describe_layers"}
"""Names of commands in Python, where they are others."""


_TYPED = {"from_run": "from"}
"""Options that are words of Python's own where they are typed."""


class UserError(Exception):
    """A problem the user can mend; its text says what is wrong, where, and what to do next.

    Commands print it as one sentence on stderr and exit with code 2; no traceback is shown.

    Parameters
    ----------
    sentence : str
        Names in it may hold anything; what a terminal would obey is made visible.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(visible_lines(sentence))


def speak_as(words: Words) -> None:
    """Write options and commands from now on as one types them there; ``python`` at first."""
    os.environ[_CALLED_FROM] = words


def spoken() -> str:
    """Return where this process was called from, as `speak_as` was told."""
    return os.environ.get(_CALLED_FROM, "python")


def option(name: str, value: object = None) -> str:
    """Write an option, with its value if it has one, as it is given where the user is.

    Parameters
    ----------
    name : str
        As in Python.
    value : object, optional
        None: the name alone.

    Examples
    --------
    >>> option("image_size", 224), option("model", "vgg")
    ('image_size=224', "model='vgg'")
    """
    spelt = _spelt(name)
    if value is None:
        return spelt
    return f"{spelt}={_python(value) if spoken() == 'python' else value}"


def command(name: str, /, **options: object) -> str:
    """Write a command with its options as the user can paste it where they are.

    Parameters
    ----------
    name : str
        As of the command line; in Python the function has that name.
    **options
        By their names in Python.

    Examples
    --------
    >>> command("discover", run="runs/pets")
    "discover(run='runs/pets')"
    """
    words = spoken()
    if words == "python":
        name = _FUNCTIONS.get(name, name)
        return f"{name}({', '.join(f'{key}={_python(value)}' for key, value in options.items())})"
    start = {"make": f"make {name}", "stages": f"python -m stages.{name}"}
    parts = [start.get(words, f"concordance {name}")]
    parts += [f"{_spelt(key)}={shell_word(str(value))}" for key, value in options.items()]
    return " ".join(parts)


def _spelt(name: str) -> str:
    words = spoken()
    if words == "python":
        return name
    typed = as_typed(name)
    return typed.replace("-", "_").upper() if words == "make" else f"--{typed}"


def as_typed(name: str) -> str:
    """Return how a command line spells an option, without its dashes."""
    return _TYPED.get(name, name).replace("_", "-")


def _python(value: object) -> str:
    return repr(value) if isinstance(value, int | float | tuple | list) else repr(str(value))


def suggest(name: str, known: Iterable[str], n: int = 3, cutoff: float = 0.5) -> str:
    """Say which known names are near a wrong one.

    Parameters
    ----------
    name : str
        The name that was given.
    known : iterable of str
        The names that exist.
    n : int
        How many near names to give at most.
    cutoff : float
        How alike they are at least, from 0 to 1.

    Returns
    -------
    str
        ``"did you mean 'resnet50' or 'resnet18'?"``, or an empty string if nothing is near.
    """
    near = difflib.get_close_matches(name, list(known), n=n, cutoff=cutoff)
    return f"did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
