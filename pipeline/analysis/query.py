"""A run's tables, asked by SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Real
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import UserError, command, suggest
from ..runs.stages import MAKER
from ..runs.workspace import Workspace
from ..store import read_record
from ..tables import TABLES, check_columns, open_database, view_statements
from ..tables.views import IMAGES_WITH
from . import kind_words
from .arguments import concept_id_of
from .explain import Labels

_OF_CONCEPTS = (
    "count(*) = count(concept_id) and coalesce(min(concept_id), 0) >= 0"
    " and coalesce(max(concept_id), 0) < $k"
)
_ROWS = {
    "images": "count(*) = count(distinct image_id) and count(*) = count(path)",
    "concepts": f"{_OF_CONCEPTS} and count(*) = $k and count(distinct concept_id) = $k",
    "concept_classes": f"{_OF_CONCEPTS} and count(*) = count(label)"
    " and count(*) = count(distinct (concept_id, source, rank))"
    " and count(*) filter (source = 'context' and rank = 1)"
    " in ($k, (select if(count(top_class) + count(top_label) = 0, 0, $k) from concepts))",
    "concept_labels": _OF_CONCEPTS,
    "suspects": _OF_CONCEPTS,
    "image_concepts": _OF_CONCEPTS,
    "regions": _OF_CONCEPTS,
    "k_metrics": "count(*) = count(k) and coalesce(min(k), 1) > 0",
}
"""What must be true of the rows of tables for k concepts: whoever looks one up finds it, once."""


class RunTables:
    """The tables of a run as views of a DuckDB database in memory."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def sql(
        self, query: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, **values: Any
    ) -> pd.DataFrame:
        """Run a query; `parameters` stand for ``?`` or ``$name`` in it, `values` for ``$name``."""
        try:
            return self._ask(query, _plain(parameters or values) or None)
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
        try:
            return self._ask(f'select * from "{name}"')
        except duckdb.Error as error:  # of a query that can be answered: it is the file
            path = self._workspace.table_path(name)
            again = command("discover", run=self._workspace.folder)
            raise UserError(f"{path} is damaged ({error}); {again} makes it again") from error

    def _ask(self, query: str, parameters: Any = None) -> pd.DataFrame:
        # A cursor of its own for each call: several threads may ask at once.
        with self._database.cursor() as cursor:
            return cursor.execute(query, parameters).df()

    def images_with(
        self, concept_ids: Sequence[int], min_area: float, limit: int | None
    ) -> pd.DataFrame:
        """List the images that hold all of these, strongest first; see `Run.images_with`."""
        if not isinstance(min_area, Real) or not 0 <= min_area <= 1:
            raise UserError(f"min_area is a share of the image from 0 to 1, this is {min_area}")
        wanted = sorted(set(concept_ids))
        held = "select * from image_concepts where concept_id = $concept"
        if len(wanted) > 1:
            held = (
                "select image_id, min(max) as max, min(mean) as mean, min(area) as area,"
                " null::float as peak_x, null::float as peak_y, sum(contribution) as contribution"
                " from image_concepts where list_contains($concept, concept_id)"
                " and area > 0 group by image_id having count(*) = len($concept)"
            )
        # Limited before it is joined, so that little of a long table is read.
        return self.sql(
            f"with held as (select * from ({held}) where area > 0 and area >= $area"
            " order by max desc, image_id limit $limit)"
            f" select {IMAGES_WITH} from held join images using (image_id)"
            " order by held.max desc, image_id",
            concept=wanted if len(wanted) > 1 else wanted[0],
            area=float(min_area),
            limit=2**62 if limit is None else limit,
        )

    def used(self, image_id: int) -> NDArray[np.float64]:
        """Return the mean strength of each concept in an image of the run, float64 (k,)."""
        rows = self.sql(
            "select concept_id, mean from image_concepts where image_id = $i", i=image_id
        )
        found = np.zeros(self._workspace.bank.k)
        found[rows["concept_id"].to_numpy()] = rows["mean"].to_numpy()
        return found

    def similar(
        self, used: NDArray[np.floating[Any]], n: int, without: int | None = None
    ) -> pd.DataFrame:
        """List the images whose use of concepts is most like another's; see `Run.similar`."""
        # A strength counts as the part of the activations that it makes up.
        lengths = np.linalg.norm(self._workspace.bank.W.astype(np.float64), axis=0)
        asked = used * lengths
        asked /= max(float(np.linalg.norm(asked)), 1e-12)
        part = "mean * $lengths[concept_id + 1]"
        return self.sql(
            f"with near as (select image_id, sum({part} * $asked[concept_id + 1])"
            f" / greatest(sqrt(sum(({part}) ** 2)), 1e-12) as similarity"
            " from image_concepts group by image_id)"
            " select image_id, path, label, pred_label, pred_prob, similarity, label_name, correct"
            " from near join images using (image_id)"
            " where split <> 'copy' and image_id is distinct from $without"
            " order by similarity desc, image_id limit $n",
            lengths=lengths.tolist(), asked=asked.tolist(), without=without, n=n,
        )  # fmt: skip

    def check_concepts(self, concepts: object) -> list[int]:
        """Return the numbers of one concept or several; raise `UserError` where there are none."""
        if isinstance(concepts, str) or not isinstance(concepts, Iterable):
            return [self.check_concept(concepts)]
        if not (found := [self.check_concept(each) for each in concepts]):
            raise UserError("no concept was asked for; a concept is a number from 0 upward")
        return found

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
        """What each concept is called, and what the head says of it."""
        rows = self.table("concepts").sort_values("concept_id").to_dict("records")
        called = [kind_words.called(row) for row in rows]
        frame = self.sql(
            "select concept_id, label, prob from concept_classes"
            " where source = 'context' and rank <= 2 order by concept_id, rank"
        )
        if frame.empty:  # the network has no classes
            return Labels(called, [[] for _ in called], [[] for _ in called])
        groups = [group for _, group in frame.groupby("concept_id", sort=True)]
        return Labels(
            called,
            [group["label"].tolist() for group in groups],
            [group["prob"].tolist() for group in groups],
        )

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        later, lacking = [], {}
        for name in TABLES:
            path = self._workspace.whole("tables", f"{name}.parquet")
            if TABLES[name].is_later and not self._has(path.name):
                later.append(name)
                continue
            if not path.exists():
                raise UserError(
                    f"{path} is missing; {command('discover', run=self._workspace.folder)} makes it"
                )
            lacking[name] = check_columns(path, TABLES[name])
        database = open_database()
        try:
            for name in later:
                with database.cursor() as cursor:
                    cursor.from_arrow(TABLES[name].schema().empty_table()).create(name)
            folder = self._workspace.table_path("images").parent
            database.execute(view_statements(folder, later, lacking))
            self._check_rows(database)
        except duckdb.Error as error:
            again = command("discover", run=self._workspace.folder)
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"the tables of {self._workspace.folder} cannot be read ({reason}); {again} makes"
                " damaged ones again"
            ) from error
        return database

    def _has(self, file: str) -> bool:
        """Say whether the run's tables have a file, as their record says."""
        stage = MAKER["tables"]
        record = read_record(stage.record_path(self._workspace.folder), stage.makes)
        return record is None or file in record.files

    def _check_rows(self, database: duckdb.DuckDBPyConnection) -> None:
        (k,) = database.execute("select count(*) from concepts").fetchone() or (0,)
        for name, rule in _ROWS.items():
            values = {"k": k} if "$k" in rule else {}
            if database.execute(f"select {rule} from {name}", values).fetchone() != (True,):
                path = self._workspace.table_path(name)
                raise UserError(
                    f"{path} is damaged (its rows are not those of a run with {k} concepts);"
                    f" {command('discover', run=self._workspace.folder)} makes damaged ones again"
                )


def _plain(
    parameters: Sequence[Any] | Mapping[str, Any],
) -> Sequence[Any] | Mapping[str, Any]:
    """Return parameters without numpy's numbers, as which tables give theirs: DuckDB takes none."""
    if isinstance(parameters, Mapping):
        return {name: _plain_value(value) for name, value in parameters.items()}
    if isinstance(parameters, str) or not isinstance(parameters, Iterable):
        return parameters  # and let DuckDB say what is wrong
    return [_plain_value(value) for value in parameters]


def _plain_value(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
