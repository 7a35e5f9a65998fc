"""One run's tables, looked up the way pages need them: by concept, by image, by class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from ..analysis import kind_words
from .data import AtlasData
from .formats import Row, rows
from .media import Box, ImageJob
from .selection import Examples, Presence, among, choose

N_CELLS = 8  # crops per concept
N_BINS = 36  # of the histogram of a concept's strength


@dataclass(frozen=True)
class Strengths:
    """Images by a concept's largest strength: their counts in equal bins from 0 to `top`."""

    top: float
    counts: list[int]


@dataclass(frozen=True)
class Catalogue:
    """What all pages share.

    Attributes
    ----------
    data : AtlasData
    presence : Presence
        Images that are shown, or were considered, × concepts.
    n_images : int
        Images of the run.
    concepts : mapping of int to dict
        Rows of the table concepts by id, ascending.
    examples : mapping of int to Examples
        Images that show each concept.
    images : mapping of int to dict
        Rows of the table images by id, of the images that have a page, by path.
    class_names : mapping of int to str
        Names of the classes that have a page.
    strengths : mapping of int to Strengths
        How strong each concept is in the images of the run.
    classes, labels, pairs, curves : mapping of int to list of dict
        Rows of concept_classes, concept_labels, concept_pairs and fidelity by concept. A pair
        appears under both its concepts, the other one under ``other``.
    regions, objects : mapping of int to list of dict
        Rows of these tables by image, of the images that have a page.
    """

    data: AtlasData
    presence: Presence
    n_images: int
    concepts: Mapping[int, Row]
    examples: Mapping[int, Examples]
    images: Mapping[int, Row]
    class_names: Mapping[int, str]
    strengths: Mapping[int, Strengths]
    classes: Mapping[int, list[Row]]
    labels: Mapping[int, list[Row]]
    pairs: Mapping[int, list[Row]]
    regions: Mapping[int, list[Row]]
    objects: Mapping[int, list[Row]]
    curves: Mapping[int, list[Row]]

    def name(self, concept_id: int) -> str:
        """A concept's name, else what it is taken for, else the label that goes with it, else its
        number; in tables of earlier versions the class that the head gives it."""
        found = kind_words.called(self.concepts[concept_id])
        return f"concept {concept_id}" if found is None else self.label_name(found)

    def label_name(self, label: str) -> str:
        """What a dataset label is called: the name of its class where it has one."""
        class_id = self.data.label_classes.get(label)
        return label if class_id is None else self.class_names.get(class_id, label)

    @cached_property
    def beside(self) -> Mapping[int, tuple[int, int]]:
        """The images before and after each image, in a ring."""
        ids = list(self.images)
        return {each: (ids[at - 1], ids[(at + 1) % len(ids)]) for at, each in enumerate(ids)}

    @cached_property
    def captions(self) -> Mapping[int, Row]:
        """What stands under an image: its label, or its path, and whether it was taken wrongly.

        By image: ``text``; ``title``, the label as it is and the path; ``taken``, what the network
        takes it for instead where its label has a class and that is another, else None.
        """
        return {image_id: self._caption(image) for image_id, image in self.images.items()}

    def _caption(self, image: Row) -> Row:
        labels, said = self.labels_of(image), image["pred_class"]
        true = self.classes_of(image)
        wrong = bool(true) and said is not None and said not in true
        names = ", ".join(map(self.label_name, labels))
        return {
            "text": names or image["path"],
            "title": f"{', '.join(labels)} · {image['path']}" if labels else image["path"],
            "taken": (image["pred_label"] or f"class {said}") if wrong else None,
        }

    def labels_of(self, image: Row) -> list[str]:
        """The dataset's labels of an image; tables of earlier versions have one at most."""
        several = image.get("labels")
        if several is None:
            several = [] if image["label"] is None else [image["label"]]
        return [str(each) for each in several]

    def classes_of(self, image: Row) -> set[int]:
        """The network's classes of an image's labels, of those that have one."""
        of = self.data.label_classes
        return {of[label] for label in self.labels_of(image) if label in of}

    def also(self, concept_id: int, n: int) -> list[str]:
        """The `n` best classes of a concept that it is not called, where it stands."""
        first = self.name(concept_id)
        said = [
            str(each["label"])
            for each in self.classes.get(concept_id, [])
            if each["source"] == "context" and each["label"] and each["label"] != first
        ]
        return list(dict.fromkeys(said))[:n]

    def jobs(self) -> list[ImageJob]:
        """One job for each image that is shown, with the crops that concepts want of it."""
        wanted: dict[int, list[int]] = {image_id: [] for image_id in self.images}
        for concept_id, examples in self.examples.items():
            for image_id in examples.strongest[:N_CELLS]:
                wanted[image_id].append(concept_id)
        return [
            ImageJob(
                image_id,
                int(self.images[image_id]["width"]),
                {each: self._box(image_id, each) for each in concept_ids},
            )
            for image_id, concept_ids in wanted.items()
        ]

    def _box(self, image_id: int, concept_id: int) -> Box:
        """The strongest region of a concept in an image, or all of the image."""
        found = [
            each for each in self.regions.get(image_id, []) if each["concept_id"] == concept_id
        ]
        if not found:
            return (
                0.0,
                0.0,
                float(self.images[image_id]["width"]),
                float(self.images[image_id]["height"]),
            )
        best = max(found, key=lambda each: each["score"])
        return float(best["x0"]), float(best["y0"]), float(best["x1"]), float(best["y1"])


def catalogue(data: AtlasData, n_examples: int, seed: int) -> Catalogue:
    """Choose what a site shows and look up all that its pages say."""
    tables, sql = data.tables, data.sql
    concepts = {
        int(each["concept_id"]): each for each in rows(_sorted(tables["concepts"], "concept_id"))
    }
    holders = {concept_id: int(each["n_images"] or 0) for concept_id, each in concepts.items()}
    examples, presence = choose(sql, holders, n_examples, seed)
    shown = among(set().union(*(each.all() for each in examples.values())) if examples else set())
    images = rows(sql(f"select * from images where {shown} order by path, image_id"))
    return Catalogue(
        data=data,
        presence=presence,
        n_images=int(sql("select count(*) as n from images")["n"].iloc[0]),
        concepts=concepts,
        examples=examples,
        images={int(each["image_id"]): each for each in images},
        class_names=_class_names(data),
        strengths=_histograms(data, list(concepts)),
        classes=_grouped(_sorted(tables["concept_classes"], "rank"), "concept_id"),
        labels=_grouped(tables["concept_labels"], "concept_id"),
        pairs=_pairs(tables["concept_pairs"]),
        regions=_grouped(sql(f"select * from regions where {shown} order by all"), "image_id"),
        objects=_grouped(
            sql(f"select * from objects where {shown} order by image_id, area desc, y0, x0"),
            "image_id",
        ),
        curves=_grouped(_curves(tables["fidelity"]), "concept_id"),
    )


def _histograms(data: AtlasData, concept_ids: list[int]) -> dict[int, Strengths]:
    """Count the images by each concept's largest strength; those without it are not counted."""
    table = data.sql(
        "with tops as (select concept_id, max(max) as top from image_concepts where max > 0"
        f" group by all) select concept_id, top, least(floor(max / top * {N_BINS}),"
        f" {N_BINS - 1})::int as bin, count(*) as n from image_concepts join tops"
        " using (concept_id) where max > 0 group by all order by all"
    )
    found = {each: Strengths(1.0, [0] * N_BINS) for each in concept_ids}
    for each in rows(table):
        concept_id = int(each["concept_id"])
        counts = found[concept_id].counts
        counts[int(each["bin"])] = int(each["n"])
        found[concept_id] = Strengths(float(each["top"]), counts)
    return found


def _class_names(data: AtlasData) -> dict[int, str]:
    """Classes that some image is predicted as, or that some concept is named after."""
    predicted = data.sql(
        "select distinct pred_class as number, pred_label as name from images order by all"
    )
    named = data.tables["concepts"][["top_class", "top_label"]].drop_duplicates()
    names: dict[int, str] = {}
    for each in [*rows(predicted), *rows(named.set_axis(["number", "name"], axis=1))]:
        number, name = each["number"], each["name"]
        if number is not None and (name or int(number) not in names):
            names[int(number)] = str(name or f"class {int(number)}")
    return dict(sorted(names.items()))


def _curves(fidelity: pd.DataFrame) -> pd.DataFrame:
    known = fidelity["concept_id"].notna() & fidelity["level"].notna() & fidelity["value"].notna()
    return _sorted(fidelity[known], "level")


def _pairs(table: pd.DataFrame) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for each in rows(table):
        a, b = int(each["concept_a"]), int(each["concept_b"])
        if a != b:
            found.setdefault(a, []).append({**each, "other": b})
            found.setdefault(b, []).append({**each, "other": a})
    return found


def _grouped(table: pd.DataFrame, column: str) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for each in rows(table):
        found.setdefault(int(each[column]), []).append(each)
    return found


def _sorted(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table.sort_values(column, kind="stable")
