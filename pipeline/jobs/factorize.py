"""The factorize stage: choose k, fit W over all fit images, fix the gauge, write the bank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from ..runs.bank import fit_run
from ..runs.plan import made_from
from ..runs.probe import describe, make_probe
from ..runs.workspace import Workspace
from ..store import Encoding, Probe, UnfinishedFit, write_bank, write_probe
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
    probe = make_probe(workspace) if workspace.config.head == "probe" else None
    found = fit_run(workspace, unfinished=unfinished, probe=probe)
    bank, concepts, choice = found.bank, found.concepts, found.concepts.choice
    rows = [row | {"chosen": row["k"] == choice.k} for row in choice.rows]
    evidence = {**K_METRICS.stamp(), "rows": _plain(rows)}
    files.write_json(workspace.folder / "bank" / "k_metrics.json", evidence)
    if probe is not None:
        write_probe(path.with_name("probe.h5"), probe)
    write_bank(path, bank)
    unfinished.remove()
    workspace.reload("bank")
    say(
        f"factorize  k = {bank.k}{'' if bank.k_is_stable else ' (no stable k)'}, relative error"
        f" {bank.error:.4f} (held out {bank.heldout_error:.4f}, floor {bank.svd_error:.4f})"
    )
    if probe is not None:
        workspace.tell(f"probe      {describe(probe)}")
    return {
        **_facts(probe),
        "k": bank.k,
        "passes": concepts.n_passes,
        "reseeded": concepts.n_reseeded,
        "dead": concepts.n_dead,
        "error": round(bank.error, 5),
    }


def _facts(probe: Probe | None) -> dict[str, int | float]:
    """Return what ``run.json`` says of a probe."""
    if probe is None or not probe.n_heldout:
        return {}
    return {
        "probe_accuracy": round(probe.accuracy, 5),
        "probe_chance": round(probe.chance, 5),
        "probe_heldout": probe.n_heldout,
    }


WAY = 2
"""Of fitting concepts: what was begun in another way is begun anew."""


def _key(workspace: Workspace) -> str:
    """Say what decides the bits of a fit: options, activations, and how this machine computes."""
    data = made_from(workspace, "bank")["activations"]
    machine = (torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), workspace.device)
    return " ".join(map(str, (WAY, workspace.config.digest(), data, *machine)))


def _plain(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Bring rows to what JSON holds: NaN becomes null."""
    return [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]
