"""Which images of a run hold what, and which are alike, as tables that show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from ..images import ImageLike
from .arguments import Concepts, OneConcept, OneImage, count_of, is_known
from .coco import coco
from .display import ImageTable, Shown
from .encode import RunBank
from .gallery import Gallery
from .run_maps import RunMaps


class RunImages(RunMaps):
    """The images of a run by their concepts; see `pipeline.analysis.run.Run`."""

    bank: RunBank
    _gallery: Gallery

    def images_with(
        self, concept_id: Concepts, *, min_area: float = 0.0, limit: int | None = None
    ) -> ImageTable:
        """List the images that hold a concept, or all of several, the strongest first.

        Parameters
        ----------
        concept_id : int or sequence of int
            As in the tables.
        min_area : float
            Least share (0..1) of an image's positions where it is present.
        limit : int, optional
            At most so many.

        Returns
        -------
        DataFrame
            image_id, path, label, pred_label, pred_prob, max, mean, area, peak_x, peak_y,
            contribution, label_name, correct; Jupyter shows the first images above the rows. Of
            several concepts max, mean and area are the least, contribution is the sum, and there
            are no peaks.

        Raises
        ------
        UserError
            No such concept, or none, or `min_area` is no share.
        """
        return self._gallery.images_with(concept_id, min_area, limit)

    def similar(self, image: OneImage | ImageLike, n: int = 12) -> ImageTable:
        """List the images of the run in which the network uses concepts most like in another.

        Parameters
        ----------
        image : int, str, Path, PIL.Image.Image or ndarray
            An image of the run, by its image_id or path, or any other.
        n : int
            How many.

        Returns
        -------
        DataFrame
            image_id, path, label, pred_label, pred_prob, similarity, label_name, correct, the most
            similar first; Jupyter shows the first images above the rows. Similarity is the cosine,
            0 to 1, of mean strengths, each by the length of its concept's direction. The image
            itself, and copies, are left out.

        Raises
        ------
        UserError
            No such image, it cannot be read, or `n` is no count.
        """
        image_id = self._known(image)
        if image_id is None:
            used = self.bank.encode([cast(ImageLike, image)]).H[0].mean((1, 2))
        else:
            used = self._tables.used(image_id)
        return self._gallery.similar(used, count_of("n", n), image_id)

    def _known(self, image: OneImage | ImageLike) -> int | None:
        """Return the id of an image of the run; None for any other."""
        if isinstance(image, str | Path) and not is_known(self.workspace, image):
            return None
        return None if isinstance(image, np.ndarray | Image.Image) else self._id(image)

    def to_coco(self) -> dict[str, Any]:
        """Return regions and objects as annotations in the format of COCO; see `coco`."""
        names = ("images", "concepts", "regions", "objects")
        return coco({name: self._tables.table(name) for name in names})

    def concept(self, concept_id: OneConcept) -> Shown:
        """Show a concept: its strongest images, what the head calls it, what the labels say.

        Returns
        -------
        Shown
            Picture and table of its strongest images; ``more`` holds classes and labels.

        Raises
        ------
        UserError
            No such concept.
        """
        return self._gallery.concept(concept_id)

    def show(self, image_id: OneImage) -> Shown:
        """Show an image: beside it its concepts in colour with their legend, and their numbers.

        Returns
        -------
        Shown
            The table has a row per concept that is present, by falling contribution: concept_id,
            label, max and mean (gauge units), area (share), contribution (logits).

        Raises
        ------
        UserError
            No such image.
        """
        return self._gallery.image(self._id(image_id))
