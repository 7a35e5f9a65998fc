"""Objects against true masks, beside peers and controls: horses, photographs of everything.

Peers work on the same activations, and an oracle that knows the truth chooses for them which
concept is the object; nothing of ours knows it. Constants were fixed on the images whose names'
hashes are even; what is reported is of the others. Controls go without the prior of the centre, and
so does what the gap to them is measured from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import Report, show
from benchmarks.masks import Maps, Mask, raise_squashed, read_maps, size_of, true_mask
from benchmarks.partitions import kmeans, per_image, singular
from pipeline.analysis.image_data import ImageData
from pipeline.analysis.objects import fit_fine_part, groups_of, labels_of, sampled_ids
from pipeline.localize import CENTRED, FineModel, centred, refine, working_shape
from pipeline.localize.foreground import otsu
from pipeline.localize.saliency import max_f, precision_and_recall
from pipeline.localize.scores import iou
from pipeline.runs.workspace import Workspace


def score_objects(
    report: Report, workspace: Workspace, source: Path, name: str, gap: str
) -> dict[str, float]:
    """Score object masks beside the peers and the controls of the refinement.

    Parameters
    ----------
    report : Report
    workspace : Workspace
        A run on ``images`` of `source`, whose ``masks`` are true.
    source : Path
    name : str
        Of the dataset: ``concepts.<name>.j`` and ``.maxf`` are reported where they are targets.
    gap : str
        The target that the gap to the controls is.
    """
    frame = workspace.listing.frame
    stems = {
        int(image_id): Path(path).stem
        for image_id, path in frame[["image_id", "path"]].itertuples(index=False)
    }
    image_ids = [image_id for image_id, stem in stems.items() if _is_reported(stem)]
    maps = ImageData(workspace)
    truths = [true_mask(maps, i, source / "masks" / f"{stems[i]}.png") for i in image_ids]

    def mean_j(mask_of: Callable[[int], Mask]) -> float:
        return float(np.mean([iou(mask_of(i), t) for i, t in zip(image_ids, truths, strict=True)]))

    def evidence_of(maps: ImageData, image_id: int) -> Maps:
        return maps.object_evidence(image_id, working_shape(*size_of(maps, image_id)))

    evidence = {i: evidence_of(maps, i) for i in image_ids}
    places = {i: centred(each.shape) for i, each in evidence.items()}
    bare = {i: each - CENTRED * places[i] for i, each in evidence.items()}
    other = dict(zip(image_ids, image_ids[1:] + image_ids[:1], strict=True))

    def refined(values: Maps, image_id: int) -> Mask:
        return refine(maps.pixels(image_id), values)

    def of_another(image_id: int) -> Maps:
        theirs = Image.fromarray(bare[other[image_id]])
        return np.asarray(theirs.resize(bare[image_id].shape[::-1]))

    def learned_from(start: Maps) -> Callable[[int], Mask]:
        wrong = _relearned(workspace, start)
        return lambda i: refined(evidence_of(wrong, i) - CENTRED * places[i], i)

    shares = maps.objects.coarse.shares
    mixed = shares[:, np.random.default_rng(0).permutation(shares.shape[1])]
    strength = _strengths(workspace, maps, None)
    bump = np.broadcast_to(centred(strength.shape[1:]), strength.shape).copy()
    coarse = _with_fine(workspace, maps, None)
    ours = {
        "everything is object": mean_j(lambda i: np.ones(size_of(maps, i)[::-1], np.bool_)),
        "ours, concepts only": mean_j(lambda i: coarse.object_mask(i, refined=False)),
        "ours, without the image's edges": mean_j(lambda i: maps.object_mask(i, refined=False)),
        "ours, without the prior of the centre": mean_j(lambda i: refined(bare[i], i)),
        "ours": mean_j(lambda i: refined(evidence[i], i)),
        "control: centred Gaussian": mean_j(lambda i: _at_size(places[i], maps, i) >= 0),
        "control: refined Gaussian": mean_j(lambda i: refined(places[i], i)),
        "control: refined, another image's concepts": mean_j(lambda i: refined(of_another(i), i)),
        "(learned from shuffled shares, refined)": mean_j(
            learned_from(_strengths(workspace, maps, mixed))
        ),
        "(learned from a Gaussian, refined)": mean_j(learned_from(bump)),
    }
    peers = _peers(workspace, image_ids, truths)
    rows = [[name, value, None] for name, value in ours.items()]
    rows += [[name, value, "oracle"] for name, value in peers.items()]
    title = f"{name}, {len(image_ids)} held-out images, J"
    show(title, ["way", "J", "choice of concept"], rows)
    controls = [value for way, value in ours.items() if way.startswith("control: refined")]
    report.measured(f"concepts.{name}.j", ours["ours"])
    report.measured(gap, ours["ours, without the prior of the centre"] - max(controls))
    if name == "salient":
        curves = [
            precision_and_recall(maps.object_strength(i), truth)
            for i, truth in zip(image_ids, truths, strict=True)
        ]
        report.measured("concepts.salient.maxf", max_f([each for each in curves if each]))
    return peers | ours


def _peers(workspace: Workspace, image_ids: list[int], truths: list[Mask]) -> dict[str, float]:
    """Score other ways on the same activations, concepts chosen with the truth in hand.

    The oracle takes the best concept, or the best so many of those that do best alone, together.
    """
    V, H, order = read_maps(workspace)
    k = workspace.bank.k
    ways: dict[str, tuple[Maps, Callable[[Maps], Mask]]] = {
        "pytorch-grad-cam's rule": (per_image(H), _winners),
        f"k-means, k = {k}": (kmeans(V, k), _winners),
    }
    for name, parts in {
        f"truncated SVD, rank {k}, Otsu": singular(V, k),
        "one strength, Otsu": H,
    }.items():
        levels = [otsu(each[each > 0]) for each in np.moveaxis(parts, -1, 0)]
        ways[name] = parts, partial(_reach, np.array(levels, dtype=np.float32))
    found: dict[str, float] = {}
    for name, (parts, masks_of) in ways.items():
        masks = [
            masks_of(raise_squashed(workspace, parts[order[image_id]], truth.shape))
            for image_id, truth in zip(image_ids, truths, strict=True)
        ]
        single = [
            [iou(mask, truth) for mask in each] for each, truth in zip(masks, truths, strict=True)
        ]
        best_first = np.mean(single, axis=0).argsort()[::-1]
        unions = [
            [iou(mask, truth) for mask in np.logical_or.accumulate(each[best_first])]
            for each, truth in zip(masks, truths, strict=True)
        ]
        found[f"{name}, best concept"] = float(np.mean(single, axis=0).max())
        found[f"{name}, best union"] = float(np.mean(unions, axis=0).max())
    return found


def _winners(raised: Maps) -> Mask:
    return np.asarray(raised.argmax(0) == np.arange(len(raised))[:, None, None])


def _reach(levels: Maps, raised: Maps) -> Mask:
    return np.asarray(raised >= levels[:, None, None])


def _is_reported(stem: str) -> bool:
    return hashlib.sha256(stem.encode()).digest()[0] >= 128


def _at_size(values: Maps, maps: ImageData, image_id: int) -> Maps:
    return np.asarray(Image.fromarray(values).resize(size_of(maps, image_id)))


def _with_fine(workspace: Workspace, maps: ImageData, fine: FineModel | None) -> ImageData:
    """The images of a run with another fine part."""
    found = ImageData(workspace)
    found.objects = replace(maps.objects, fine=fine)
    return found


@dataclass(frozen=True)
class _Sample:
    """What object is learned from: strengths H, ids and top classes of images."""

    H: Maps
    image_ids: NDArray[np.int64]
    top: NDArray[np.int64]


def _sample(workspace: Workspace) -> _Sample:
    names = ["H", "image_id", "logits"]
    parts = [*workspace.heatmaps.iterate(names, sampled_ids(workspace))]
    H, ids, logits = (np.concatenate([part[name] for part in parts]) for name in names)
    return _Sample(H.astype(np.float32), ids, logits.argmax(1))


def _strengths(workspace: Workspace, maps: ImageData, shares: Maps | None) -> Maps:
    """Foreground strength of the sample on the concepts' grid, with other shares if given."""
    sample, coarse = _sample(workspace), maps.objects.coarse
    if shares is not None:
        coarse = replace(coarse, shares=shares)
    return coarse.maps(sample.H, groups_of(workspace, sample.image_ids, sample.top))


def _relearned(workspace: Workspace, start: Maps) -> ImageData:
    """Learn the fine part anew from other strengths; the coarse one where it goes with none."""
    sample = _sample(workspace)
    labels = labels_of(workspace, sample.image_ids)
    fine = fit_fine_part(workspace, sample.H, labels, start)
    return _with_fine(workspace, ImageData(workspace), fine)
