"""Other packages' factorizations, each run in a process of its own with packages of its own.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.

What `peers.txt` pins is installed once into ``build/peers``, beside the packages of this project.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

ROOT = Path(__file__).resolve().parent.parent
PINNED = Path(__file__).with_suffix(".txt")
PATIENCE = 300
"""Seconds that the package registry gets."""


class UnavailableError(Exception):
    """The peers cannot be run here; the text says why, in one line."""


def environment() -> Path:
    """Return the folder of the peers' packages, made where it is missing or of other pins.

    Raises
    ------
    UnavailableError
        They cannot be installed, or do not import.
    """
    digest = hashlib.sha256(PINNED.read_bytes()).hexdigest()[:12]
    folder = ROOT / "build" / "peers" / digest
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = folder.with_name(f"{digest}.part-{os.getpid()}")
        pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
        options = ["--quiet", "--no-deps", "--target", str(part), "--requirement", str(PINNED)]
        try:
            _succeed([*pip, *options], "the registry of packages cannot be reached")
            _succeed([sys.executable, "-m", "benchmarks.peers"], "they do not import", part)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return folder


def run(
    name: str, folder: Path, array: Path, k: int, seed: int, budget: int, device: str = "cpu"
) -> tuple[float, Array, Array]:
    """Factorize a saved array with a peer, in a process of its own.

    Parameters
    ----------
    name : str
        One of `WAYS`.
    folder : Path
        The peers' packages.
    array : Path
        V as ``.npy``; reading it is not timed. W and H are left beside it.
    k, seed, budget : int
        Concepts, seed, iterations at most.
    device : str
        What to compute on; the way there and back is timed.

    Returns
    -------
    seconds : float
    W, H : ndarray
        (channels, k) and (positions, k) float32.
    """
    arguments = [str(array), name, str(k), str(seed), str(budget), device]
    printed = _succeed([sys.executable, "-m", "benchmarks.peers", *arguments], name, folder)
    W, H = (np.load(array.with_suffix(f".{factor}.npy")) for factor in "WH")
    return float(printed.split()[-1]), W, H


def _succeed(command: list[str], otherwise: str, folder: Path | None = None) -> str:
    """Run a command with the peers' packages before ours; return what it printed."""
    variables = os.environ | ({} if folder is None else {"PYTHONPATH": str(folder)})
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE if folder is None else None,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{otherwise} (no answer in {PATIENCE} s)") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise UnavailableError(f"{otherwise} ({said[:200]})")
    return done.stdout


def _torchnmf(V: Any, k: int, budget: int) -> tuple[Any, Any]:
    """Multiplicative updates of the Frobenius norm."""
    from torchnmf.nmf import NMF  # type: ignore[import-not-found,unused-ignore]

    model = NMF(V.shape, rank=k).to(V.device)
    model.fit(V, beta=2, max_iter=budget)
    return model.W.detach(), model.H.detach()


def _overcomplete(V: Any, k: int, budget: int) -> tuple[Any, Any]:
    """Its default solver, HALS from nndsvda."""
    from overcomplete.optimization import (  # type: ignore[import-not-found,unused-ignore]
        NMF,
    )

    H, D = NMF(k, device=V.device).fit(V, max_iter=budget)
    return D.T, H


WAYS: dict[str, Callable[[Any, int, int], tuple[Any, Any]]] = {
    "torchnmf": _torchnmf,
    "overcomplete": _overcomplete,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Factorize an array and print the seconds; without one, only import the peers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("array", type=Path, nargs="?")
    parser.add_argument("way", choices=WAYS, nargs="?")
    for number in ("k", "seed", "budget"):
        parser.add_argument(number, type=int, nargs="?")
    parser.add_argument("device", nargs="?", default="cpu")
    given = parser.parse_args(argv)
    import torch

    # As we do: where values fade away, torchnmf takes 14 times as long without, to the same error.
    # Threads inherit it from the one that starts them, so it stands before all work.
    torch.set_flush_denormal(True)
    # Imports are not timed: a first, tiny factorization makes them, and wakes the device.
    tiny = torch.rand(40, 8).to(given.device)
    for way in WAYS.values() if given.array is None else [WAYS[given.way]]:
        way(tiny, 2, 2)
    if given.array is None:
        return
    torch.manual_seed(given.seed)
    np.random.seed(given.seed)  # noqa: NPY002 - the generator that Overcomplete draws from
    V = torch.from_numpy(np.load(given.array))
    start = time.perf_counter()
    W, H = (found.cpu() for found in WAYS[given.way](V.to(given.device), given.k, given.budget))
    took = time.perf_counter() - start
    for name, factor in (("W", W), ("H", H)):
        np.save(given.array.with_suffix(f".{name}.npy"), factor.numpy())
    print(took)


if __name__ == "__main__":
    main()
