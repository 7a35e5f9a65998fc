"""What is object in a run's images: found on a sample of them, kept in ``bank/objects.h5``.

The coarse part needs the concepts' heatmaps alone and serves every image; the fine part exists
where ``AUX_LAYERS`` were stored whose grid is finer than the concepts'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline import files
from pipeline.errors import UserError
from pipeline.images import Grid, between_grids
from pipeline.jobs.workspace import Workspace
from pipeline.localize import FineForeground, Foreground, fit_fine, fit_foreground, stack_layers
from pipeline.store import write_texts

ENCODING = "concordance.objects"
VERSION = "1.0"

N_IMAGES = 1_024
"""Images from which it is learned what is foreground: a random sample, the first of the run."""

N_POSITIONS = 200_000
"""Positions of the finer grid that the fine part is learned from, about; whole images."""


@dataclass(frozen=True)
class ObjectModel:
    """What is object: `coarse` from the concepts, `fine` from finer layers, if there are any."""

    coarse: Foreground
    fine: FineForeground | None


def fit_objects(workspace: Workspace) -> ObjectModel:
    """Find on a sample of the run's images what is object, and write it down."""
    parts = _read_sample(workspace)
    H = np.concatenate([part["H"] for part in parts])[:N_IMAGES].astype(np.float32)
    top = np.concatenate([part["logits"] for part in parts])[:N_IMAGES].argmax(1)
    image_ids = np.concatenate([part["image_id"] for part in parts])[:N_IMAGES]
    groups = groups_of(workspace, image_ids, top)
    coarse = fit_foreground(H, groups, workspace.bank.W)
    found = ObjectModel(coarse, _fit_fine(workspace, coarse.maps(H, groups)))
    _write(workspace, found)
    return found


def read_objects(workspace: Workspace) -> ObjectModel:
    """Read what `fit_objects` wrote.

    Raises
    ------
    UserError
        The file is missing, damaged, or of another format.
    """
    path = workspace.objects_path
    mend = "rerun make discover with the same options"
    try:
        with h5py.File(path, "r") as file:
            found = (file.attrs.get("encoding-type"), file.attrs.get("encoding-version"))
            if found != (ENCODING, VERSION):
                raise UserError(f"{path} holds {found}, not {(ENCODING, VERSION)}; {mend}")
            groups = tuple(name.decode() for name in file["groups"][()])
            coarse = Foreground(groups=groups, **_values(file, Foreground, "groups"))
            fine = None
            if "fine" in file:
                fine = FineForeground(**_values(file["fine"], FineForeground))
            return ObjectModel(coarse, fine)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {mend}") from error
    except OSError as error:
        raise UserError(f"{path} is damaged ({error}); remove it, then {mend}") from error


def groups_of(
    workspace: Workspace, image_ids: NDArray[np.int64], top: NDArray[np.int64]
) -> list[str]:
    """Name the group whose object each image is searched for: its label, else its top class."""
    places = workspace.listing.places(image_ids)
    if (places < 0).any():
        raise ValueError("an image is not of this run")
    labels = workspace.listing.frame["label"].iloc[places]
    return [
        f"class {index}" if label is None else f"label {label}"
        for label, index in zip(labels, top.tolist(), strict=True)
    ]


def finer_layers(workspace: Workspace) -> dict[str, Grid]:
    """Return the auxiliary layers whose grids are finer than the concepts', with their grids."""
    centres = workspace.cut.aux_centres if workspace.config.aux_layers else {}
    size = workspace.grid.image_size
    grids = {name: Grid(*each, image_size=size) for name, each in centres.items()}
    coarse = len(workspace.grid.centres_y)
    return {name: grid for name, grid in grids.items() if len(grid.centres_y) > coarse}


def fine_features(
    maps: Mapping[str, NDArray[Any]], layers: Mapping[str, Grid]
) -> tuple[NDArray[np.float32], Grid]:
    """Put the auxiliary layers' maps, by name, side by side on the finest grid."""
    arrays = [maps[name].astype(np.float32) for name in layers]
    return stack_layers(arrays, list(layers.values()))


def _read_sample(workspace: Workspace) -> list[dict[str, NDArray[Any]]]:
    parts: list[dict[str, NDArray[Any]]] = []
    for arrays in workspace.heatmaps.iterate(["H", "logits", "image_id"]):
        parts.append(arrays)
        if sum(len(part["H"]) for part in parts) >= N_IMAGES:
            break
    return parts


def _fit_fine(workspace: Workspace, strength: NDArray[np.float32]) -> FineForeground | None:
    layers = finer_layers(workspace)
    if not layers:
        return None
    n_cells = max(len(grid.centres_y) * len(grid.centres_x) for grid in layers.values())
    n_images = min(len(strength), max(1, N_POSITIONS // n_cells))
    names = [f"aux/{name}" for name in layers]
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in layers}
    n_read = 0
    for arrays in workspace.activations.iterate(names):
        for name in layers:
            parts[name].append(arrays[f"aux/{name}"])
        n_read += len(arrays[names[0]])
        if n_read >= n_images:
            break
    maps = {name: np.concatenate(each)[:n_images] for name, each in parts.items()}
    features, grid = fine_features(maps, layers)
    start = between_grids(strength[:n_images, ..., None], workspace.grid, grid)
    return fit_fine(features, start[..., 0])


def _write(workspace: Workspace, found: ObjectModel) -> None:
    with files.write_hdf5(workspace.objects_path) as file:
        file.attrs.update({"encoding-type": ENCODING, "encoding-version": VERSION})
        file.attrs["layer"] = str(workspace.config.layer)
        write_texts(file, "groups", found.coarse.groups)
        for field in fields(found.coarse):
            if field.name != "groups":
                file[field.name] = getattr(found.coarse, field.name)
        if found.fine is not None:  # by create_dataset: groups made by assignment keep the time
            for field in fields(found.fine):
                file.create_dataset(f"fine/{field.name}", data=getattr(found.fine, field.name))


def _values(group: h5py.Group, kind: type, *but: str) -> dict[str, Any]:
    names: Sequence[str] = [field.name for field in fields(kind) if field.name not in but]
    values = {name: group[name][()] for name in names}
    return {name: value if value.ndim else float(value) for name, value in values.items()}
