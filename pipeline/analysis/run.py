"""A finished run as analysts meet it: tables by SQL, heatmaps, masks, new images explained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from ..errors import UserError
from ..escape import visible
from ..images import ImageLike, load_image
from ..models import canonical, consent, give
from ..runs.workspace import Workspace
from .arguments import OneConcept, count_of
from .encode import RunBank
from .explain import explain_by
from .explanation import Explanation
from .gallery import Gallery
from .image_data import ImageData
from .meaning import Meaning
from .query import RunTables
from .run_images import RunImages
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


class Run(RunImages):
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
