"""The factorize stage: choose k, fit W over all fit images, fix the gauge, write the bank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from ..runs.fit import fit_run
from ..runs.plan import made_from
from ..runs.workspace import Workspace
from ..store import Encoding, UnfinishedFit, write_bank
from ..system import files
from ..system.progress import say

K_METRICS = Encoding("concordance.k_metrics", "1.0")


def factorize(workspace: Workspace) -> dict[str, int | float]:
    """Fit the concepts of a run's layer and write ``bank/bank.h5``.

    Returns
    -------
    dict
        Counts: k, passes, reseeded and dead concepts, error.

    Raises
    ------
    UserError
        Negative activations under ``TRANSFORM=none``, or a k that the data cannot hold.
    """
    path = workspace.folder / "bank" / "bank.h5"
    workspace.reload("bank")  # what was read before is of the past
    unfinished = UnfinishedFit(path.with_name("unfinished.h5"), _key(workspace))
    found = fit_run(workspace, unfinished=unfinished)
    bank, concepts, choice = found.bank, found.concepts, found.concepts.choice
    rows = [row | {"chosen": row["k"] == choice.k} for row in choice.rows]
    evidence = {**K_METRICS.stamp(), "rows": _plain(rows)}
    files.write_json(workspace.folder / "bank" / "k_metrics.json", evidence)
    write_bank(path, bank)
    unfinished.remove()
    say(
        f"factorize  k = {bank.k}{'' if bank.k_is_stable else ' (no stable k)'}, relative error"
        f" {bank.error:.4f} (held out {bank.heldout_error:.4f}, floor {bank.svd_error:.4f})"
    )
    return {
        "k": bank.k,
        "passes": concepts.n_passes,
        "reseeded": concepts.n_reseeded,
        "dead": concepts.n_dead,
        "error": round(bank.error, 5),
    }


def _key(workspace: Workspace) -> str:
    """Say what decides the bits of a fit: options, activations, and how this machine computes."""
    data = made_from(workspace, "bank")["activations"]
    machine = (torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), workspace.device)
    return " ".join(map(str, (workspace.config.digest(), data, *machine)))


def _plain(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Bring rows to what JSON holds: NaN becomes null."""
    return [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]
