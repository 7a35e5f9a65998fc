"""The atlas job: a finished run's tables, images and heatmaps become pages and sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .. import plugins
from ..analysis.image_data import GoneError, ImageData
from ..analysis.run import Run, open_run
from ..analysis.suspects import suspects_of
from ..atlas import LONG, AtlasData, build_atlas
from ..config import OF_ONE_CALL, AtlasImages
from ..pictures.scale import size_within
from ..pictures.veil import blurred, placeholder
from ..runs.estimate import bound_decoding_alone
from ..runs.probe import describe
from ..runs.workspace import Workspace
from ..tables import TABLES

NOTICES: dict[AtlasImages, str] = {
    "copy": "These pages hold copies of images of the dataset: share them as you would those.",
    "blur": "The pictures are blurred copies of images of the dataset.",
    "none": "No image of the dataset is in these pages, only where concepts stand in them.",
}
"""What a reader of the atlas is told of its pictures."""


def make_atlas(workspace: Workspace) -> dict[str, int | float]:
    """Write ``atlas/`` of a run.

    Returns
    -------
    dict
        Counts: pages; images that are gone or were replaced, and are drawn so.
    """
    run, images = open_run(workspace.folder), ImageData(workspace)
    bound_decoding_alone(workspace.config)

    def upsample(
        maps: NDArray[np.float32], image_id: int, height: int, width: int
    ) -> NDArray[np.float32]:
        return np.nan_to_num(images.upsample(maps, image_id, (height, width)))

    def reading_order(image_ids: Sequence[int]) -> list[int]:
        order: list[int] = np.array(image_ids)[
            workspace.listing.places(image_ids).argsort()
        ].tolist()
        return order

    gone: dict[int, str] = {}
    pictures = workspace.config.atlas_images

    def read_image(image_id: int, longest: int) -> NDArray[np.uint8]:
        word = ""
        if pictures != "none":
            try:
                pixels = images.pixels(image_id, longest)
                return blurred(pixels) if pictures == "blur" else pixels
            except GoneError as error:
                gone[image_id], word = str(error), "gone"
        return placeholder(*size_within(*images.size(image_id), longest), word)

    def object_mask(image_id: int, height: int, width: int) -> NDArray[np.bool_]:
        return images.coarse_mask(image_id, (height, width))

    folder = workspace.folder / "atlas"
    build_atlas(
        AtlasData(
            title=workspace.folder.name,
            summary=_summary(workspace, run),
            tables={name: run.table(name) for name in TABLES if name not in LONG},
            sql=run.sql,
            read_image=read_image,
            notice=NOTICES[pictures],
            read_heatmap=images.grid_heatmap,
            upsample=upsample,
            fetch=images.fetch,
            reading_order=reading_order,
            object_mask=object_mask,
            logits=images.logits if workspace.cut.n_classes else None,
            settings=_settings(workspace),
            label_classes=workspace.class_of_label,
            speaker="probe" if workspace.config.head == "probe" else "network",
            is_multi_label=workspace.record.link == "sigmoid",
            pages=workspace.config.plugins_of(plugins.PAGES),
            no_suspects=suspects_of(workspace).reason,
            siblings={layer: each.name for layer, each in workspace.siblings.items()},
        ),
        folder,
    )
    if gone:
        first = gone[min(gone)]
        workspace.tell(f"atlas      {len(gone)} of the images shown are drawn as gone: {first}")
    for reason in sorted(gone.values()):
        workspace.log(f"atlas: {reason}")
    return {"pages": sum(1 for _ in folder.rglob("*.html")), "gone": len(gone)}


def _summary(workspace: Workspace, run: Run) -> dict[str, str]:
    config, bank = workspace.config, workspace.bank
    is_probed, is_multi_label = config.head == "probe", workspace.record.link == "sigmoid"
    n_images = run.sql("select count(*) as n from images")["n"].iloc[0]
    return {
        "Dataset": workspace.record.dataset.name,
        "Images": f"{n_images:,}{_not_fitted(workspace)}",
        "Network": config.model,
        "Layer": str(config.layer),
        **({"Head": f"linear probe: {describe(workspace.probe)}"} if is_probed else {}),
        **({"Classes": "independent, each a yes or no"} if is_multi_label else {}),
        "Concepts": str(bank.k) if bank.k_is_stable else f"{bank.k} (no stable k)",
        "Relative error": f"{bank.error:.4f} (floor {bank.svd_error:.4f})",
    }


def _not_fitted(workspace: Workspace) -> str:
    """Say of how many of the images the concepts are, where the run was given others later."""
    n = workspace.n_fitted
    is_less = n < len(workspace.listing.frame)
    return f" (the concepts are those of the first {n:,})" if is_less else ""


def _settings(workspace: Workspace) -> dict[str, str]:
    """The configuration as it was resolved, without what tells where things lie on this machine,
    or how one call was carried out: that changes no concept, and must change no page.
    """
    hidden = {"dataset", "weights", "classes", "scheduler", *OF_ONE_CALL}
    shown = {
        name.upper(): ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        for name, value in workspace.config.model_dump().items()
        if value not in (None, ()) and name not in hidden
    }
    record = workspace.record
    return shown | {
        "weights": f"SHA-256 {record.weights.sha256[:16]}…",
        "code": f"commit {(record.git_commit or 'unknown')[:12]}",
        **record.versions,
    }
