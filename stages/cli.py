"""What all commands share: options from the configuration, errors as one sentence, exit codes."""

from __future__ import annotations

import argparse
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.config import CARRIED_OUT, Config, make_config
from pipeline.errors import UserError, suggest
from pipeline.jobs.prepare import prepare
from pipeline.jobs.workspace import Workspace

Options = dict[str, str]

USER_ERROR, INTERRUPTED = 2, 130

RUN_HELP = {"run": "folder of the run, as runs/pets"}
CONFIG_HELP = {name: str(field.description) for name, field in Config.model_fields.items()}


def command(
    job: Callable[[Options], None],
    options: Mapping[str, str],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse the command line, do the job, turn what went wrong into a sentence and a code.

    Parameters
    ----------
    job : callable
        Takes the options given, by name; its docstring is the command's help.
    options : mapping
        Option names (as in Python: ``image_size``) to their help texts.
    argv : sequence of str, optional
        Arguments; those of the process by default.

    Returns
    -------
    int
        0, 2 for a mistake of the user's, 130 when interrupted.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    # Damaged metadata makes Pillow warn; the pixels decide whether an image is of use.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        job(parse(job.__doc__ or "", options, sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        # Workers and helper threads write on; they share the terminal and were interrupted too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print("interrupted; the run can be resumed: give the same command again", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, less) has gone; there is nobody left to tell.
        sys.stderr.close()
        return 1
    return 0


def parse(description: str, options: Mapping[str, str], argv: Sequence[str]) -> Options:
    """Return the options given, without the empty ones.

    Raises
    ------
    UserError
        An unknown option, an option without value, or a stray word.
    """
    parser = _Parser(description=description, allow_abbrev=False)
    for name, text in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar="…", help=text, default="")
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        raise UserError(_unknown(unknown[0], options))
    return {name: value for name, value in vars(known).items() if value}


def _unknown(word: str, options: Mapping[str, str]) -> str:
    """Say what is wrong with a word that is no option of a command."""
    name, is_pair, value = word.lstrip("-").partition("=")
    name = name.replace("-", "_").upper()
    if name.lower() in options and is_pair:  # as make takes them
        return f"{word}: write it as --{name.lower().replace('_', '-')}={value}"
    near = suggest(name, [option.upper() for option in options])
    takes = ", ".join(option.upper() for option in options) or "none"
    return f"unknown option {name}; {near or 'options: ' + takes}"


def workspace_of(options: Options) -> Workspace:
    """Find the run that options name, or prepare the one they describe.

    With ``RUN`` of an existing run, and no option that decides the outcome, that run is taken as
    it was made.
    """
    given = dict(options)
    run = Path(given.pop("run")) if "run" in given else None
    if run is not None and _is_run(run) and not set(given) - set(CARRIED_OUT):
        made = Workspace.open(run).config
        return prepare(make_config(made.model_dump() | given), run)
    return prepare(make_config(dict(given)), run)


def finished_run(options: Options) -> Path:
    """Return the folder of ``RUN``.

    Raises
    ------
    UserError
        ``RUN`` was not given or is no run.
    """
    if "run" not in options:
        raise UserError("RUN is missing; pass RUN=<folder>, as runs/pets")
    folder = Path(options["run"])
    if not _is_run(folder):
        found = [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = suggest(folder.name, found)
        raise UserError(f"RUN={folder} is not a run{'; ' + near if near else ''}")
    return folder


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("run.json", "config.toml"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(message)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
