"""Places of images that lie elsewhere: which protocols there are, and no secret in what is kept.

A run's files, its pages and its messages name images by their places. What lets one in there, a
password or a signature, is no part of a place, and is written nowhere.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ..errors import UserError, option
from ..system.optional import imported

PACKAGES = {
    "http": ("aiohttp", "remote"),
    "https": ("aiohttp", "remote"),
    "s3": ("s3fs", "s3"),
    "gs": ("gcsfs", "gcs"),
    "gcs": ("gcsfs", "gcs"),
    "az": ("adlfs", "azure"),
    "abfs": ("adlfs", "azure"),
    "hf": ("huggingface_hub", "hub"),
    "memory": ("fsspec", "remote"),
}
"""Of each protocol the package that speaks it, and the extra of this project that brings it."""

OF_HTTP = frozenset(("http", "https"))

_BEGINNING = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]*)://|[A-Za-z][A-Za-z0-9+.-]*::")
_SECRET = re.compile(
    r"sig|token|secret|passw|pwd|auth|credential|policy|expires|session|hmac|^x-(amz|goog)-"
    r"|(^|[_-])key|key[_-]?(id)?$|^googleaccessid$",
    re.IGNORECASE,
)
"""Names of what lets one in, among the parameters of a query."""

_BESIDE_SIG = frozenset(("se", "sp", "sv", "sr", "st", "spr", "sip", "ss", "srt", "sdd", "ske",
                         "skoid", "sks", "skt", "sktid", "skv"))  # fmt: skip
"""Parameters that Azure signs, where there is a ``sig``."""

_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>)]+")


def is_url(text: str) -> bool:
    """Say whether a text is written as a place of a protocol, known or not, or a chain of them."""
    return _BEGINNING.match(text) is not None


def protocol_of(url: str) -> str:
    """Return a URL's protocol in lower case; of a chain an empty text."""
    found = _BEGINNING.match(url)
    return (found["protocol"] or "").lower() if found and "::" not in url else ""


def ending_of(url: str) -> str:
    """Return how a URL's path ends, in lower case: ``.tar``."""
    return PurePosixPath(name_of(url)).suffix.lower()


def name_of(url: str) -> str:
    """Return the last part of a URL's path, without a query."""
    if protocol_of(url) in OF_HTTP:
        url = url.partition("?")[0].partition("#")[0]
    return url.rstrip("/").rpartition("/")[2]


def has_wildcards(url: str) -> bool:
    """Say whether a URL without braces stands for several; a question mark begins a query."""
    return any(each in url for each in ("*[" if protocol_of(url) in OF_HTTP else "*[?"))


def local_path(url: str) -> str | None:
    """Return the path of a ``file:`` URL of this machine; None of any other."""
    if protocol_of(url) != "file":
        return None
    rest = url[len("file://") :]
    if rest.lower().startswith("localhost/"):
        rest = rest[len("localhost") :]
    return unquote(rest) if "%" in rest else rest


def why_not(url: str) -> str | None:
    """Say why images are not fetched from a place; None where they may be.

    Chains (``zip://…::``) and what fsspec knows besides could reach files of this machine.
    """
    protocol = protocol_of(url)
    known = f"images are fetched by {', '.join(PACKAGES)}"
    if protocol == "file":
        return "it names a file of this machine"
    if not protocol:
        return f"chains of protocols are not followed; {known}"
    if protocol not in PACKAGES:
        return f"there is no protocol {protocol!r}; {known}"
    if protocol in OF_HTTP and not _host(url):
        return "it names no host"
    return None


def check_dataset(url: str) -> None:
    """Refuse a dataset's place that cannot be one, or holds a secret; import what it needs.

    Raises
    ------
    UserError
    """
    shown = without_secrets(url)
    if (reason := why_not(url)) is not None:
        raise UserError(f"{option('dataset', shown)} is not possible: {reason}")
    if shown != url:
        raise UserError(
            f"{option('dataset', shown)} was given with a password or signature, which would be"
            " written into the run; leave it out: passwords of web servers are found in ~/.netrc,"
            " those of clouds where their own tools keep them; signed URLs of images may stand in a"
            " table of paths, which is read anew each time"
        )
    speaking(url)


def speaking(url: str) -> None:
    """Import the packages that a URL's protocol needs.

    Raises
    ------
    UserError
        One is not installed.
    """
    package, extra = PACKAGES[protocol_of(url)]
    imported("fsspec", "remote")
    imported(package, extra)


def without_secrets(url: str) -> str:
    """Return a URL without user, password, and what signs it or lets one in.

    Examples
    --------
    >>> without_secrets("https://me:word@host/a.jpg?id=3&X-Amz-Signature=ab#top")
    'https://host/a.jpg?id=3'
    """
    found = _BEGINNING.match(url)
    if found is None or not found["protocol"]:
        return url
    start = found.end()
    host, slash, path = url[start:].partition("/")
    user, at, name = host.rpartition("@")
    if at and (":" in user or protocol_of(url) in OF_HTTP):
        host = name
    if protocol_of(url) in OF_HTTP:
        rest, _, _ = (host + slash + path).partition("#")
        place, mark, query = rest.partition("?")
        query = _plain(query)
        return url[:start] + place + (mark + query if query else "")
    return url[:start] + host + slash + path


def scrubbed(text: str) -> str:
    """Return a message with no secret in the URLs it names."""
    return _IN_TEXT.sub(lambda found: without_secrets(found[0]), text)


def host_of(url: str) -> str:
    """Return where a URL's images are fetched from: its protocol with its host or bucket."""
    protocol = protocol_of(url)
    bare = without_secrets(url)[len(protocol) + 3 :]
    return f"{protocol}://{re.split('[/?#]', bare, maxsplit=1)[0]}"


def joined(base: str, path: str) -> str | None:
    """Return the URL of a path relative to a folder's; None where it leads out of its host."""
    host = host_of(base)
    parts = [each for each in base[len(host) :].split("/") if each]
    for part in path.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join((host, *parts))


def _plain(query: str) -> str:
    """Return a query without its secrets."""
    parameters = query.split("&")
    names = [unquote(each.partition("=")[0]) for each in parameters]
    is_of_azure = any(name.lower() == "sig" for name in names)
    return "&".join(
        each
        for each, name in zip(parameters, names, strict=True)
        if not _SECRET.search(name) and not (is_of_azure and name.lower() in _BESIDE_SIG)
    )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:  # as of brackets that are no address
        return None
