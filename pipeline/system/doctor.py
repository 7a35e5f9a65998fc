"""Does this machine have what Concordance needs, and what is to be done where it has not?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import option

LOCK = Path(__file__).resolve().parents[2] / "requirements.lock"
"""What a checkout's environment holds; an installed package has none."""

LEAST_FREE_GB = 10
FAST_FLAGS = {"amx_bf16": "AMX-BF16", "avx512_bf16": "AVX512-BF16", "avx2": "AVX2"}


class Finding(NamedTuple):
    """One line of the report: what was looked for, what was found, and what to do about it."""

    name: str
    ok: bool
    found: str
    advice: str = ""
    needed: bool = False


def examine() -> Iterator[Finding]:
    """Make all checks, each as it is asked for; one that breaks is a finding like any other."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": check_python,
        "packages": check_packages,
        "torch": check_torch,
        "cpu": check_cpu,
        "threads": check_threads,
        "compiler": check_compiler,
        "cuda": check_cuda,
        "disk": check_disk,
        "hdf5": check_hdf5,
        "assets": check_assets,
    }
    for name, check in checks.items():
        try:
            yield check()
        except Exception as error:  # whatever is broken here is what the user wants to know
            found = f"{type(error).__name__}: {error}"
            yield Finding(name, False, found, _again(), needed=True)


def check_python() -> Finding:
    """Python itself."""
    ok = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} at {sys.executable}"
    return Finding("python", ok, found, "install Python 3.11 or newer", needed=True)


def check_packages() -> Finding:
    """Whether every locked package is installed in its locked version."""
    if not LOCK.is_file():
        return Finding("packages", True, f"concordance {_installed('concordance')}, by pip")
    lock = LOCK.read_text(encoding="utf-8").splitlines()
    pins = [line.split()[0].split("==") for line in lock if "==" in line]
    wrong = [f"{name}=={version}" for name, version in pins if _installed(name) != version]
    found = f"{len(pins) - len(wrong)} of {len(pins)} locked packages installed"
    if wrong:
        found += f", not {', '.join(wrong[:3])}{' …' if len(wrong) > 3 else ''}"
    return Finding("packages", not wrong, found, _again())


def check_torch() -> Finding:
    """Torch and torchvision import, and together."""
    import torch
    import torchvision

    found = f"{torch.__version__}, torchvision {torchvision.__version__}"
    return Finding("torch", True, found, needed=True)


def check_cpu() -> Finding:
    """Instructions that make bf16 fast."""
    flags = set()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                flags.update(line.split())
    has = [name for flag, name in FAST_FLAGS.items() if flag in flags]
    found = (
        f"{platform.machine()} with {', '.join(has) or 'none of ' + str([*FAST_FLAGS.values()])}"
    )
    advice = "nothing to do: the forward pass will run in float32, which is slower"
    return Finding("cpu", bool({"amx_bf16", "avx512_bf16"} & flags), found, advice)


def check_threads() -> Finding:
    """Cores this process may use, and threads torch takes."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    found = f"torch uses {threads} on {cores} core{'' if cores == 1 else 's'}"
    return Finding("threads", threads == cores, found, f"set OMP_NUM_THREADS={cores} or unset it")


def check_compiler() -> Finding:
    """The C++ compiler that torch.compile calls."""
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    advice = "install g++ (Debian: apt-get install g++), or extraction runs slower, uncompiled"
    return Finding("compiler", path is not None, path or f"no {name}", advice)


def check_cuda() -> Finding:
    """A graphics card that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return Finding("cuda", False, "no device", "nothing to do: the CPU is used")
    device = torch.cuda.get_device_properties(0)
    return Finding("cuda", True, f"{device.name}, {device.total_memory / 1e9:.0f} GB")


def check_disk() -> Finding:
    """Room for runs beside the code."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    advice = (
        f"less than {LEAST_FREE_GB} GB: pass {option('run', '<folder on a larger disk>')}, or"
        f" {option('max_disk')}"
    )
    return Finding("disk", free >= LEAST_FREE_GB, f"{free:.0f} GB free in {Path.cwd()}", advice)


def check_hdf5() -> Finding:
    """HDF5 with the zstd filter: what is written comes back."""
    import h5py
    import hdf5plugin
    import numpy as np

    values = np.arange(4096, dtype=np.float32)
    with h5py.File("doctor.h5", "w", driver="core", backing_store=False) as file:
        stored = file.create_dataset(
            "values", data=values, chunks=True, **hdf5plugin.Zstd(clevel=3)
        )
        ok = bool((stored[:] == values).all()) and stored.id.get_storage_size() < values.nbytes
    found = f"HDF5 {h5py.version.hdf5_version}, zstd by hdf5plugin {hdf5plugin.version}"
    return Finding("hdf5", ok, found, _again(), needed=True)


def check_assets() -> Finding:
    """Real weights and images, which only tests and benchmarks use."""
    folder = Path(os.environ.get("CONCORDANCE_ASSETS") or LOCK.parents[1] / "shared" / "assets")
    ok = (folder / "weights").is_dir() and (folder / "images").is_dir()
    advice = "only tests and benchmarks with real weights need it: set CONCORDANCE_ASSETS=<folder>"
    return Finding("assets", ok, str(folder) if ok else f"not in {folder}", advice)


def _again() -> str:
    """Say how the packages are installed again."""
    if LOCK.is_file():
        return "run: rm -r .venv; make setup"
    return "run: pip install --force-reinstall concordance"


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
