"""`make third-party`: THIRD_PARTY.md, the packages a user installs and their licences, from them.

A licence is what a package's metadata says, as an SPDX expression. Where they say it in other words
or not at all, the licence file in the package was read, and `READ` says what it is. What is neither
in `ALLOWED` nor named with a reason in `NAMED` is refused.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from pipeline.system.files import write_text

ROOT = Path(__file__).resolve().parent.parent
FILE, LOCK = ROOT / "THIRD_PARTY.md", ROOT / "requirements.lock"

ALLOWED = frozenset(
    (
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
        "LLVM-exception", "MIT", "MIT-CMU", "PSF-2.0", "Zlib",
    )
)  # fmt: skip
"""Licences that ask for no more than their text and the names of their authors."""

SPELT = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
}
"""What metadata say instead of an SPDX identifier, where it can mean one licence only."""

_BSD = (
    "contourpy", "cycler", "jinja2", "kiwisolver", "loky", "mpmath", "partd", "scikit-image",
    "scipy", "sympy", "torchvision", "zict",
)  # fmt: skip

READ = dict.fromkeys(_BSD, "BSD-3-Clause") | {
    "cuda-toolkit": "LicenseRef-NVIDIA-Proprietary",  # an empty package that asks for the others
    "hdf5plugin": "MIT",
    "matplotlib": "PSF-2.0",  # in its own words: "based on the PSF license"
    "numba": "BSD-2-Clause",
    "nvidia-nvtx": "Apache-2.0 WITH LLVM-exception",
}
"""Packages whose metadata name no one licence (`BSD`, a whole text, nothing): what was read."""

_GCC = (
    "its wheels hold GCC's runtime libraries (GPL-3.0-or-later WITH GCC-exception-3.1), whose"
    " exception lets programs of any licence use them"
)
_CUDA = "loaded by torch on NVIDIA GPUs; NVIDIA's terms; not installed with `INDEX=<CPU index>`"

NAMED = {
    "cuda-toolkit": _CUDA,
    "hdf5plugin": "MIT is its own code; each filter in its wheel has a licence of its own, which"
    " its documentation lists; Zstandard (BSD-3-Clause) is the only one used",
    "numpy": _GCC,
    "nvidia-cublas": _CUDA,
    "nvidia-cuda-cupti": _CUDA,
    "nvidia-cuda-nvrtc": _CUDA,
    "nvidia-cuda-runtime": _CUDA,
    "nvidia-cudnn-cu13": _CUDA,
    "nvidia-cufft": _CUDA,
    "nvidia-cufile": _CUDA,
    "nvidia-curand": _CUDA,
    "nvidia-cusolver": _CUDA,
    "nvidia-cusparse": _CUDA,
    "nvidia-cusparselt-cu13": _CUDA,
    "nvidia-nccl-cu13": _CUDA,
    "nvidia-nvjitlink": _CUDA,
    "nvidia-nvshmem-cu13": _CUDA,
    "scikit-learn": _GCC,
    "scipy": _GCC,
    "tqdm": "MPL-2.0 binds changes of its own files only, and it is used unchanged",
}
"""Packages with other terms, and why they may be used all the same."""

HOMES = ("homepage", "home", "repository", "source", "source code", "documentation")
"""Labels of links in metadata, the best first."""


class LicenceError(Exception):
    """A package may not be used, or nothing is known of it; the text says which."""


@dataclass(frozen=True)
class Package:
    """A locked package.

    Attributes
    ----------
    name, version : str
        As in the lock.
    licence : str
        SPDX expression.
    home : str
        Its page; empty where its metadata name none.
    """

    name: str
    version: str
    licence: str
    home: str


def locked(lock: str) -> dict[str, str]:
    """Return the version of each package of a lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))


def look_up(name: str, version: str) -> Package:
    """Read what an installed package says of itself.

    Raises
    ------
    LicenceError
        Another version is installed, or none; or its licence is unknown or not allowed.
    """
    try:
        says = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        raise LicenceError(f"{name} {version} is locked and not installed") from None
    if says["Version"] != version:
        raise LicenceError(f"{name} {version} is locked and {says['Version']} is installed")
    licence = licence_of(name, says)  # type: ignore[arg-type]  # a Message, by another protocol
    check(name, licence)
    return Package(name, version, licence, home_of(says))  # type: ignore[arg-type]


def licence_of(name: str, says: Message) -> str:
    """Return the licence in a package's metadata; what was read where they are vague, or empty."""
    if name in READ:
        return READ[name]
    stated = says["License-Expression"] or says["License"]
    if not stated:
        classifiers = [str(each) for each in says.get_all("Classifier", [])]
        found = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License")]
        stated = " AND ".join(SPELT.get(each, each) for each in found)
    return SPELT.get(str(stated), str(stated))


def check(name: str, licence: str) -> None:
    """Refuse a licence that is unknown or not allowed.

    Raises
    ------
    LicenceError
        The package is not named with a reason either.
    """
    if not licence:
        raise LicenceError(f"{name} names no licence: read its licence file and add it to READ")
    parts = re.split(r" AND | OR | WITH |[()]", licence)
    other = [part for part in parts if part and part not in ALLOWED]
    if other and name not in NAMED:
        raise LicenceError(f"{name} has a licence that is not allowed: {', '.join(other)[:80]!r}")


def home_of(says: Message) -> str:
    """Return a package's page: its home where named, else its source or documentation."""
    pairs = [str(each).partition(", ") for each in says.get_all("Project-URL", [])]
    links = {label.lower(): link for label, _, link in pairs}
    return str(says["Home-page"] or next((links[each] for each in HOMES if each in links), ""))


def document(packages: list[Package]) -> str:
    """Write the document: a table of packages, and why some with other terms may be used."""
    rows = [
        f"| {each.name} | {each.version} | {each.licence} |"
        f" {f'<{each.home}>' if each.home else '–'} |"
        for each in packages
    ]
    why = [f"| {name} | {reason} |" for name, reason in NAMED.items()]
    return "\n".join(
        [
            "# Third-party packages",
            "",
            "What `make setup` installs, by `requirements.lock`; written by `make third-party` from"
            " what the",
            "packages say of themselves. Concordance itself is under the [MIT licence](LICENSE) and"
            " holds none of",
            "them. Allowed are",
            f"{', '.join(sorted(ALLOWED))};",
            "everything else is named below, with a reason, or refused.",
            "",
            "| package | version | licence (SPDX) | page |",
            "|---|---|---|---|",
            *rows,
            "",
            "## Other terms",
            "",
            "| package | why it may be used |",
            "|---|---|",
            *why,
            "",
        ]
    )


def main() -> int:
    """Write THIRD_PARTY.md anew; 1 where a package may not be used."""
    try:
        packages = [look_up(*each) for each in locked(LOCK.read_text(encoding="utf-8")).items()]
    except LicenceError as error:
        print(f"third-party: {error}", file=sys.stderr)
        return 1
    write_text(FILE, document(packages))
    print(f"{FILE.name} lists {len(packages)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
