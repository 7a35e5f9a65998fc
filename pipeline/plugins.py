"""What can be plugged in: each kind by a name that the user gives, our own by the same door.

A plug-in is an installed package that declares an entry point in one of the groups below. It is
imported when its name is given, and not before: what the user did not name does not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .errors import UserError, suggest


@dataclass(frozen=True)
class Kind:
    """A kind of plug-in.

    Attributes
    ----------
    group : str
        Its entry-point group.
    what : str
        What one is, for messages.
    built_in : mapping of str to str
        Name to ``module:attribute`` below this package.
    """

    group: str
    what: str
    built_in: Mapping[str, str]


NETWORKS = Kind(
    "concordance.networks",
    "network source",
    {
        "torchvision": "models.torchvision_source:SOURCE",
        "sample": "models.sample_source:SOURCE",
        "timm": "models.timm_source:SOURCE",
        "hf": "models.hf_source:SOURCE",
        "code": "models.code_source:SOURCE",
        "pt2": "models.program_source:SOURCE",
        "given": "models.given_source:SOURCE",
    },
)
"""`pipeline.models.source.NetworkSource`: where networks come from."""

DATASETS = Kind(
    "concordance.datasets",
    "dataset source",
    {
        "folder": "images.folder:open_folder",
        "table": "images.table:open_table",
        "glob": "images.folder:open_glob",
        "coco": "images.coco:open_coco",
        "wds": "images.archive:open_tar",
        "zip": "images.archive:open_zip",
        "remote": "images.remote:open_remote",
        "parquet": "images.spooled.parquet_source:open_parquet",
        "numpy": "images.spooled.numpy_files:open_numpy",
        "hf": "images.spooled.hub:open_hub",
        "torchvision": "images.spooled.torchvision_sets:open_torchvision",
        "given": "images.spooled.given_source:open_given",
    },
)
"""`pipeline.images.source.OpenDataset`: where images come from."""

REFINERS = Kind("concordance.refiners", "mask refiner", {"edges": "localize.refine:probability"})
"""`pipeline.localize.refine.Refiner`: what gives masks the image's edges."""

COLUMNS = Kind("concordance.columns", "table column", {})
"""`pipeline.tables.column.Column`: columns of the tables; our own are declared with each table."""

PAGES = Kind(
    "concordance.pages",
    "atlas page",
    {
        "index": "atlas.views.index:pages",
        "images": "atlas.views.images:pages",
        "concepts": "atlas.views.concept:pages",
        "image": "atlas.views.image:pages",
        "classes": "atlas.views.classes:pages",
        "suspects": "atlas.views.suspects:pages",
        "numbers": "atlas.views.numbers:pages",
    },
)
"""`pipeline.atlas.page.MakePages`: pages of the atlas."""

NAMERS = Kind("concordance.namers", "namer", {"words": "names.compose:compose"})
"""`pipeline.names.Namer`: what names concepts."""

KINDS = (NETWORKS, DATASETS, REFINERS, COLUMNS, PAGES, NAMERS)


def names(kind: Kind) -> list[str]:
    """Return the names of all plug-ins of a kind, our own first; nothing is imported."""
    others = sorted({each.name for each in entry_points(group=kind.group)} - set(kind.built_in))
    return [*kind.built_in, *others]


def load(kind: Kind, name: str) -> Any:
    """Import the plug-in of a kind that has a name.

    Raises
    ------
    UserError
        There is none, two packages have one of that name, or it cannot be imported.
    """
    if name in kind.built_in:
        module, _, attribute = kind.built_in[name].partition(":")
        return getattr(import_module(f".{module}", __package__), attribute)
    found = list(entry_points(group=kind.group, name=name))
    if not found:
        near = suggest(name, names(kind))
        raise UserError(
            f"there is no {kind.what} {name!r}; {near or 'there are ' + ', '.join(names(kind))}"
        )
    if len(found) > 1:
        packages = ", ".join(str(each.dist.name if each.dist else each.value) for each in found)
        raise UserError(f"the {kind.what} {name!r} is in several packages: {packages}; keep one")
    try:
        return found[0].load()
    except Exception as error:  # what is wrong in others' modules is of every kind
        raise UserError(
            f"the {kind.what} {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
