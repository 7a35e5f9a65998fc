"""Text that others wrote (file names, labels, classes), made fit for where it is shown or pasted.

A name may hold what a terminal obeys, what turns the text around it about, or what ends a line or a
word of a shell. Where a name is put into a line, `visible` or `fitted` writes it; what is shown in
the end passes `visible_lines`. All of it is for reading: stores and tables keep names as they are.
"""

from __future__ import annotations

import os
import re
import shlex

_CONTROLS = r"\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: ESC, CSI, OSC, line ends
_TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # which way text runs
_SEPARATORS = "\u2028\u2029"
_SURROGATES = "\ud800-\udfff"  # alone they are no text: bytes of a name that is not UTF-8
_UNSEEN = re.compile(f"[{_CONTROLS}{_TURNING}{_SEPARATORS}{_SURROGATES}]")
_UNSEEN_IN_LINES = re.compile(f"(?!\\n){_UNSEEN.pattern}")

_FORMULA = tuple("=+-@\t\r")

_NEAREST = str.maketrans(
    {"–": "-", "−": "-", "×": "x", "…": "...", "→": "->", "≠": "!=", "’": "'", "·": "*", "█": "#"}
)
"""What our own lines are written with, for terminals that have letters only."""


def visible(text: str) -> str:
    r"""Write control, direction and line characters and lone surrogates as Python escapes.

    All other characters stay as they are, so the result can be read, not decoded.

    Examples
    --------
    >>> print(visible("a\x1b]0;b\n\u202ec"), visible("Grüße, 世界 × 🐕"))
    a\x1b]0;b\n\u202ec Grüße, 世界 × 🐕
    """
    return _UNSEEN.sub(_escaped, text)


def visible_lines(text: str) -> str:
    r"""Write a text of several lines as `visible` does, and keep its line feeds.

    Examples
    --------
    >>> visible_lines("a\r\nb").split("\n")
    ['a\\r', 'b']
    """
    return _UNSEEN_IN_LINES.sub(_escaped, text)


def fitted(text: object, width: int) -> str:
    """Write a text in one line of at most `width` characters, cut with an ellipsis.

    Examples
    --------
    >>> fitted("golden retriever", 9), fitted("dog", 9)
    ('golden r…', 'dog')
    """
    line = " ".join(visible(str(text)).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def shell_word(text: str) -> str:
    r"""Quote a text as one word of a shell; no character of it ends the line it is pasted in.

    Control characters are written in the quotes of bash, zsh and POSIX 2024, by their bytes.

    Examples
    --------
    >>> print(shell_word("a b"), shell_word("a\nb"))
    'a b' $'a\012b'
    """
    if not _UNSEEN.search(text):
        return shlex.quote(text)
    quoted = re.sub(r"[\\'!]", lambda found: f"\\{ord(found[0]):03o}", text)
    return f"$'{_UNSEEN.sub(_octal, quoted)}'"


def csv_cell(value: object) -> object:
    r"""Return a value of a CSV file so that no spreadsheet takes a text for a formula.

    A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an
    apostrophe before it; everything else is returned as it is.

    References
    ----------
    OWASP, "CSV Injection".

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("a=1"), csv_cell(-1.5)
    ("'=1+1", 'a=1', -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def nearest(error: UnicodeError) -> tuple[str, int]:
    r"""Be an error handler of `codecs`: what an encoding lacks as near as it can be written.

    Dashes and the like become ASCII, all else Python escapes.

    Examples
    --------
    >>> import codecs
    >>> codecs.register_error("nearest", nearest)
    >>> "3×4 – 世".encode("ascii", "nearest")
    b'3x4 - \\u4e16'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_NEAREST)
    return lacking.encode("ascii", "backslashreplace").decode("ascii"), error.end


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _octal(found: re.Match[str]) -> str:
    try:
        data = os.fsencode(found[0])  # a byte that is no UTF-8 is a surrogate in Python
    except UnicodeEncodeError:
        data = found[0].encode("utf-8", "surrogatepass")
    return "".join(f"\\{byte:03o}" for byte in data)
