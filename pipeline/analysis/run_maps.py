"""What a finished run has of each image: heatmaps, the concept of each pixel, masks, pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..runs.workspace import Workspace
from .arguments import Images, OneConcept, OneImage, image_id_of, image_ids_of
from .image_data import ImageData
from .query import RunTables


class RunMaps:
    """The images of a run, each at its own size; see `pipeline.analysis.run.Run`."""

    workspace: Workspace
    _tables: RunTables
    _maps: ImageData

    def heatmap(
        self, image_id: OneImage, concept_id: OneConcept | None = None, *, per_image: bool = False
    ) -> NDArray[np.float32]:
        """Return an image's heatmaps at its original size.

        Parameters
        ----------
        image_id : int, str or Path
            As in the tables, or the image's path within the dataset.
        concept_id : int, optional
            One concept only.
        per_image : bool
            Scale each map by its own maximum in this image, from 0 to 1: shows where a weak concept
            is strongest, but neither compares between images nor says whether it is there at all.

        Returns
        -------
        ndarray
            float32 (k, height, width), or (height, width) for one concept; gauge units, the same
            for all images; NaN where the network did not see the image.

        Raises
        ------
        UserError
            No such image or concept in the run.
        """
        maps = self.grid_heatmap(image_id)
        if per_image:
            most = maps.max(axis=(1, 2), keepdims=True)
            maps = maps / np.where(most > 0, most, np.ones_like(most))
        if concept_id is None:
            return self.upsample(maps, image_id)
        chosen = [self._tables.check_concept(concept_id)]
        one: NDArray[np.float32] = self.upsample(maps[chosen], image_id)[0]
        return one

    def fetch(self, image_ids: Images) -> None:
        """Read the arrays of a few images together: what is asked of them next takes less time."""
        self._maps.fetch(image_ids_of(self.workspace, image_ids))

    def grid_heatmap(self, image_id: OneImage) -> NDArray[np.float32]:
        """Return an image's heatmaps on the layer's grid, float32 (k, h, w), gauge units."""
        return self._maps.grid_heatmap(self._id(image_id))

    def upsample(
        self, maps: NDArray[np.float32], image_id: OneImage, shape: tuple[int, int] | None = None
    ) -> NDArray[np.float32]:
        """Raise maps (n, h, w) on the layer's grid over an image, at its size or at `shape`."""
        return self._maps.upsample(maps, self._id(image_id), shape)

    def residual(self, image_id: OneImage) -> NDArray[np.float32]:
        """Return how little of an image the concepts explain, at its original size.

        Returns
        -------
        ndarray
            float32 (height, width), ‖v − D(W h)‖ / ‖v‖: 0 all, 1 nothing; NaN where not seen.
        """
        return self._maps.residual(self._id(image_id))

    def concept_map(
        self,
        image_id: OneImage,
        *,
        shape: tuple[int, int] | None = None,
        most_residual: float = 1.0,
    ) -> NDArray[np.int16]:
        """Return which concept each pixel belongs to, if each is to belong to one.

        Learned from the stored layers; without them the network runs on the image's file again.

        Parameters
        ----------
        image_id : int, str or Path
            As in the tables, or the image's path within the dataset.
        shape : (height, width), optional
            Of the outcome, which covers the whole image; the original size by default.
        most_residual : float
            Where more than this is left unexplained (0..1), no concept is named.

        Returns
        -------
        ndarray
            int16 (height, width), concept_id; -1 where no concept explains what is there, or the
            network did not see the image.

        Raises
        ------
        UserError
            No such image in the run, or neither its activations nor its file can be read.
        """
        return self._maps.concept_map(self._id(image_id), shape, most_residual)

    def object_mask(self, image_id: OneImage, *, refined: bool | str = True) -> NDArray[np.bool_]:
        """Return where the object is that an image shares with the others of its label.

        Without labels, with those the network takes for the same class, and with those that hold
        the same concepts.

        Parameters
        ----------
        image_id : int, str or Path
            As in the tables, or the image's path within the dataset.
        refined : bool or str
            Follow the image's own edges, which needs its file and takes about 0.1 s; otherwise the
            map is only raised from its grid. A text names the mask refiner, a plug-in; True is
            ours, ``edges``. The boxes of the table ``objects`` are of the concepts alone, coarser.

        Returns
        -------
        ndarray
            bool (height, width), original size.

        Raises
        ------
        UserError
            No such image in the run, or its file cannot be read.
        """
        return self._maps.object_mask(self._id(image_id), refined=refined)

    def object_strength(
        self, image_id: OneImage, *, refined: bool | str = True
    ) -> NDArray[np.float32]:
        """Return how probably the object is where, float32 (height, width), 0 to 1.

        `object_mask` is where it is above a half; parameters are those of it.
        """
        return self._maps.object_strength(self._id(image_id), refined=refined)

    def object_evidence(self, image_id: OneImage, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Return how much speaks for object, float32 of `shape` (height, width).

        Object is above 0; in standard deviations of foreground strength, with a quarter of a
        centred Gaussian; NaN where the network did not see the image.
        """
        return self._maps.object_evidence(self._id(image_id), shape)

    def logits(self, image_id: OneImage) -> tuple[float, float]:
        """Return the predicted class's logit for D(0), and its logit for the image."""
        return self._maps.logits(self._id(image_id))

    def image(self, image_id: OneImage) -> NDArray[np.uint8]:
        """Return an image's original pixels, uint8 (height, width, 3), RGB, upright."""
        return self._maps.pixels(self._id(image_id))

    @property
    def image_data(self) -> ImageData:
        """What is kept of each image, for those who know the store."""
        return self._maps

    def _id(self, image: OneImage) -> int:
        return image_id_of(self.workspace, image)
