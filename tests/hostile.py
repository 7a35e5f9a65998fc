"""Names that others wrote: labels, files and folders as unkind as they can be."""

from __future__ import annotations

LABELS = (
    "\x1b[2J\x1b[31mred",  # clears the terminal
    "\x1b]52;c;dG91Y2ggeA==\x07copied",  # writes the clipboard
    "\x1b]8;;file:///etc/passwd\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31mC1\x9d0;title\x9c",
    "over\rwritten",
    "two\nerror: lines",
    "tab\tand\vvertical\fand feed",
    "\u202egnp.exe",
    "\u2066isolate\u2069 \u2067right\u2069 \u2068first\u2069",
    "\u200emark\u200f\u061cend \u202aa\u202bb\u202cc\u202d",
    "line\u2028par\u2029next\x85last",
    "null\x00del\x7fback\x08",
    "=HYPERLINK(\"http://x\",\"a\")",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "$(touch PWNED)",
    "`touch PWNED`",
    "a'b\"$(touch PWNED); touch PWNED & c!d",
    "</script><script>window.owned=1</script>",
    "'; drop table images; --",
    "ends in a backslash\\",
)  # fmt: skip
"""Labels and class names."""

NOT_UTF8 = "caf\udce9"
"""A file name of bytes that are not UTF-8, as Python has it."""

FOLDERS = tuple(each.replace("/", "|") for each in LABELS if "\x00" not in each)
"""Names a folder may have: all but those with a slash or NUL."""

ORDINARY = ("Grüße", "世界", "🐕‍🦺 🏳️‍🌈", "3–4 × 5", "שלום", "مرحبا", "naïve “q” …", "a\\x1b")
"""Names that are to be shown as they are."""


def raw_in(text: str) -> set[str]:
    """Return the characters of a text that should have been made visible; line feeds may stay."""
    bad = {*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0))} - {"\n"}
    bad |= set("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e")
    bad |= set("\u2066\u2067\u2068\u2069") | {*map(chr, range(0xD800, 0xE000))}
    return set(text) & bad
