"""A finished run as analysts meet it: tables by SQL, heatmaps, masks, new images explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

from ..errors import UserError
from ..escape import visible
from ..images import ImageLike, load_image
from ..models import canonical, consent, give
from ..runs.workspace import Workspace
from .arguments import Concepts, OneConcept, OneImage, count_of, is_known
from .display import ImageTable, Shown
from .encode import RunBank
from .explain import explain_by
from .explanation import Explanation
from .gallery import Gallery
from .image_data import ImageData
from .meaning import Meaning
from .query import RunTables
from .run_maps import RunMaps
from .suspects import suspects_of


@dataclass(frozen=True)
class Makers:
    """What makes files of a run anew, and is no part of reading it.

    Attributes
    ----------
    at : callable
        Gives the run with another number of concepts.
    name : callable
        Names a concept.
    """

    at: Callable[[Run, int], Run]
    name: Callable[[Run, int, str], None]


class Run(RunMaps):
    """A finished run, opened for reading; see `open_run`.

    Attributes
    ----------
    folder : Path
        The run's folder.
    bank : RunBank
        Its concepts, for new images.
    """

    def __init__(self, workspace: Workspace, makers: Makers | None = None) -> None:
        self.workspace = workspace
        self._makers = makers
        self.folder = workspace.folder
        self.bank = RunBank(workspace)
        self._open()

    def _open(self) -> None:
        self._tables = RunTables(self.workspace)
        self._maps = ImageData(self.workspace)
        self._gallery = Gallery(self.workspace, self._tables, self._maps)

    def __repr__(self) -> str:
        """Say what was run on what."""
        record = self.workspace.record
        config = self.workspace.config
        return visible(
            f"Run({str(self.folder)!r}: {config.model} {config.layer},"
            f" {record.dataset.n_images} images)"
        )

    @property
    def siblings(self) -> dict[str, Run]:
        """Runs at other layers of the same network and images that lie beside this one, by layer.

        They were begun with it, by ``layers`` of `discover`; `compare` matches their concepts.
        """
        found = {layer: Workspace.open(each) for layer, each in self.workspace.siblings.items()}
        return {
            layer: Run(each, self._makers) for layer, each in found.items() if each.is_finished()
        }

    def at(self, n: int) -> Run:
        """Return the run with another number of concepts: a cut through its tree.

        A run of its own beside this one, ``<name>-at-<n>``, made when it is first asked for: from
        the stored activations, without a fit or a forward pass. The table ``concept_tree`` says
        which concepts are part of which; ``node`` in its table ``concepts`` which of these each is.

        Parameters
        ----------
        n : int
            From 1 to the number of concepts of this run.

        Raises
        ------
        UserError
            The tree has no such number, or the run's activations are not there (``KEEP``).
        """
        if count_of("n", n) == self.workspace.bank.k:
            return self
        return self._ask().at(self, n)

    @property
    def names(self) -> dict[int, str]:
        """The name of each concept that has one, by its number: given by hand or worked out."""
        named = self.sql("select concept_id, name from concepts where name is not null")
        return dict(zip(map(int, named["concept_id"]), map(str, named["name"]), strict=True))

    def name(self, concept_id: OneConcept, name: str) -> None:
        """Name a concept: in the run's tables and atlas, and for later fits of the same concepts.

        The name is kept in ``names.csv`` in the run's folder, with what tells the concept apart:
        ``make pin RUN=<other run> NAMES=<this run>`` finds it again in another run.

        Parameters
        ----------
        concept_id : int
        name : str
            A line; empty: the concept is called again what is worked out.

        Raises
        ------
        UserError
            There is no such concept, or the name is no line of 1 to 80 characters.
        """
        self._ask().name(self, self._tables.check_concept(concept_id), name)
        self.workspace = Workspace.open(self.folder)
        self._open()

    def _ask(self) -> Makers:
        if self._makers is None:
            raise UserError("what makes files anew is there where a run was opened by open_run")
        return self._makers

    def table(self, name: str) -> pd.DataFrame:
        """Read a whole table.

        Raises
        ------
        UserError
            There is no table of that name.
        """
        return self._tables.table(name)

    def sql(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Run a DuckDB query over the run's tables, which are its views.

        Parameters
        ----------
        query : str
        parameters : sequence or mapping, optional
            Values that stand for ``?``, or for ``$name``, in the query.

        Raises
        ------
        UserError
            The query is not possible; the text is DuckDB's.

        Examples
        --------
        >>> run.sql("from images where label = ?", ["tench"])  # doctest: +SKIP
        """
        return self._tables.sql(query, parameters)

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

    def suspects(self) -> pd.DataFrame:
        """List the concepts that move the network's answers away from the labels, the worst first.

        Returns
        -------
        DataFrame
            The table ``suspects``; where it is empty, ``attrs["reason"]`` says why.
        """
        found = self.table("suspects")
        found.attrs["reason"] = suspects_of(self.workspace).reason
        return found

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

    def explain(self, image: ImageLike) -> Explanation:
        """Explain any image by the run's fixed concepts.

        Raises
        ------
        UserError
            The image cannot be read.
        """
        workspace = self.workspace
        return explain_by(
            workspace.cut,
            workspace.bank,
            self._tables.labels,
            workspace.class_names,
            load_image(image, workspace.pixel_rule),
            workspace.config.resize,
            self.meaning.usual,
        )

    @cached_property
    def meaning(self) -> Meaning:
        """What the concepts mean to the network, measured when asked for."""
        return Meaning(self.workspace, self._maps)


def open_run(folder: str | Path, *, network: nn.Module | str | None = None) -> Run:
    """Open a finished run for reading; what users call gives it other numbers besides.

    Parameters and what is raised are those of `pipeline.open_run`.
    """
    workspace = Workspace.open(Path(folder))
    if network is not None:
        model = canonical(network) if isinstance(network, str) else give({}, network)["model"]
        consent.allow(model)
        if model != workspace.config.model:
            raise UserError(f"{folder} was made with {workspace.config.model}, this is {model}")
    return Run(workspace)
