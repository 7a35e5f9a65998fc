"""A checkout laid out for a test, and make run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

COMMANDS = {
    "setup", "discover", "test", "slow", "coverage", "layers", "explain", "evaluate", "compare",
    "suspects", "pin", "concepts", "status", "verify", "clean", "sample-model", "bench",
    "notebooks", "docs", "third-party", "sbom", "fuzz", "lint", "doctor", "help",
}  # fmt: skip


def make(
    folder: Path, *arguments: str | bytes, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run make in a folder, as if no other make were above it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "MFLAGS", "PIP_", "CONCORDANCE_", "PYTHON"))
    }
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=inherited | {"LC_ALL": "C.UTF-8"} | environment,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=120,
        check=False,
    )


def lay_out(folder: Path) -> Path:
    """Make a checkout whose environment is this one, and set up."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("requirements.lock", "requirements-test.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
        shutil.copy(ROOT / name, folder / ".venv" / f"installed-{name}")
    python = folder / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return folder
