"""What a run knows of each concept that a name can be made of, and the names made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import plugins
from ..classify import top_classes
from ..errors import UserError
from ..images import Affine, upsample
from ..localize import Foreground
from ..names import Companion, Described, Label, Named, Namer, resolve
from ..names.look import SIDE, WORDS, Worded, looks, shares, worded
from ..names.place import MEASURES, Shape, measure, place_in_frame, place_in_object
from ..pictures.scale import size_within
from ..runs.pins import carried
from ..runs.workspace import Workspace
from ..system.lanes import in_order, lanes
from ..system.progress import bar
from .image_data import Entry, GoneError, ImageData
from .objects import groups_of, read_objects
from .strongest import strongest_images

N_STRONGEST = 24
"""Images of a concept that are looked at: as many as a page shows, and enough for a sign test."""

AT_ONCE = 64
"""Images whose heatmaps are read together."""

N_COMPANIONS = 5
"""Other concepts that a namer is told of, those that share the most images."""

NO_NAMER = "none"

Floats = NDArray[np.float64]
Measured = dict[int, tuple[Floats, Floats | None]]
"""Of an image, by concept: place and look, see `names.place.measure` and `names.look.shares`."""


def strongest_by_image(workspace: Workspace) -> dict[int, list[int]]:
    """Return the concepts of each image that is one of their `N_STRONGEST` strongest."""
    concepts, _, images = strongest_images(workspace, N_STRONGEST)
    found: dict[int, list[int]] = {}
    for image_id, concept in zip(images.tolist(), concepts.tolist(), strict=True):
        found.setdefault(image_id, []).append(concept)
    return found


def describe(
    workspace: Workspace,
    by_image: Mapping[int, Sequence[int]],
    labels: pd.DataFrame,
    pairs: pd.DataFrame,
    verdicts: pd.DataFrame | None = None,
) -> list[Described]:
    """Say of each concept what a namer is told.

    Images are read again for their pixels; those that are gone tell no colours.

    Parameters
    ----------
    workspace : Workspace
    by_image : mapping of int to sequence of int
        As `strongest_by_image` gives it.
    labels, pairs : DataFrame
        The tables ``concept_labels`` and ``concept_pairs``.
    verdicts : DataFrame, optional
        A row per concept: ``kind`` and ``group``, null where they are not known.
    """
    k = workspace.bank.k
    places: list[list[Floats]] = [[] for _ in range(k)]
    seen: list[list[Floats]] = [[] for _ in range(k)]
    for measured in _measure(workspace, by_image).values():
        for concept, (place, look) in measured.items():
            places[concept].append(place)
            seen[concept] += [] if look is None else [look]
    of_label, others = _labels(workspace, labels), _companions(pairs)
    found = []
    for concept in range(k):
        rows = np.array(places[concept]).reshape(-1, len(MEASURES))
        kind, group = (None, None) if verdicts is None else _verdict(verdicts, concept)
        found.append(
            Described(
                concept_id=concept,
                labels=tuple(of_label.get(concept, ())),
                place=place_in_object(rows),
                frame=place_in_frame(rows),
                looks=looks(np.array(seen[concept]).reshape(-1, 2, len(WORDS))),
                companions=tuple(others.get(concept, ())),
                kind=kind,
                group=group,
            )
        )
    return found


def name_concepts(workspace: Workspace, described: Sequence[Described]) -> list[Named | None]:
    """Name concepts by the run's namer; what people named keeps its name (`names.resolve`).

    Raises
    ------
    UserError
        There is no such namer, or what it gives are no names.
    """
    by_namer: dict[int, Named] = {}
    if workspace.config.namer != NO_NAMER:
        namer: Namer = plugins.load(plugins.NAMERS, workspace.config.namer)
        given = namer(described)
        _check(workspace.config.namer, given, len(described))
        by_namer = {concept: each for concept, each in enumerate(given) if each is not None}
    by_people = carried(workspace)
    for each in by_people.lost:
        workspace.tell(f"names      {each}")
    return resolve({"human": by_people.named, "namer": by_namer}, workspace.bank.k)


def _check(name: str, given: object, k: int) -> None:
    """Refuse what a namer gives that is no answer for each concept."""
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    wrong = [] if is_list else [given]
    for each in given if isinstance(given, Sequence) else ():
        texts = [one.text for one in each.ranked] if isinstance(each, Named) else []
        if each is not None and not (texts and all(isinstance(x, str) and x for x in texts)):
            wrong.append(each)
    if wrong or not isinstance(given, Sequence) or len(given) != k:
        n = f"{len(given)} answers" if isinstance(given, Sequence) else type(given).__name__
        first = f", such as {wrong[0]!r}" if wrong else ""
        raise UserError(
            f"the namer {name!r} gave {n} for {k} concepts{first}; it has to give one for each:"
            " None, or Named with one name or more"
        )


@dataclass
class _Pictures:
    """The pictures of a run as words, as long as they can be read.

    Where the dataset's place does not answer, it is not asked again: names need no pictures.
    """

    images: ImageData
    trouble: list[str] = field(default_factory=list)

    def of(self, image_id: int) -> Worded | None:
        """Return a picture, or None where it is gone."""
        if self.trouble:
            return None
        try:
            return worded(self.images.pixels(image_id, SIDE))
        except GoneError:
            return None
        except UserError as error:
            self.trouble.append(str(error))
            return None


def _measure(workspace: Workspace, by_image: Mapping[int, Sequence[int]]) -> dict[int, Measured]:
    """Measure concepts in images, by image in the order of the shards."""
    images, foreground = ImageData(workspace), read_objects(workspace).coarse
    pictures = _Pictures(images)
    ids = np.array([*by_image], dtype=np.int64)
    ids = ids[workspace.listing.places(ids).argsort(kind="stable")]

    def measured(image: tuple[int, Entry]) -> Measured:
        image_id, entry = image
        object_map = _object_map(workspace, foreground, image_id, entry)
        return _measure_image(
            workspace, entry, object_map, foreground.threshold, by_image[image_id],
            pictures.of(image_id),
        )  # fmt: skip

    found: dict[int, Measured] = {}
    with bar("names", len(ids), "images") as shown, lanes() as pool:
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE].tolist()
            entries = list(zip(some, images.fetch(some), strict=True))
            for image_id, each in zip(some, in_order(pool, measured, entries), strict=True):
                found[image_id] = each
                shown.update()
    if pictures.trouble:
        workspace.log(f"export: names without colours, from some image on: {pictures.trouble[0]}")
    return found


def _object_map(
    workspace: Workspace, foreground: Foreground, image_id: int, entry: Entry
) -> NDArray[np.float32]:
    """Return foreground strength on the layer's grid, float32 (h, w)."""
    groups = groups_of(workspace, np.array([image_id]), top_classes(entry["logits"][None]))
    strength: NDArray[np.float32] = foreground.maps(entry["H"][None].astype(np.float32), groups)[0]
    return strength


def _measure_image(
    workspace: Workspace,
    entry: Entry,
    object_map: NDArray[np.float32],
    object_from: float,
    concepts: Sequence[int],
    picture: Worded | None,
) -> Measured:
    width, height = entry["size"].tolist()
    size = size_within(width, height, SIDE)[::-1] if picture is None else picture.colour.shape
    H = np.moveaxis(entry["H"][..., list(concepts)], -1, 0).astype(np.float32)
    maps = np.concatenate([H, object_map[None]])
    affine = Affine(*entry["affine"].tolist())
    *strengths, objects = upsample(maps, workspace.grid, affine, (width, height), size)
    shape = Shape(~np.isnan(objects) & (objects >= object_from))
    thresholds = workspace.bank.thresholds
    return {
        concept: (
            measure(strength, shape, thresholds[concept]),
            None if picture is None else shares(picture, strength, thresholds[concept]),
        )
        for concept, strength in zip(concepts, strengths, strict=True)
    }


def _labels(workspace: Workspace, rows: pd.DataFrame) -> dict[int, list[Label]]:
    """Return the labels of each concept by falling φ, as they are shown."""
    classes, names = workspace.class_of_label, workspace.class_names
    found: dict[int, list[Label]] = {}
    order = ["concept_id", "phi", "label"]
    for row in rows.sort_values(order, ascending=[True, False, True]).to_dict("records"):
        label = str(row["label"])
        shown = names[classes[label]] if label in classes else label
        numbers = [row[each] for each in ("phi", "association_q", "precision", "recall", "lift")]
        each = Label(shown, int(row["n"]), *map(float, numbers))
        found.setdefault(int(row["concept_id"]), []).append(each)
    return found


def _companions(pairs: pd.DataFrame) -> dict[int, list[Companion]]:
    """Return the concepts that share the most images with each."""
    a, b = ("concept_a", "concept_b"), ("concept_b", "concept_a")
    both = pd.concat(
        [pairs.rename(columns=dict(zip(each, ("one", "other"), strict=True))) for each in (a, b)]
    ).sort_values(["one", "jaccard", "other"], ascending=[True, False, True])
    found: dict[int, list[Companion]] = {}
    for row in both.groupby("one", sort=False).head(N_COMPANIONS).to_dict("records"):
        companion = Companion(int(row["other"]), float(row["jaccard"]), float(row["cooccurrence"]))
        found.setdefault(int(row["one"]), []).append(companion)
    return found


def _verdict(verdicts: pd.DataFrame, concept: int) -> tuple[str | None, str | None]:
    """Return kind and group; a group where the claim holds."""
    kind, group = verdicts[["kind", "group"]].iloc[concept]
    return (None if pd.isna(kind) else str(kind)), (
        str(group) if kind in ("class", "group") and isinstance(group, str) else None
    )
