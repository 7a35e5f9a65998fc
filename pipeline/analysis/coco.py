"""A run's regions and objects as annotations in the format of COCO, which most tools read.

A concept is a category, and so is what is object, of whatever concepts. Boxes are those of the
tables; there are no outlines, for heatmaps are coarser than pixels.

References
----------
Lin, T.-Y. et al. (2014). Microsoft COCO: common objects in context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def coco(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Write tables as a dataset of COCO.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        images, concepts, regions and objects.

    Returns
    -------
    dict
        images, categories and annotations, plain values that ``json.dump`` takes. Categories count
        from 1: that of concept j is j + 1, and the last one is ``object``.
    """
    images, concepts = tables["images"], tables["concepts"].sort_values("concept_id")
    names = [
        name if isinstance(name, str) else f"concept {concept_id}"
        for name, concept_id in zip(concepts["name"], concepts["concept_id"], strict=True)
    ]
    categories = [
        {"id": at + 1, "name": name, "supercategory": "concept"} for at, name in enumerate(names)
    ]
    categories.append({"id": len(names) + 1, "name": "object", "supercategory": "object"})
    regions, objects = tables["regions"], tables["objects"]
    boxes = pd.concat(
        [
            regions.assign(category_id=regions["concept_id"] + 1),
            objects.assign(category_id=len(names) + 1),
        ],
        ignore_index=True,
    )
    pixels = (images["width"] * images["height"]).set_axis(images["image_id"])
    return {
        "images": [
            {"id": int(row[0]), "file_name": row[1], "width": int(row[2]), "height": int(row[3])}
            for row in images[["image_id", "path", "width", "height"]].itertuples(index=False)
        ],
        "categories": categories,
        "annotations": [
            _annotation(at + 1, row, int(pixels[row["image_id"]]))
            for at, row in enumerate(boxes.to_dict("records"))
        ],
    }


def _annotation(number: int, row: Mapping[Any, Any], pixels: int) -> dict[str, Any]:
    x0, y0, x1, y1 = (int(row[edge]) for edge in ("x0", "y0", "x1", "y1"))
    return {
        "id": number,
        "image_id": int(row["image_id"]),
        "category_id": int(row["category_id"]),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": float(row["area"]) * pixels,
        "iscrowd": 0,
        "segmentation": [],
        "score": float(row["score"]),
    }
