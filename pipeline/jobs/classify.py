"""The classify stage: each concept before the head, tested against chance, its effect measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.classify import effects, evidence, fidelity, null_test, score_vectors
from pipeline.classify.fidelity import Head
from pipeline.jobs.workspace import Workspace
from pipeline.localize import Foreground, fit_foreground
from pipeline.progress import say
from pipeline.store import (
    Classification,
    sample_positions,
    write_classification,
)

N_NULL = 2_000
"""Real positions in the null; at least 1,000 keep the smallest p below a thousandth."""

N_IMAGES = 256
"""Images on which fidelity and effects are measured, held-out ones where there are."""

N_FOREGROUND = 1_024
"""Images from which the strength that counts as object is taken."""


def classify(workspace: Workspace) -> dict[str, int | float]:
    """Score, test and ablate every concept; write ``bank/classes.h5``.

    Returns
    -------
    dict
        Counts: concepts, significant, images (measured on).
    """
    bank, cut = workspace.bank, workspace.cut
    prefix = None if bank.prefix is None else torch.from_numpy(bank.prefix)
    positions, _ = sample_positions(
        workspace.activations, workspace.listing.fit_ids, N_NULL, workspace.config.seed + 1
    )

    def score(vectors: torch.Tensor) -> torch.Tensor:
        return score_vectors(cut, bank.transform.decode(vectors), prefix)

    real = bank.transform.forward(positions)
    context, direction = torch.from_numpy(bank.context.T), torch.from_numpy(bank.W.T)
    tested = null_test(score, context, real)
    measured = _measure(workspace)
    foreground = _foreground(workspace)
    found = Classification(
        context=score(context).numpy(),
        direction=score(direction).numpy(),
        nothing=score(torch.zeros(1, real.shape[1])).numpy()[0],
        z_context=tested.z,
        z_direction=null_test(score, direction, real).z,
        p=tested.p,
        significant=tested.significant,
        foreground_weights=foreground.weights,
        foreground_threshold=foreground.threshold,
        **measured,
    )
    write_classification(workspace.classes_path, found)
    n_significant = int(found.significant.sum())
    say(f"classify   {n_significant} of {bank.k} concepts have a class better than chance")
    return {"concepts": bank.k, "significant": n_significant}


def _measure(workspace: Workspace) -> dict[str, Any]:
    """Measure fidelity and effects on a bounded sample of images, held out where there are any."""
    listing, bank = workspace.listing, workspace.bank
    frame = listing.frame
    split = "heldout" if (frame.split == "heldout").any() else "fit"
    chosen = frame[frame.split == split].head(N_IMAGES)
    arrays = _read_images(workspace, frozenset(map(int, chosen.image_id)))
    V = torch.from_numpy(arrays["V"]).float()
    prefix = torch.from_numpy(arrays["prefix"]).float() if "prefix" in arrays else None
    H, _ = bank.encode(V)
    head = _batched_head(workspace, prefix)
    label_of = dict(zip(frame.image_id, frame.label, strict=True))
    classes = np.array(
        [workspace.class_of_label.get(label_of[i], -1) for i in arrays["image_id"].tolist()]
    )
    rows = fidelity(head, V, _stand_ins(workspace, V, H), classes)
    present = H.flatten(1, 2).amax(1).numpy() >= bank.thresholds
    found = effects(head, bank, H, present)
    return {
        "importance": found.importance,
        "deletion_effect": found.deletion,
        "insertion_effect": found.insertion,
        "fidelity": [
            {"split": split, "k": bank.k, "concept_id": None, "level": None} | row for row in rows
        ],
    }


def _foreground(workspace: Workspace) -> Foreground:
    """Decide on the first images of the run, a random sample, what is foreground."""
    parts: list[dict[str, NDArray[Any]]] = []
    for arrays in workspace.heatmaps.iterate(["H", "logits"]):
        parts.append(arrays)
        if sum(len(part["H"]) for part in parts) >= N_FOREGROUND:
            break
    H = np.concatenate([part["H"] for part in parts])[:N_FOREGROUND].astype(np.float32)
    classes = np.concatenate([part["logits"] for part in parts])[:N_FOREGROUND].argmax(1)
    bank = workspace.bank
    unit = evidence(workspace.cut, bank.transform, torch.from_numpy(bank.W))
    return fit_foreground(H, classes, unit.numpy())


def _read_images(workspace: Workspace, image_ids: frozenset[int]) -> dict[str, NDArray[Any]]:
    parts: list[dict[str, NDArray[Any]]] = []
    n_found = 0
    names = ["V", "image_id"] + (["prefix"] if workspace.cut.n_prefix else [])
    for arrays in workspace.activations.iterate(names):
        wanted = np.isin(arrays["image_id"], list(image_ids))
        parts.append({name: array[wanted] for name, array in arrays.items()})
        n_found += int(wanted.sum())
        if n_found == len(image_ids):
            break
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _stand_ins(workspace: Workspace, V: torch.Tensor, H: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what is put in the place of V: the concepts', SVD's of the same rank, the mean."""
    bank = workspace.bank
    sample, _ = sample_positions(
        workspace.activations, workspace.listing.fit_ids, 20_000, workspace.config.seed
    )
    transformed = bank.transform.forward(sample).double()
    _, vectors = torch.linalg.eigh(transformed.T @ transformed)
    basis = vectors[:, -bank.k :].float()
    flat = bank.transform.forward(V.reshape(-1, V.shape[-1]))
    return {
        "nmf": bank.decode(H),
        "svd": bank.transform.decode(flat @ basis @ basis.T).reshape(V.shape),
        "mean": sample.mean(0).expand(V.shape).contiguous(),
    }


def _batched_head(workspace: Workspace, prefix: torch.Tensor | None) -> Head:
    """Run the head in batches; a subset of images brings the prefix tokens' mean instead."""
    cut = workspace.cut

    def head(maps: torch.Tensor) -> torch.Tensor:
        tokens = prefix
        if prefix is not None and len(maps) != len(prefix):
            tokens = prefix.mean(0).expand(len(maps), -1, -1)
        parts = [
            cut.head(
                maps[start : start + 32], None if tokens is None else tokens[start : start + 32]
            )
            for start in range(0, len(maps), 32)
        ]
        return torch.cat(parts)

    return head
