"""The atlas job: a finished run's tables, images and heatmaps become pages and sheets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.atlas import AtlasData, build_atlas
from pipeline.jobs.workspace import Workspace
from pipeline.run import open_run
from pipeline.tables import TABLES


def make_atlas(workspace: Workspace) -> dict[str, int | float]:
    """Write ``atlas/`` of a run.

    Returns
    -------
    dict
        Counts: pages.
    """
    run = open_run(workspace.folder)
    bank, record = workspace.bank, workspace.record
    tables = {name: run.table(name) for name in TABLES}

    def upsample(
        maps: NDArray[np.float32], image_id: int, height: int, width: int
    ) -> NDArray[np.float32]:
        return np.nan_to_num(run.upsample(maps, image_id, (height, width)))

    folder = workspace.folder / "atlas"
    build_atlas(
        AtlasData(
            title=workspace.folder.name,
            summary={
                "Dataset": record["dataset"]["name"],
                "Images": f"{len(tables['images']):,}",
                "Network": workspace.config.model,
                "Layer": workspace.config.layer,
                "Concepts": str(bank.k) if bank.k_is_stable else f"{bank.k} (no stable k)",
                "Relative error": f"{bank.error:.4f} (floor {bank.svd_error:.4f})",
                "Seed": str(workspace.config.seed),
            },
            tables=tables,
            read_image=run.image,
            read_heatmap=run.grid_heatmap,
            upsample=upsample,
            object_mask=run.object_mask,
        ),
        folder,
    )
    return {"pages": sum(1 for _ in folder.rglob("*.html"))}
