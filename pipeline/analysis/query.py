"""A run's tables, asked by SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import duckdb
import pandas as pd

from ..errors import UserError, command, suggest
from ..runs.workspace import Workspace
from ..tables import TABLES, open_database, view_statements
from .arguments import concept_id_of
from .explain import Labels


class RunTables:
    """The tables of a run as views of a DuckDB database in memory."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def sql(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, **values: Any
    ) -> pd.DataFrame:
        """Run a query; `parameters` stand for ``?`` or ``$name`` in it, `values` for ``$name``."""
        # A cursor of its own for each call: several threads may ask at once.
        with self._database.cursor() as cursor:
            try:
                return cursor.execute(query, parameters or values or None).df()
            except duckdb.Error as error:
                raise UserError(f"the query cannot be answered: {error}") from error

    def table(self, name: str) -> pd.DataFrame:
        """Read a whole table.

        Raises
        ------
        UserError
            There is no table of that name.
        """
        if name not in TABLES:
            near = suggest(name, TABLES)
            raise UserError(f"there is no table {name!r}; {near or 'tables: ' + ', '.join(TABLES)}")
        return self.sql(f'select * from "{name}"')

    def images_with(self, concept_id: int, min_area: float, limit: int | None) -> pd.DataFrame:
        """List the images that hold a concept, strongest first; see `Run.images_with`."""
        concept_id = self.check_concept(concept_id)
        if not isinstance(min_area, int | float) or not 0 <= min_area <= 1:
            raise UserError(f"min_area is a share of the image from 0 to 1, this is {min_area}")
        # Limited before it is joined, so that little of a long table is read.
        return self.sql(
            "with held as (select * from image_concepts"
            " where concept_id = $concept and area > 0 and area >= $area"
            " order by max desc, image_id limit $limit)"
            " select image_id, path, label, pred_label, pred_prob, max, mean, area, peak_x, peak_y,"
            " contribution from held join images using (image_id) order by max desc, image_id",
            concept=int(concept_id), area=min_area, limit=2**62 if limit is None else limit,
        )  # fmt: skip

    def check_concept(self, concept_id: object) -> int:
        """Return the number of a concept; raise `UserError` where there is none."""
        if isinstance(concept_id, str):
            named = self.sql(
                "select concept_id from concepts where lower(top_label) = lower($label)",
                label=concept_id,
            )["concept_id"].tolist()
            called = f"called so are {', '.join(map(str, named))}" if named else "none is called so"
            raise UserError(f"a concept is a number, this is {concept_id!r}; {called}")
        return concept_id_of(self._workspace.bank.k, concept_id)

    @cached_property
    def labels(self) -> Labels:
        """What the head calls each concept, and whether that is better than chance."""
        frame = self.sql(
            "select concept_id, label, prob, top_significant from concept_classes"
            " join concepts using (concept_id)"
            " where source = 'context' and rank <= 2 order by concept_id, rank"
        )
        groups = [group for _, group in frame.groupby("concept_id", sort=True)]
        return Labels(
            [group["label"].tolist() for group in groups],
            [group["prob"].tolist() for group in groups],
            [bool(group["top_significant"].iloc[0]) for group in groups],
        )

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        for name in TABLES:
            path = self._workspace.table_path(name)
            if not path.exists():
                raise UserError(
                    f"{path} is missing; {command('discover', run=self._workspace.folder)} makes it"
                )
        database = open_database()
        database.execute(view_statements(self._workspace.table_path("images").parent))
        return database
