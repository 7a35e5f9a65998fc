"""One concept, one image or many images of a run as pictures with their tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import UserError
from ..pictures.composites import composite, concept_colours
from ..runs.workspace import Workspace
from . import kind_words, sureness
from .display import TILE, ImageTable, Shown, shrink, strip
from .explain import picture_of
from .image_data import ImageData
from .query import RunTables

N_SHOWN = 8
"""Images in the strip of a concept or of a table of images."""

N_COMMON = 3
"""Concepts that are drawn on similar images: those that the one asked about has most of."""

_N_ROWS = 6  # classes and labels of a concept


class Gallery:
    """Draws what a run knows; see `Run.concept`, `Run.show` and `Run.images_with`."""

    def __init__(self, workspace: Workspace, tables: RunTables, maps: ImageData) -> None:
        self._workspace, self._tables, self._maps = workspace, tables, maps

    def images_with(
        self, concepts: object, min_area: float = 0.0, limit: int | None = None
    ) -> ImageTable:
        """List the images that hold a concept, or all of several, the first of them as a strip."""
        wanted = self._tables.check_concepts(concepts)
        rows = self._tables.images_with(wanted, min_area, limit)
        return ImageTable.of(rows, lambda: self._strip(wanted, rows["image_id"][:N_SHOWN]))

    def similar(
        self, used: NDArray[np.floating[Any]], n: int, without: int | None = None
    ) -> ImageTable:
        """List the images whose use of concepts is most like that, with what they have in common.

        `used` (k,) are mean strengths; the picture shows those that are strongest.
        """
        rows = self._tables.similar(used, n, without)
        most = np.argsort(-used, kind="stable")[:N_COMMON]
        shown = [int(each) for each in most if used[each] > 0]
        return ImageTable.of(rows, lambda: self._strip(shown, rows["image_id"][:N_SHOWN]))

    def concept(self, concept_id: object) -> Shown:
        """Show a concept: its strongest images, what the head calls it, what the labels say."""
        concept_id = self._tables.check_concept(concept_id)
        sql, values = self._tables.sql, {"concept": concept_id, "n": _N_ROWS}
        images = self.images_with(concept_id, limit=N_SHOWN)
        row = sql("from concepts where concept_id = $concept", concept=concept_id).iloc[0]
        classes = sql(
            "select label, prob, z from concept_classes where concept_id = $concept"
            " and source = 'context' order by rank limit $n", values,
        )  # fmt: skip
        labels = sql(
            "select label, n, precision, recall, lift from concept_labels"
            " where concept_id = $concept order by precision * recall desc, label limit $n",
            values,
        )
        columns = ["path", "label", "pred_label", "max", "area", "contribution"]
        return Shown(
            _title(concept_id, row),
            self._strip([concept_id], images["image_id"]),
            pd.DataFrame(images)[["image_id", *columns]],
            _concept_facts(row),
            ({} if classes.empty else {"the head's classes": classes})
            | {"the dataset's labels": labels},
        )

    def image(self, image_id: int) -> Shown:
        """Show an image beside its concepts in colour, and the numbers of each."""
        entry, labels = self._maps.entry(int(image_id)), self._tables.labels
        H, thresholds = entry["H"].astype(np.float32), self._workspace.bank.thresholds
        concepts = pd.DataFrame(
            {
                "concept_id": np.arange(H.shape[-1]),
                "label": [names[0] if names else None for names in labels.names],
                "max": H.max(axis=(0, 1)),
                "mean": H.mean(axis=(0, 1)),
                "area": (thresholds <= H).mean(axis=(0, 1)),
                "contribution": entry["contribution"],
            }
        )
        present = concepts[concepts["max"] >= thresholds].sort_values(
            ["contribution", "concept_id"], ascending=[False, True], ignore_index=True
        )
        heatmaps = self._maps.upsample(self._maps.grid_heatmap(image_id), image_id)
        shown = present["concept_id"].tolist()
        rows = self._tables.sql("from images where image_id = $image", image=int(image_id))
        if rows.empty:
            raise UserError(f"{self._workspace.table_path('images')} has no image {image_id}")
        row = rows.iloc[0]
        picture = picture_of(self._maps.picture(image_id), heatmaps, shown, labels)
        return Shown(str(row["path"]), picture, present, _image_facts(row))

    def _strip(self, concept_ids: list[int], image_ids: pd.Series[int]) -> NDArray[np.uint8]:
        """Draw concepts on images, small, side by side."""
        colours = concept_colours(self._workspace.bank.k)[concept_ids]
        drawn = []
        for image_id in image_ids.tolist():
            image = shrink(self._maps.picture(image_id), TILE)
            maps = self._maps.grid_heatmap(image_id)[concept_ids]
            heat = self._maps.upsample(maps, image_id, (image.shape[0], image.shape[1]))
            drawn.append(composite(image, heat, colours))
        return strip(drawn)


def _title(concept_id: int, row: pd.Series[Any]) -> str:
    """Name a concept, and say what kind it is of."""
    fields = row.to_dict()
    name, kind = kind_words.called(fields), kind_words.kind_of(fields)
    title = f"Concept {concept_id}" + (f": {name}" if name else "")
    return f"{title} ({kind})" if kind else title


def _concept_facts(row: pd.Series[Any]) -> dict[str, str]:
    return {
        "probability": _or_dash(row["top_prob"]),
        "images": f"{row['n_images']:,}",
        "coverage": f"{row['coverage']:.1%}",
        "energy": f"{row['energy']:.1%}",
        "importance": _or_dash(row["importance"], " logits"),
        "stability": _or_dash(row["stability"]),
        "comes back": f"{sureness.times(row.to_dict())} fits on other images",
    }


def _or_dash(value: float, unit: str = "") -> str:
    return "–" if pd.isna(value) else f"{value:.2f}{unit}"


def _image_facts(row: pd.Series[Any]) -> dict[str, str]:
    return {
        "taken for": f"{row['pred_label']} {row['pred_prob']:.2f}"
        if isinstance(row["pred_label"], str)
        else "–",
        "label": "–" if pd.isna(row["label"]) else str(row["label"]),
        "not explained": f"{row['residual']:.2f}",
        "size": f"{row['width']} × {row['height']}",
        "image_id": str(row["image_id"]),
    }
