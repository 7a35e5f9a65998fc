"""Two runs side by side, as a command: which concept of one is which of the other."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from pipeline import nmf
from pipeline.errors import UserError
from pipeline.run import open_run
from stages.cli import Options, command, finished_run

OPTIONS = {"a": "folder of a run", "b": "folder of another run on the same layer"}


def job(options: Options) -> None:
    """Match the concepts of two runs one to one, by the cosine of their directions."""
    for name in OPTIONS:
        if name not in options:
            raise UserError(f"{name.upper()} is missing; pass A=<run> B=<run>")
    a, b = (open_run(finished_run({"run": options[name]})) for name in OPTIONS)
    if a.bank.W.shape[0] != b.bank.W.shape[0]:
        raise UserError(
            f"the runs' activations have {a.bank.W.shape[0]} and {b.bank.W.shape[0]} channels;"
            " only runs on the same layer can be compared"
        )
    found = nmf.match(torch.from_numpy(a.bank.W), torch.from_numpy(b.bank.W))
    labels = [run.table("concepts").set_index("concept_id")["top_label"] for run in (a, b)]
    print(f"{Path(options['a']).name:>36}   {Path(options['b']).name:<36} cosine")
    for left, (right, cosine) in enumerate(zip(found[0].tolist(), found[1].tolist(), strict=True)):
        if right >= 0:
            names = f"{labels[0][left][:30]:>30} {left:>5}   {right:<5} {labels[1][right][:30]:<30}"
            print(f"{names} {cosine:.3f}")


if __name__ == "__main__":
    sys.exit(command(job, OPTIONS))
