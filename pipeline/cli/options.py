"""The options of commands: what each takes, by default and at all; help is written from this."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from ..config import Config
from ..errors import UserError, as_typed, option, spoken, suggest

Options = dict[str, str]


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes
    ----------
    help : str
        What it means.
    default : str
        What is taken where it is not given; empty where nothing is.
    choices : tuple of str
        All it takes, where that is a few words.
    """

    help: str
    default: str = ""
    choices: tuple[str, ...] = ()

    def text(self) -> str:
        """Write help, choices and default."""
        facts = []
        if self.choices and not all(choice in self.help for choice in self.choices):
            facts.append(f"one of {', '.join(self.choices)}")
        if self.default:
            facts.append(f"default: {self.default}")
        return f"{self.help} ({'; '.join(facts)})" if facts else self.help


def _of_field(field: FieldInfo) -> Option:
    default = field.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    literals = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return Option(
        str(field.description), "" if default is None else str(default), tuple(map(str, literals))
    )


CONFIG = {name: _of_field(field) for name, field in Config.model_fields.items()}
"""The options that make up a run's configuration."""

RUN = {"run": Option("folder of the run, as runs/pets")}
OF_A_RUN = CONFIG | {
    "run": Option("folder of the run; named after its contents where not given"),
    "config": Option("TOML file of options, as a run's config.toml; those given here go before"),
}
"""The options of discover and of each stage."""

FROM = Option(
    "another run, whose stored activations are taken: K, ACTIVE, SEED, OBJECTIVE, TRANSFORM,"
    " BALANCE may be others, or AT a number of its tree"
)
"""An option of discover alone."""

LAYERS = Option("several layers, each with a run, from one forward pass; comma-separated")
"""An option of discover alone."""


def parse(prog: str, text: str, options: Mapping[str, Option], argv: Sequence[str]) -> Options:
    """Return the options given, without the empty ones.

    Parameters
    ----------
    prog : str
        The command as the user types it.
    text : str
        What it does, and an example.
    options : mapping
        Names as in Python.
    argv : sequence of str

    Raises
    ------
    UserError
        An unknown option, an option without value, or a stray word.
    SystemExit
        Help was asked for, and printed.
    """
    parser = _Parser(
        prog=prog,
        description=text,
        allow_abbrev=False,
        formatter_class=_Help,
        usage=f"{prog} [--option=value ...]" if options else prog,
    )
    for name, each in options.items():
        parser.add_argument(
            f"--{as_typed(name)}",
            dest=name,
            metavar="…",
            help=each.text().replace("%", "%%"),
            default="",
        )
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UserError(_unknown(unknown[0], options))
    return {name: value for name, value in vars(known).items() if value}


def _unknown(word: str, options: Mapping[str, Option]) -> str:
    """Say what is wrong with a word that is no option of a command."""
    name, is_pair, value = word.lstrip("-").partition("=")
    name = name.replace("-", "_").lower()
    typed = name.replace("_", "-")
    if typed in map(as_typed, options) and is_pair and spoken() != "make":  # as make takes them
        return f"{word}: write it as --{typed}={value}"
    shown = {option(each): each for each in options}
    near = suggest(option(name), list(shown))
    takes = ", ".join(shown) or "none"
    return f"unknown option {option(name)}; {near or 'options: ' + takes}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(message)


class _Help(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=22, width=96)
