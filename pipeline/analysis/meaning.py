"""What a run's concepts mean to its network, measured when asked for: each figure is one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..classify import (
    Answers,
    Blurred,
    Curves,
    Quantiles,
    blur_concept,
    curves,
    fidelity,
    interval,
    rank_agreement,
    sobol_total,
    split,
)
from ..errors import UserError
from ..images import Affine, network_input, sides, upsample
from ..models.link import top
from ..runs.bank import fit_run
from ..runs.workspace import Workspace
from ..store import Bank
from .arguments import (
    Concepts,
    class_id_of,
    concept_id_of,
    concept_ids_of,
    count_of,
    counts_of,
    image_ids_of,
)
from .arguments import Images as ImageIds
from .frames import as_asked, curve_rows, split_rows
from .image_data import ImageData
from .samples import Images, RunSamples, Seen, check_banks, concepts_alone, true_classes

BATCH = 32
"""Images that go through the whole network at once."""


@dataclass(frozen=True)
class Importance:
    """How much the network's answers hang on each concept.

    Attributes
    ----------
    concepts : DataFrame
        A row per concept, the most important first: concept_id, contribution (mean over images, to
        the class the network gives each, logits), sobol_total (mean over images).
    rank_agreement : float
        Spearman's correlation of the sizes of the two.
    n : int
        Images.
    """

    concepts: pd.DataFrame
    rank_agreement: float
    n: int


class Meaning:
    """What the concepts of a run mean to its network; see `Run.meaning`."""

    def __init__(self, workspace: Workspace, images: ImageData | None = None) -> None:
        self._workspace, self._images = workspace, images or ImageData(workspace)
        self._samples = RunSamples(workspace)

    @cached_property
    def usual(self) -> Quantiles:
        """How much of the run's images the concepts usually leave unexplained."""
        found = self._workspace.classification
        return Quantiles(found.usual_classes, found.usual_residual, found.usual_peak, found.usual_n)

    def split(self, image_ids: ImageIds, class_id: int | None = None) -> pd.DataFrame:
        """Split the logits of images by concept.

        Parameters
        ----------
        image_ids : int, str, Path or several
            Images of the run.
        class_id : int, optional
            The class to split the logit of; the class the network gives each image by default.

        Returns
        -------
        DataFrame
            A row per image, in the order asked: image_id, class_id, label (name of the class),
            logit, bias (the answer to nothing), concept_0 … concept_<k−1>, residual (what is left),
            exact (whether the parts follow from the head's formula; ablated
            otherwise). Bias, concepts and residual sum to the logit.

        Raises
        ------
        UserError
            The run has not all of the images, or the network no such class.
        """
        workspace, parts = self._workspace, []
        wanted = image_ids_of(workspace, image_ids)
        if class_id is not None:
            class_id = class_id_of(len(workspace.class_names), class_id)
        for images in self._samples.read(wanted):
            H = workspace.bank.strengths(images.V)
            if class_id is None:
                classes = self._answers(images).head(images.V).argmax(1)
            else:
                classes = torch.full((len(H),), class_id)
            found = split(workspace.cut, workspace.bank, images.V, H, classes, images.prefix)
            parts.append(split_rows(images.image_id, found, workspace.class_names))
        return as_asked(parts, wanted)

    def fidelity(
        self,
        ks: int | Iterable[int] | None = None,
        *,
        n_images: int = 1_000,
        banks: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> pd.DataFrame:
        """Measure what the network does on the concepts alone, by number of concepts and class.

        Parameters
        ----------
        ks : int or several, optional
            Numbers of concepts; each but the run's own is fitted anew, as the run's was.
        n_images : int
            Held-out images measured at most.
        banks : mapping, optional
            Names to other W (channels after the transform, k), measured beside them at their k.

        Returns
        -------
        DataFrame
            Rows of the table ``fidelity``.

        Raises
        ------
        UserError
            A number is none, or a bank has a name of ours, other channels or a k not measured.
        """
        workspace, samples = self._workspace, self._samples
        image_ids, frames = samples.image_ids(count_of("n_images", n_images), samples.split), []
        wanted = [workspace.bank.k] if ks is None else counts_of("ks", ks)
        others = banks or {}
        check_banks(others, workspace.bank, wanted)
        for k in wanted:
            bank = workspace.bank if k == workspace.bank.k else self.fitted(k)
            stand_ins = samples.stand_ins(bank)
            for name, W in others.items():
                if W.shape[1] == k:
                    stand_ins[name] = concepts_alone(replace(bank, W=W))
            seen = samples.see(image_ids, bank, stand_ins)
            classes = true_classes(workspace, seen.image_id)
            rows = fidelity(seen.truth, seen.answers, classes, link=workspace.cut.link)
            frames.append(pd.DataFrame(rows).assign(split=samples.split, k=k))
        return pd.concat(frames, ignore_index=True)

    def fitted(self, k: int) -> Bank:
        """Return a bank of another number of concepts, fitted as the run's own was."""
        return fit_run(self._workspace, (count_of("k", k),)).bank

    def curves(self, n_images: int = 256) -> pd.DataFrame:
        """Put concepts in and take them out by contribution, beside random orders.

        Returns
        -------
        DataFrame
            A row per image and level: image_id, level (share of the concepts in place), deletion,
            insertion, random (probabilities of the image's class).
        """
        seen = self._seen(n_images)
        found = self._curves(seen)
        return curve_rows(seen.image_id, found)

    def areas(self, n_images: int = 256) -> pd.DataFrame:
        """Return what the curves gain over random orders: gain, ci_low, ci_high, n by curve."""
        found = self._curves(self._seen(n_images))
        rows = []
        for name in ("deletion", "insertion"):
            gain, low, high = interval(found.gain(name), self._workspace.config.seed)
            rows.append(
                {
                    "curve": name,
                    "gain": float(gain),
                    "ci_low": float(low),
                    "ci_high": float(high),
                    "n": len(found.random),
                }
            )
        return pd.DataFrame(rows)

    def importance(self, class_id: int | None = None, n_images: int = 64) -> Importance:
        """Weigh concepts by contribution and by Sobol's total index.

        Parameters
        ----------
        class_id : int, optional
            Only images the network gives this class; all by default.
        n_images : int
            Images measured at most, before the choice by class.

        Raises
        ------
        UserError
            There is no such class, or none of the images is given it.
        """
        if class_id is not None:
            class_id = class_id_of(len(self._workspace.class_names), class_id)
        seen = self._seen(n_images)
        rows = torch.arange(len(seen.H)) if class_id is None else (seen.top == class_id).nonzero()
        rows = rows.flatten()
        if not len(rows):
            raise UserError(f"none of the {len(seen.H)} images measured is given class {class_id}")
        answers = self._answers(seen).of(rows)
        total = sobol_total(
            answers, seen.H[rows], seen.top[rows], seed=self._workspace.config.seed
        ).mean(0)
        contribution = seen.contributions[rows].double().mean(0).numpy()
        frame = pd.DataFrame(
            {
                "concept_id": np.arange(len(total)),
                "contribution": contribution,
                "sobol_total": total,
            }
        )
        ordered = frame.sort_values("contribution", ascending=False, ignore_index=True)
        return Importance(ordered, rank_agreement(np.abs(contribution), total), len(rows))

    def blur(self, concept_id: int, n_images: int = 32) -> Blurred:
        """Blur a concept's pixels in the input, run the whole network, see which classes fall.

        Parameters
        ----------
        concept_id : int
            The concept.
        n_images : int
            Images that hold it, the first in working order, measured at most.

        Raises
        ------
        UserError
            No such concept, no image that holds it, or its regions fit nowhere else.
        """
        workspace = self._workspace
        concept_id = concept_id_of(workspace.bank.k, concept_id)
        found = list(self._holders(concept_id, count_of("n_images", n_images)))
        if not found:
            raise UserError(f"no image of {workspace.folder} holds concept {concept_id}")
        images = torch.stack([pixels for pixels, _ in found])
        masks = np.stack([mask for _, mask in found])
        try:
            seed, link = workspace.config.seed, workspace.cut.link
            blurred = blur_concept(self._network, images, masks, seed, link)
        except UserError as error:
            raise UserError(f"concept {concept_id} cannot be blurred: {error}") from error
        names = workspace.class_names
        labels = [names[class_id] for class_id in blurred.classes["class_id"]]
        return replace(blurred, classes=blurred.classes.assign(label=labels))

    def ablate(self, concept_ids: Concepts, image_ids: ImageIds) -> pd.DataFrame:
        """Take concepts out of images' activations, leave all else, and ask the network again.

        Parameters
        ----------
        concept_ids : int or several
        image_ids : int, str, Path or several
            Images of the run.

        Returns
        -------
        DataFrame
            A row per image, in the order asked: image_id, class_before, prob_before, class_after,
            prob_after, each probability that of the class beside it.

        Raises
        ------
        UserError
            The run has not all of the images or concepts.
        """
        workspace, parts = self._workspace, []
        concepts = concept_ids_of(workspace.bank.k, concept_ids)
        wanted = image_ids_of(workspace, image_ids)
        for images in self._samples.read(wanted):
            answers = self._answers(images)
            H = workspace.bank.strengths(images.V)
            less = answers.remove(images.V, H, concepts)
            before, after = (top(answers.head(maps), answers.link) for maps in (images.V, less))
            parts.append(
                pd.DataFrame(
                    {
                        "image_id": images.image_id,
                        "class_before": before[0][:, 0].numpy(),
                        "prob_before": before[1][:, 0].numpy(),
                        "class_after": after[0][:, 0].numpy(),
                        "prob_after": after[1][:, 0].numpy(),
                    }
                )
            )
        return as_asked(parts, wanted)

    def _curves(self, seen: Seen) -> Curves:
        seed = self._workspace.config.seed
        return curves(self._answers(seen), seen.H, seen.top, seen.contributions, seed)

    def _seen(self, n_images: int) -> Seen:
        n = count_of("n_images", n_images)
        return self._samples.see(self._samples.image_ids(n, self._samples.split))

    def _answers(self, seen: Seen | Images) -> Answers:
        return Answers(self._workspace.cut, self._workspace.bank, seen.prefix)

    def _network(self, images: torch.Tensor) -> torch.Tensor:
        cut = self._workspace.cut
        cut.check_has_classes()
        return torch.cat([cut.forward(batch).logits for batch in images.split(BATCH)])

    def _holders(
        self, concept_id: int, n_images: int
    ) -> Iterator[tuple[torch.Tensor, NDArray[np.bool_]]]:
        """Give network inputs that hold a concept, uint8 (3, h, w), and where, bool (h, w)."""
        workspace = self._workspace
        size, threshold = workspace.grid.image_size, workspace.bank.thresholds[concept_id]
        (tall, wide), n_found = sides(size), 0
        for arrays in workspace.heatmaps.iterate(["H", "image_id"], workspace.distinct_ids):
            H = arrays["H"][..., concept_id].astype(np.float32)
            for row in np.flatnonzero(H.max(axis=(1, 2)) >= threshold):
                pixels = self._images.pixels(int(arrays["image_id"][row]))
                shown, _ = network_input(
                    pixels, size, workspace.config.resize, workspace.cut.network.scaling
                )
                whole = Affine(1.0, 1.0, 0.0, 0.0)  # the input itself, not the original
                raised = upsample(H[row][None], workspace.grid, whole, (wide, tall))[0]
                yield shown, raised >= threshold
                n_found += 1
                if n_found == n_images:
                    return
