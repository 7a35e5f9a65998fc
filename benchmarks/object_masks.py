"""Objects against true masks, beside peers and controls: horses, photographs of everything.

Peers work on the same activations, and an oracle that knows the truth chooses for them which
concept is the object; nothing of ours knows it. Constants were fixed on the images whose names'
hashes are below half; what is reported is of the others. Controls go without the prior of the
centre, and so does what the gap to them is measured from; all else of ours has it.
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

WITHOUT_PRIOR = "ours, without the prior of the centre"


@dataclass(frozen=True)
class Reported:
    """The reported half of a dataset's images, and what is found in them.

    Attributes
    ----------
    workspace : Workspace
    maps : ImageData
    truths : dict of int to Mask
        By image.
    evidence : dict of int to Maps
        Of each image, without the prior of the centre.
    """

    workspace: Workspace
    maps: ImageData
    truths: dict[int, Mask]
    evidence: dict[int, Maps]

    @staticmethod
    def of(workspace: Workspace, masks: Path) -> Reported:
        """Find what is found in the images of a run, whose true masks lie in a folder."""
        maps, truths = ImageData(workspace), {}
        for image_id, path in workspace.listing.frame[["image_id", "path"]].to_numpy().tolist():
            if _is_reported(stem := Path(path).stem):
                truths[image_id] = true_mask(maps, image_id, masks / f"{stem}.png")
        return Reported(workspace, maps, truths, {i: _bare(maps, i) for i in truths})

    def mean_j(self, mask_of: Callable[[int], Mask]) -> float:
        """Return the mean IoU of masks and the truth."""
        return float(np.mean([iou(mask_of(i), truth) for i, truth in self.truths.items()]))

    def refined(self, evidence: Maps, image_id: int) -> Mask:
        """Return the mask that evidence becomes along the image's edges."""
        return refine(self.maps.pixels(image_id), evidence)

    def ours(self) -> dict[str, float]:
        """Return J of what we find, step by step."""
        coarse = _with_fine(self.workspace, self.maps, None)
        return {
            "everything is object": self.mean_j(lambda i: np.ones_like(self.truths[i])),
            "ours, concepts only": self.mean_j(lambda i: coarse.object_mask(i, refined=False)),
            "ours, without the image's edges": self.mean_j(
                lambda i: self.maps.object_mask(i, refined=False)
            ),
            WITHOUT_PRIOR: self.mean_j(lambda i: self.refined(self.evidence[i], i)),
            "ours": self.mean_j(self.maps.object_mask),
        }

    def controls(self) -> dict[str, float]:
        """Return J of what knows nothing of an image's concepts, by the same steps."""
        ids = list(self.truths)
        other = dict(zip(ids, ids[1:] + ids[:1], strict=True))
        place = {i: centred(each.shape) for i, each in self.evidence.items()}

        def of_another(image_id: int) -> Maps:
            theirs = Image.fromarray(self.evidence[other[image_id]])
            return np.asarray(theirs.resize(self.evidence[image_id].shape[::-1]))

        return {
            "control: centred Gaussian": self.mean_j(
                lambda i: _at_size(place[i], self.truths[i]) >= 0
            ),
            "control: refined Gaussian": self.mean_j(lambda i: self.refined(place[i], i)),
            "control: refined, another image's concepts": self.mean_j(
                lambda i: self.refined(of_another(i), i)
            ),
        }

    def other_starts(self) -> dict[str, float]:
        """Return J where object is learned from something else than the concepts' shares."""
        shares = self.maps.objects.coarse.shares
        mixed = shares[:, np.random.default_rng(0).permutation(shares.shape[1])]
        shuffled = _strengths(self.workspace, self.maps, mixed)
        bump = np.broadcast_to(centred(shuffled.shape[1:]), shuffled.shape).copy()

        def score(start: Maps) -> float:
            wrong = _relearned(self.workspace, start)
            return self.mean_j(lambda i: self.refined(_bare(wrong, i), i))

        return {
            "(learned from shuffled shares, refined)": score(shuffled),
            "(learned from a Gaussian, refined)": score(bump),
        }

    def max_f(self) -> float:
        """Return the largest F of the probability of object."""
        curves = [
            precision_and_recall(self.maps.object_strength(i), truth)
            for i, truth in self.truths.items()
        ]
        return max_f([each for each in curves if each])


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
        Of the dataset: J is ``concepts.<name>.j``.
    gap : str
        The target that the gap to the controls is.
    """
    half = Reported.of(workspace, source / "masks")
    ours = half.ours() | half.controls() | half.other_starts()
    peers = _peers(workspace, list(half.truths), list(half.truths.values()))
    rows = [[way, value, None] for way, value in ours.items()]
    rows += [[way, value, "oracle"] for way, value in peers.items()]
    title = f"{name}, {len(half.truths)} held-out images, max F {half.max_f():.4f}; J"
    show(title, ["way", "J", "choice of concept"], rows)
    controls = [value for way, value in ours.items() if way.startswith("control: refined")]
    report.measured(f"concepts.{name}.j", ours["ours"])
    report.measured(gap, ours[WITHOUT_PRIOR] - max(controls))
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


def _at_size(values: Maps, truth: Mask) -> Maps:
    return np.asarray(Image.fromarray(values).resize(truth.shape[::-1]))


def _bare(maps: ImageData, image_id: int) -> Maps:
    """Evidence without the prior of the centre."""
    shape = working_shape(*size_of(maps, image_id))
    found: Maps = maps.object_evidence(image_id, shape) - CENTRED * centred(shape)
    return found


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
