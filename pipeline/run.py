"""A finished run as analysts meet it: tables by SQL, heatmaps, masks, new images explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.errors import UserError, suggest
from pipeline.explain import Explanation, Labels, explain
from pipeline.images import Affine, DecodeError, fit_to_square, read_original, upsample
from pipeline.jobs.workspace import Workspace
from pipeline.localize import Foreground
from pipeline.store import Classification, read_classification
from pipeline.tables import TABLES

ImageLike = str | Path | NDArray[np.uint8]


@dataclass(frozen=True)
class Encoding:
    """Fixed concepts found in new images.

    Parameters
    ----------
    H : ndarray
        float32 (n, k, h, w), gauge units, on the layer's grid.
    residual : ndarray
        float32 (n, h, w), ‖v − D(W h)‖ / ‖v‖ a position.
    """

    H: NDArray[np.float32]
    residual: NDArray[np.float32]


class RunBank:
    """A run's fixed concepts, for new images."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def W(self) -> NDArray[np.float32]:
        """Directions of the concepts, float32 (channels after the transform, k)."""
        return self._workspace.bank.W

    def encode(self, images: Sequence[ImageLike]) -> Encoding:
        """Find the fixed concepts in new images.

        Parameters
        ----------
        images : sequence
            Paths, or arrays uint8 (height, width, 3), RGB.

        Raises
        ------
        UserError
            An image cannot be read.
        """
        workspace = self._workspace
        config = workspace.config
        squares = []
        for image in images:
            pixels = torch.from_numpy(load_image(image)).permute(2, 0, 1).contiguous()
            squares.append(
                fit_to_square(pixels, workspace.cut.network.image_size, config.resize)[0]
            )
        maps = [
            workspace.cut.forward(torch.stack(squares[i : i + 32])).V
            for i in range(0, len(squares), 32)
        ]
        H, residual = workspace.bank.encode(torch.cat(maps))
        return Encoding(H.permute(0, 3, 1, 2).contiguous().numpy(), residual.numpy())


class Run:
    """A finished run, opened for reading; see `open_run`.

    Attributes
    ----------
    folder : Path
        The run's folder.
    bank : RunBank
        Its concepts, for new images.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.folder = workspace.folder
        self.bank = RunBank(workspace)

    def __repr__(self) -> str:
        """Say what was run on what."""
        record = self.workspace.record
        return (
            f"Run({str(self.folder)!r}: {self.workspace.config.model}"
            f" {self.workspace.config.layer}, {record['dataset']['n_images']} images)"
        )

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

    def sql(self, query: str) -> pd.DataFrame:
        """Run a DuckDB query over the run's tables, which are its views."""
        return self._database.execute(query).df()

    def heatmap(self, image_id: int, concept_id: int | None = None) -> NDArray[np.float32]:
        """Return an image's heatmaps at its original size.

        Parameters
        ----------
        image_id : int
            As in the tables.
        concept_id : int, optional
            One concept only.

        Returns
        -------
        ndarray
            float32 (k, height, width), or (height, width) for one concept; gauge units; NaN where
            the network did not see the image.

        Raises
        ------
        UserError
            No such image or concept in the run.
        """
        maps = self.grid_heatmap(image_id)
        if concept_id is None:
            return self.upsample(maps, image_id)
        if not 0 <= concept_id < len(maps):
            raise UserError(f"there is no concept {concept_id}; the run has 0 to {len(maps) - 1}")
        one: NDArray[np.float32] = self.upsample(maps[[concept_id]], image_id)[0]
        return one

    def grid_heatmap(self, image_id: int) -> NDArray[np.float32]:
        """Return an image's heatmaps on the layer's grid, float32 (k, h, w), gauge units."""
        shard, row = self._find(image_id)
        H = self.workspace.heatmaps.read_image(shard, "H", row)
        return np.ascontiguousarray(np.moveaxis(H, -1, 0), dtype=np.float32)

    def object_mask(self, image_id: int) -> NDArray[np.bool_]:
        """Return where an image's co-localized object is, bool (height, width), original size."""
        shard, row = self._find(image_id)
        store = self.workspace.heatmaps
        H = store.read_image(shard, "H", row).astype(np.float32)
        top = store.read_image(shard, "logits", row).argmax()
        strength = self._foreground.maps(H[None], np.array([top]))
        raised = np.nan_to_num(self.upsample(strength, image_id)[0])
        mask: NDArray[np.bool_] = raised >= self._foreground.threshold
        return mask

    def image(self, image_id: int) -> NDArray[np.uint8]:
        """Return an image's original pixels, uint8 (height, width, 3), RGB, upright."""
        if int(image_id) not in self._paths:
            raise self._no_image(image_id)
        return load_image(self.workspace.image_file(self._paths[int(image_id)]))

    def explain(self, image: ImageLike) -> Explanation:
        """Explain any image by the run's fixed concepts.

        Raises
        ------
        UserError
            The image cannot be read.
        """
        workspace = self.workspace
        return explain(
            workspace.cut,
            workspace.bank,
            self._labels,
            workspace.class_names,
            load_image(image),
            workspace.config.resize,
        )

    @cached_property
    def classification(self) -> Classification:
        """What the head says of the concepts."""
        return read_classification(self.workspace.classes_path)

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        database = duckdb.connect()
        for name in TABLES:
            path = self.workspace.table_path(name)
            if not path.exists():
                raise UserError(
                    f"{path} is missing; run make discover RUN={self.folder} to its end"
                )
            quoted = str(path).replace("'", "''")
            database.execute(f"create view \"{name}\" as select * from read_parquet('{quoted}')")
        return database

    @cached_property
    def _labels(self) -> Labels:
        frame = self.sql(
            "select concept_id, label, prob from concept_classes"
            " where source = 'context' and rank <= 2 order by concept_id, rank"
        )
        groups = [group for _, group in frame.groupby("concept_id", sort=True)]
        return Labels(
            [group["label"].tolist() for group in groups],
            [group["prob"].tolist() for group in groups],
            self.classification.significant.tolist(),
        )

    @cached_property
    def _paths(self) -> dict[int, str]:
        frame = self.sql("select image_id, path from images")
        return dict(zip(frame["image_id"].tolist(), frame["path"].tolist(), strict=True))

    @cached_property
    def _places(self) -> dict[int, tuple[int, int]]:
        store = self.workspace.heatmaps
        return {
            int(image_id): (shard, row)
            for shard in range(store.n_shards)
            for row, image_id in enumerate(store.read(shard, ["image_id"])["image_id"])
        }

    @cached_property
    def _foreground(self) -> Foreground:
        found = self.classification
        return Foreground(found.foreground_weights, found.foreground_threshold)

    def _find(self, image_id: int) -> tuple[int, int]:
        try:
            return self._places[int(image_id)]
        except KeyError:
            raise self._no_image(image_id) from None

    def _no_image(self, image_id: int) -> UserError:
        return UserError(f"there is no image {image_id} in {self.folder}; see the table images")

    def upsample(
        self,
        maps: NDArray[np.float32],
        image_id: int,
        shape: tuple[int, int] | None = None,
    ) -> NDArray[np.float32]:
        shard, row = self._find(image_id)
        store = self.workspace.heatmaps
        width, height = store.read_image(shard, "size", row).tolist()
        affine = Affine(*store.read_image(shard, "affine", row).tolist())
        return upsample(maps, self.workspace.grid, affine, (width, height), shape)


def open_run(folder: str | Path) -> Run:
    """Open a finished run.

    Parameters
    ----------
    folder : str or Path
        As ``runs/pets``.

    Raises
    ------
    UserError
        The folder is not a run.
    """
    return Run(Workspace.open(Path(folder)))


def load_image(image: ImageLike) -> NDArray[np.uint8]:
    """Return pixels as uint8 (height, width, 3), RGB, of a path or of such an array.

    Raises
    ------
    UserError
        The file cannot be read, or the array is no such image.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"an image is uint8 (height, width, 3), this is {image.dtype} {image.shape}"
            )
        return np.ascontiguousarray(image)
    try:
        return read_original(Path(image))
    except DecodeError as error:
        raise UserError(f"IMAGE={image} cannot be used: {error}") from error
