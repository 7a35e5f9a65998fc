"""The factorize stage: choose k, fit W over all fit images, fix the gauge, write the bank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Never

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline import files, nmf
from pipeline.config import K_AUTO, Config
from pipeline.errors import UserError
from pipeline.jobs.workspace import Workspace
from pipeline.localize import presence_thresholds
from pipeline.progress import bar, say
from pipeline.store import (
    Bank,
    PositionBlocks,
    UnfinishedFit,
    sample_by_energy,
    sample_positions,
    write_bank,
)

N_SAMPLE = 20_000
"""Positions on which thresholds and the floor are measured."""

MAX_PASSES = 10
"""Passes over all positions at most; two or three are usual."""

N_EVIDENCE = 8_000
"""Of these, the first so many give the evidence for k and for stability: dozens of fits."""


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
    workspace.__dict__.pop("bank", None)  # what was read before is of the past
    config = workspace.config
    sample, owner = sample_positions(
        workspace.activations, workspace.listing.fit_ids, N_SAMPLE, config.seed
    )
    transform = nmf.choose_transform(config.transform, _minimum(workspace, sample))
    weights = image_weights(workspace)
    V = transform.forward(sample)
    say(f"factorize  sample: {len(V):,} positions × {V.shape[1]} channels ({transform.kind})")
    unfinished = UnfinishedFit(path.with_name("unfinished.h5"), _key(workspace))
    choice = unfinished.choice
    if choice is None:
        part, of_part = V[:N_EVIDENCE], owner[:N_EVIDENCE]
        weighted = part if weights is None else part * _factors(weights, of_part)
        choice = _choose_k(weighted.to(workspace.device), of_part, config)
        unfinished.choose(choice)
    blocks = position_blocks(workspace, transform, "fit")
    fitted = _fit(replace(blocks, weights=weights), choice, workspace, unfinished)
    if n_dead := int(fitted.dead.sum()):
        say(f"factorize  {n_dead} of {choice.k} concepts stand nowhere: the data hold no more")
    stats = fitted.stats if weights is None else measure(blocks, fitted.W.to(workspace.device))
    W, stats, _ = nmf.gauge(fitted.W, stats)
    bank = _make_bank(workspace, transform, V, W, stats, choice)
    rows = [row | {"chosen": row["k"] == choice.k} for row in choice.rows]
    encoding = {"encoding-type": "concordance.k_metrics", "encoding-version": "1.0"}
    evidence = {**encoding, "rows": _plain(rows)}
    files.write_json(workspace.folder / "bank" / "k_metrics.json", evidence)
    write_bank(path, bank)
    unfinished.remove()
    say(
        f"factorize  k = {bank.k}{'' if bank.k_is_stable else ' (no stable k)'}, relative error"
        f" {bank.error:.4f} (held out {bank.heldout_error:.4f}, floor {bank.svd_error:.4f})"
    )
    return {
        "k": bank.k,
        "passes": fitted.n_passes,
        "reseeded": fitted.reseeded,
        "dead": n_dead,
        "error": round(bank.error, 5),
    }


def _minimum(workspace: Workspace, sample: torch.Tensor) -> torch.Tensor:
    """Return each channel's least activation: in the sample or, for `shift`, in all fit images."""
    if workspace.config.transform != "shift":
        return sample.amin(0)
    least = sample.amin(0)
    for arrays in workspace.activations.iterate(["V"], workspace.listing.fit_ids):
        if len(arrays["V"]):
            part = torch.from_numpy(arrays["V"]).flatten(0, 2).amin(0)
            least = torch.minimum(least, part.float())
    return least


def k_candidates(config: Config, V: torch.Tensor) -> tuple[int, ...]:
    """Return the numbers of concepts to weigh, those that the data can hold."""
    if config.k != "auto":
        return config.k
    most = min(V.shape) // 2
    return tuple(k for k in K_AUTO if k <= most) or (1,)


def _choose_k(V: torch.Tensor, owner: NDArray[np.int64], config: Config) -> nmf.KChoice:
    candidates = k_candidates(config, V)
    with bar("choose k", len(candidates), "candidates") as shown:

        def progress(done: int, total: int) -> None:
            shown.update(done - shown.n)

        return nmf.choose_k(V, owner, candidates, seed=config.seed, progress=progress)


def _fit(
    blocks: PositionBlocks, choice: nmf.KChoice, workspace: Workspace, unfinished: UnfinishedFit
) -> nmf.Fit:
    """Fit from the consensus of the choice's replicates, where a killed fit had got to."""
    seed = workspace.config.seed
    sample = sample_by_energy(blocks, nmf.sample_size(choice.k), seed)
    with bar("factorize", MAX_PASSES, "passes") as shown:
        return nmf.fit(
            blocks,
            sample.to(workspace.device),
            choice.k,
            seed=seed,
            W0=choice.W,
            max_passes=MAX_PASSES,
            progress=lambda phase, step, error: _show(shown, phase, error),
            checkpoint=unfinished,
        )


def _key(workspace: Workspace) -> str:
    """Say what decides the bits of a fit: options, images, and how this machine computes."""
    listing = files.sha256(workspace.listing_path)
    machine = (torch.get_num_threads(), torch.backends.cpu.get_cpu_capability(), workspace.device)
    return " ".join(map(str, (workspace.config.digest(), listing, *machine)))


def _show(shown: tqdm[Never], phase: str, error: float) -> None:
    shown.set_postfix_str(f"{phase}, relative error {error:.4f}", refresh=False)
    shown.update(phase == "pass")


def position_blocks(workspace: Workspace, transform: nmf.Transform, split: str) -> PositionBlocks:
    """Return the positions of the images of a split, as the engine reads them."""
    frame = workspace.listing.frame
    image_ids = frozenset(map(int, frame.image_id[frame.split == split]))
    return PositionBlocks(workspace.activations, image_ids, transform)


def measure(blocks: PositionBlocks, W: torch.Tensor) -> nmf.Stats:
    """Encode all positions with W fixed, on the device of W, and sum their statistics.

    What `shift` leaves below the fit set's minimum is negative, and counts as it is.
    """
    return nmf.sweep(blocks, W, tol=nmf.H_TOL, signed=True)


def image_weights(workspace: Workspace) -> dict[int, float] | None:
    """Return a factor for the rows of each image, as ``BALANCE`` says; None: all alike.

    Under ``image`` every image has the same share of ‖V‖², under ``class`` every label. Factors
    are square roots of weights, for the error is quadratic.
    """
    balance, frame = workspace.config.balance, workspace.listing.frame
    if balance == "none":
        return None
    if balance == "class":
        counts = frame["label"].map(frame["label"].value_counts())
        if counts.isna().any():
            raise UserError("BALANCE=class needs a label for every image; use BALANCE=image")
        factors = np.sqrt(counts.mean() / counts.to_numpy(dtype=np.float64))
        return dict(zip(frame["image_id"].tolist(), factors.tolist(), strict=True))
    norms: dict[int, float] = {}
    for arrays in workspace.activations.iterate(["image_id", "norm"]):
        norms.update(zip(arrays["image_id"].tolist(), arrays["norm"].tolist(), strict=True))
    typical = math.sqrt(sum(norm * norm for norm in norms.values()) / max(1, len(norms)))
    return {key: typical / norm if norm > 0 else 0.0 for key, norm in norms.items()}


def _make_bank(
    workspace: Workspace,
    transform: nmf.Transform,
    V: torch.Tensor,
    W: torch.Tensor,
    stats: nmf.Stats,
    choice: nmf.KChoice,
) -> Bank:
    """Order the concepts by energy and gather what the bank keeps of them."""
    energies = nmf.energies(W, stats)
    order = torch.argsort(energies, descending=True, stable=True)
    W = W[:, order].float().contiguous()
    heldout = measure(position_blocks(workspace, transform, "heldout"), W.to(workspace.device))
    thresholds = presence_thresholds(nmf.encode(V, W).numpy())
    return Bank(
        layer=workspace.config.layer,
        seed=workspace.config.seed,
        transform=transform,
        W=W.numpy(),
        context=nmf.context_vectors(stats)[:, order].float().contiguous().numpy(),
        thresholds=thresholds.values,
        threshold_reasons=thresholds.reasons,
        energies=energies[order].double().numpy(),
        stability=choice.stability(W),
        error=math.sqrt(max(0.0, 1 - float(energies.sum()))),
        heldout_error=float(nmf.relative_error(W, heldout)) if heldout.n else math.nan,
        svd_error=nmf.svd_error(V, W.shape[1]),
        k_is_stable=not choice.flagged,
        prefix=_mean_prefix(workspace),
    )


def _mean_prefix(workspace: Workspace) -> NDArray[np.float32] | None:
    """Return the mean of the class and register tokens over the images; None without any."""
    if not workspace.cut.n_prefix:
        return None
    total, n = 0.0, 0
    for arrays in workspace.activations.iterate(["prefix"]):
        total = total + arrays["prefix"].astype(np.float64).sum(0)
        n += len(arrays["prefix"])
    return np.asarray(total / n, dtype=np.float32)


def _factors(weights: dict[int, float], owner: NDArray[np.int64]) -> torch.Tensor:
    return torch.tensor([weights[image_id] for image_id in owner.tolist()])[:, None]


def _plain(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Bring rows to what JSON holds: NaN becomes null."""
    return [
        {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]
