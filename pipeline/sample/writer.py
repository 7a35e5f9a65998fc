"""Writes the bundled sample to a folder: images by class, part and object masks, labels."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import UserError
from ..system import files
from ..system.processes import in_processes
from ..system.progress import bar
from .objects import CLASSES, PARTS
from .scenes import GENERATOR_VERSION, Cue, render_scene

SAMPLE_SEED = 480
RECORD = "sample.json"
JPEG_QUALITY = 92
KINDS = ("images", "parts", "objects")
WORKERS = 2
FEW = 24  # fewer scenes are done sooner than two processes start


@dataclass(frozen=True)
class _Job:
    """Everything that a worker needs to write one scene."""

    folder: Path
    seed: int
    index: int
    size: int
    cue: Cue | None

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """The files of the scene: image, parts, object."""
        label = CLASSES[self.index % len(CLASSES)]
        stem = f"{label}_{self.index:05d}"
        image, parts, objects = (self.folder / kind / label / stem for kind in KINDS)
        return image.with_suffix(".jpg"), parts.with_suffix(".png"), objects.with_suffix(".png")


def write_sample(
    folder: Path,
    n_images: int = 480,
    seed: int = SAMPLE_SEED,
    size: int = 160,
    cue: Cue | None = None,
) -> None:
    """Write rendered scenes as a dataset with ground truth; do nothing where they are already.

    Leaves ``images/<class>/<name>.jpg``, ``parts/<class>/<name>.png`` (uint8, 0 background, else
    the part's id), ``objects/<class>/<name>.png`` (uint8, 0 or 255), ``parts.json`` (id to name),
    ``classes.csv`` (label, class_id, name) and, when all of that is written, ``sample.json`` (what
    was asked for). A folder left incomplete by a killed call is completed; a sample made with other
    settings is replaced.

    Parameters
    ----------
    folder : Path
        Where to write; made where missing.
    n_images : int
        Number of scenes; the classes take turns.
    seed : int
        Which scenes.
    size : int
        Pixels along each side of an image, at least 32.
    cue : Cue, optional
        A mark to plant beside the objects of one class.

    Raises
    ------
    UserError
        The folder holds other files, or cannot be written.
    """
    if n_images < 1 or size < 32:
        raise UserError(
            f"a sample of {n_images} images of {size} pixels cannot be rendered; "
            "ask for at least 1 image of at least 32 pixels"
        )
    settings = {
        "generator_version": GENERATOR_VERSION,
        "n_images": n_images,
        "seed": seed,
        "size": size,
        "cue": None if cue is None else asdict(cue),
    }
    if _prepare(folder, settings):
        return
    jobs = [_Job(folder, seed, index, size, cue) for index in range(n_images)]
    _write_scenes([job for job in jobs if not all(path.is_file() for path in job.paths)])
    files.write_json(folder / "parts.json", {str(i): name for i, name in enumerate(PARTS, 1)})
    rows = [f"{label},{class_id},{label}\n" for class_id, label in enumerate(CLASSES)]
    files.write_text(folder / "classes.csv", "label,class_id,name\n" + "".join(rows))
    files.write_json(folder / RECORD, settings | {"complete": True})


def _prepare(folder: Path, settings: dict[str, Any]) -> bool:
    """Make the folder ready for a sample with these settings; say whether it is complete.

    The settings are recorded before the first scene, so that scenes found later are known to be
    of the same making; a sample of another making is removed.
    """
    record = folder / RECORD
    if record.is_file():
        found = json.loads(record.read_text("utf-8"))
        if found == settings | {"complete": True}:
            return True
        if found == settings | {"complete": False}:
            files.remove_leftovers(folder)
            return False
        for kind in KINDS:
            files.remove(folder / kind)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(
            f"{folder} holds files that are no sample ({RECORD} is missing); name an empty folder"
        )
    files.check_writable(folder)
    files.write_json(record, settings | {"complete": False})
    return False


def _write_scenes(jobs: list[_Job]) -> None:
    """Render and write scenes; in worker processes, where there are enough to pay for them."""
    if not jobs:
        return
    with bar("sample", len(jobs), "scenes") as shown:
        for _ in in_processes(_write_scene, jobs, WORKERS if len(jobs) >= FEW else 1):
            shown.update()


def _write_scene(job: _Job) -> None:
    scene = render_scene(job.seed, job.index, job.size, job.cue)
    encoded = (
        _encode(scene.image, "JPEG", quality=JPEG_QUALITY, subsampling=0),
        _encode(scene.parts, "PNG"),
        _encode(scene.objects.astype(np.uint8) * np.uint8(255), "PNG"),
    )
    for path, data in zip(job.paths, encoded, strict=True):
        files.write_bytes(path, data)


def _encode(pixels: npt.NDArray[np.uint8], kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
