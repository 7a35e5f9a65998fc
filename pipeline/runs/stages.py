"""The stages of a run, each declared once: what it makes, from what, and where that lies.

extract ──▶ factorize ──▶ localize ──▶ classify ──▶ export ──▶ atlas
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..config import Head, Keep
from ..errors import UserError
from ..store.records import is_of_site, read_begun
from ..tables import TABLES
from ..tables.views import VIEWS


@dataclass(frozen=True)
class Stage:
    """One stage and its product.

    Attributes
    ----------
    name : str
        Of the stage.
    body : str
        ``module:function`` below this package: takes a workspace, and where the product is sharded
        the shards to make; returns counts.
    product : str
        What it makes.
    needs : tuple of str
        Products it is made from.
    folder : str
        Where in the run the product lies.
    files : tuple of str
        Its files below the folder, ``*`` for those of a site, which it notes before it writes them
        (see `store.begin`); none where it is sharded.
    files_of_probe : tuple of str
        Those that it has besides under ``HEAD=probe``.
    is_sharded : bool
        Whether it is made shard by shard, each with a record of its own.
    dropped_by : frozenset of str
        Values of ``KEEP`` that do not keep it.
    of_fitted : bool
        Whether it is made from the images that the concepts were fitted to, and not from those
        that a run was given later.
    """

    name: str
    body: str
    product: str
    needs: tuple[str, ...]
    folder: str
    files: tuple[str, ...] = ()
    files_of_probe: tuple[str, ...] = ()
    is_sharded: bool = False
    dropped_by: frozenset[Keep] = frozenset()
    of_fitted: bool = False

    @property
    def is_site(self) -> bool:
        """Whether the product is a site, whose files are not always the same ones."""
        return self.files == ("*",)

    def is_kept(self, keep: Keep) -> bool:
        """Say whether the product stays under ``KEEP``."""
        return keep not in self.dropped_by

    def record_path(self, run: Path) -> Path:
        """Return the file of the product's record, where it is made in one go."""
        return run / self.folder / f"{self.product}.json"

    def outputs(self, run: Path, head: Head) -> list[Path]:
        """Return the product's files, where it is made in one go, of a run under ``HEAD``."""
        names = [*self.files, *(self.files_of_probe if head == "probe" else ())]
        if self.is_site:
            names = read_begun(self.begun_path(run), self.makes)
        return [run / self.folder / name for name in names]

    def begun_path(self, run: Path) -> Path:
        """Return the note of what is about to be written, where files are not the same ones."""
        return run / self.folder / f"{self.product}.begun.json"

    def makes(self, name: str) -> bool:
        """Say whether the product, where it is made in one go, may have a file of this name."""
        return is_of_site(name) if self.is_site else name in self.files + self.files_of_probe


STAGES = (
    Stage(
        "extract", "jobs.extract:extract", "activations", (), "activations",
        is_sharded=True, dropped_by=frozenset(("heatmaps", "none")),
    ),
    Stage(
        "factorize", "jobs.factorize:factorize", "bank", ("activations",), "bank",
        ("bank.h5", "k_metrics.json"), ("probe.h5",), of_fitted=True,
    ),
    Stage(
        "localize", "jobs.localize:localize", "heatmaps", ("activations", "bank"), "heatmaps",
        is_sharded=True, dropped_by=frozenset(("none",)),
    ),
    Stage(
        "classify", "jobs.classify:classify", "classes", ("activations", "bank", "heatmaps"),
        "bank", ("classes.h5", "objects.h5", "suspects.json"), of_fitted=True,
    ),
    Stage(
        "export", "jobs.export:export", "tables", ("bank", "heatmaps", "classes"), "tables",
        (*(f"{table}.parquet" for table in TABLES), VIEWS),
    ),
    Stage(
        "atlas", "jobs.atlas:make_atlas", "atlas", ("bank", "heatmaps", "classes", "tables"),
        "atlas", ("*",),
    ),
)  # fmt: skip
"""In the order in which they work."""

EVALUATION = Stage(
    "evaluate", "", "evaluation", (), "evaluation",
    ("scores.csv", "labels.csv", "concepts.csv", "summary.json", "objects.png"),
)  # fmt: skip
"""What `make evaluate` adds; no stage needs it, and none makes it."""

BY_NAME = {stage.name: stage for stage in STAGES}
MAKER = {stage.product: stage for stage in STAGES}

MEMBERS = (*dict.fromkeys(stage.folder for stage in (*STAGES, EVALUATION)), "logs")
"""Folders of a run."""


def check_folders(run: Path) -> None:
    """Refuse a run of which a folder is a link: files outside would be read, or written over.

    Raises
    ------
    UserError
        It names the link.
    """
    for name in MEMBERS:
        if (run / name).is_symlink():
            raise UserError(f"{run / name} is a link, which no folder of a run is; remove it")
