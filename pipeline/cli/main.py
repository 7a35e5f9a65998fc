"""From a command line to an exit code: parse, do it, say what went wrong in a sentence."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from ..errors import UserError, Words, command, speak_as, suggest
from ..escape import visible
from ..system import ending
from ..system.heap import share_heap
from . import streams
from .commands import COMMANDS, STAGES, Command
from .options import parse
from .text import show

USER_ERROR, INTERRUPTED = 2, 130

SHOWN = 60
"""Characters that are shown of a name too long."""


def main(name: str | None = None, argv: Sequence[str] | None = None) -> None:
    """Be a command of this process, and end it.

    Parameters
    ----------
    name : str, optional
        The command; by default the first argument, as of ``concordance``.
    argv : sequence of str, optional
        Its arguments; those of the process by default.
    """
    streams.prepare()
    sys.excepthook = _tell_fault
    share_heap()  # before anything heavy is imported: importing torch already starts threads
    given = list(sys.argv[1:] if argv is None else argv)
    with ending.prompt():
        if _is_nowhere():  # of what is loaded later, some ends the process there
            code = _refuse("the folder you are in is gone; go to another")
        elif name is None:
            speak_as("concordance")
            code = run_any(given)
        else:
            code = run(name, given, "make" if os.environ.get("CONCORDANCE_BY_MAKE") else "stages")
    streams.finish()
    ending.end(code)


def run_any(argv: Sequence[str]) -> int:
    """Run the command that the first word names."""
    known = COMMANDS | STAGES
    if not argv or argv[0] in ("-h", "--help", "help"):
        show(overview())
        return 0
    if argv[0] == "--version":
        from importlib.metadata import version

        show(f"concordance {version('concordance')}")
        return 0
    if argv[0] not in known:
        near = suggest(argv[0], known)
        return _refuse(
            f"there is no command {argv[0]!r}; {near or 'concordance --help lists them'}"
        )
    return run(argv[0], argv[1:], "concordance")


def run(name: str, argv: Sequence[str], words: Words) -> int:
    """Run a command.

    Parameters
    ----------
    name : str
    argv : sequence of str
        Its arguments.
    words : {'make', 'concordance', 'stages', 'python'}
        How the user typed it, and is to be answered.

    Returns
    -------
    int
        0, 2 for a mistake of the user's, 130 when interrupted.
    """
    speak_as(words)
    chosen = (COMMANDS | STAGES)[name]
    try:
        options = parse(command(name), _describe(chosen), chosen.options, argv)
        with _log_on_stderr():
            # Loaded now and not before, with torch and all that takes seconds.
            action = getattr(import_module("..actions", __name__), chosen.action)
            code = action(options) if chosen.action != "stage" else action(name, options)
    except UserError as error:
        return _refuse(str(error))
    except SystemExit as ended:  # help was printed
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        show(ending.INTERRUPTED, on_stderr=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output (head, less) has gone; there is nobody left to tell.
        sys.stderr.close()
        return 1
    except OSError as error:
        if (reason := _of_name(error)) is None:
            raise
        return _refuse(reason)
    return int(code or 0)


def _of_name(error: OSError) -> str | None:
    """Say what is wrong with the name of a file that was given, where that is what is wrong."""
    if error.errno == errno.ENAMETOOLONG:
        return f"{str(error.filename)[:SHOWN]}… is longer than the name of a file can be"
    return None


def _is_nowhere() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _refuse(sentence: str) -> int:
    """Say in one line what is wrong."""
    show(visible(f"error: {sentence}"), on_stderr=True)
    return USER_ERROR


def _tell_fault(kind: type[BaseException], fault: BaseException, trace: object) -> None:
    """Print a traceback as Python does; names in it may hold anything."""
    import traceback

    show("".join(traceback.format_exception(fault)).rstrip(), on_stderr=True)


def overview() -> str:
    """Write which commands there are."""
    width = max(map(len, COMMANDS | STAGES))
    lines = [
        "usage: concordance COMMAND [--option=value ...]",
        "",
        "The visual concepts of a network over a whole image dataset.",
        "",
        *(f"  {each.name:<{width}}  {each.summary}" for each in COMMANDS.values()),
        "",
        "the stages of discover, one by one:",
        *(f"  {each.name:<{width}}  {each.summary}" for each in STAGES.values()),
        "",
        "concordance COMMAND --help tells the options of a command.",
    ]
    return "\n".join(lines)


def _describe(chosen: Command) -> str:
    parts = [textwrap.fill(f"{chosen.summary}.", 96), chosen.more]
    if chosen.example:
        parts.append(f"Example:  {command(chosen.name, **chosen.example)}")
    return "\n\n".join(part for part in parts if part)


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Show what the library says, each line by itself, without breaking a bar."""
    from ..system.progress import LOG, LineHandler

    handler, level, propagates = LineHandler(), LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        LOG.propagate = propagates
