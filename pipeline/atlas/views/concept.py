"""The page of one concept: images that hold it, what the network and the labels say of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ...analysis import kind_words, sureness
from ...tables.concept_labels import LEVEL
from ..catalogue import Catalogue
from ..charts import Chart, Series, bars, histogram, line_chart
from ..formats import NOTHING, Row, count, fixed, p_value, percent, points, signed
from ..page import Material, Page

NULL_BAND = 1.96  # |z| that 95 % of real positions stay below, class by class
SLIDER_TOP = 2.0  # gauge units, twice as strong as is typical
_N_CLASSES, _N_LABELS, _N_NEAR = 8, 8, 5

_KINDS = (
    ("strongest", "Strongest", "the images in which it is strongest"),
    ("diverse", "Diverse", "strong too, and unlike those above in their other concepts"),
    ("borderline", "Borderline", "just above the presence threshold"),
    ("random", "Random", "drawn from all images that hold it"),
)


def pages(material: Material) -> Iterator[Page]:
    """Give a page for each concept."""
    for each in material.book.concepts:
        make = partial(concept_view, material.book, each)
        yield Page(f"concepts/{each}.html", make, "concept.html")


def concept_view(book: Catalogue, concept_id: int) -> dict[str, Any]:
    """Everything the page of a concept shows."""
    concept = book.concepts[concept_id]
    ids = list(book.concepts)
    at = ids.index(concept_id)
    strengths = book.strengths[concept_id]
    return {
        "id": concept_id,
        "name": book.name(concept_id),
        "kind": kind_words.kind_of(concept),
        "meaning": kind_words.in_words(concept),
        "unsure": sureness.in_words(concept) if sureness.is_unsure(concept) else "",
        "concept": concept,
        "threshold": concept["presence_threshold"],
        "slider": slider(concept["presence_threshold"]),
        "facts": _facts(concept),
        "histogram": histogram(
            strengths.counts, strengths.top, concept["presence_threshold"] or 0.0
        ),
        "n_images": book.n_images,
        "galleries": _galleries(book, concept_id),
        "classes": [
            (source, words, _class_bars(book, concept_id, source))
            for source, words in (
                ("context", "The activations where it stands"),
                ("direction", "Its direction alone"),
            )
        ],
        "class_pages": book.class_names,
        "speaker": book.data.speaker,
        "labels": _labels(book, concept_id),
        "summary": _in_words(book, concept),
        "near": _others(book, concept_id, "cosine"),
        "together": _others(book, concept_id, "jaccard"),
        "curves": _curves(book.curves.get(concept_id, [])),
        "query": query(concept_id),
        "previous": ids[at - 1],
        "next": ids[(at + 1) % len(ids)],
    }


def query(concept_id: int) -> str:
    """Python that lists the images of a concept, and the SQL behind it."""
    return (
        f"run.images_with({concept_id}, limit=50)\n\n"
        "run.sql(\n"
        '    "select image_id, max, area, contribution from image_concepts "\n'
        f'    "where concept_id = {concept_id} order by max desc limit 50"\n'
        ")"
    )


def slider(threshold: float | None) -> dict[str, str]:
    """Range and step of the threshold slider, in gauge units; it starts at the run's threshold."""
    value = min(threshold or 0.0, SLIDER_TOP)
    return {"max": f"{SLIDER_TOP:g}", "step": "0.01", "value": f"{value:.2f}"}


def _facts(concept: Row) -> list[tuple[str, str, str]]:
    """(name, value, what it means)"""
    return [
        ("Images", count(concept["n_images"]), "hold it somewhere"),
        ("Coverage", percent(concept["coverage"]), "of all positions hold it"),
        ("Energy", percent(concept["energy"]), "of the activations’ squared norm"),
        ("Stability", fixed(concept["stability"]), "cosine with its match on other images"),
        *(_sureness(concept) if concept.get("reappears") is not None else ()),
        *(_of_the_head(concept) if concept["top_label"] is not None else ()),
        ("Threshold", fixed(concept["presence_threshold"]), _threshold(concept)),
    ]


def _sureness(concept: Row) -> list[tuple[str, str, str]]:
    low, high = fixed(concept["reappears_low"]), fixed(concept["reappears_high"])
    hint = f"fits on other images; cosine with its match {low} to {high} in 9 of 10"
    return [("Comes back", f"{sureness.times(concept)}", hint)]


def _of_the_head(concept: Row) -> list[tuple[str, str, str]]:
    return [
        ("Importance", signed(concept["importance"]), "logits of the predicted class"),
        ("Deleting it", _points(concept["deletion_effect"], -1), "probability, where it stands"),
        ("It alone", _points(concept["insertion_effect"], 1), "probability, where it stands"),
    ]


def _threshold(concept: Row) -> str:
    return f"strength from which it is present; {concept['threshold_reason']}"


def _in_words(book: Catalogue, concept: Row) -> list[str]:
    """What the dataset's labels say of the concept as a whole, in sentences."""
    said = []
    if concept.get("dataset_label") is not None:
        name = book.label_name(str(concept["dataset_label"]))
        share, lift = percent(concept["dataset_precision"]), fixed(concept["dataset_lift"], 1)
        same = concept.get("labels_agree")
        agree = (
            ""
            if same is None
            else ", as the network does"
            if same
            else ", the network with another"
        )
        said.append(
            f"It goes most with the label {name}{agree}, which {share} of the images that hold it"
            f" have: {lift} times as many as of all images."
        )
    if concept.get("error_excess") is not None:
        said.append(errors_in_words(concept))
    return said


def errors_in_words(concept: Row) -> str:
    """Say whether the network errs more or less often where the concept is, if that is clear."""
    excess = float(concept["error_excess"])
    low, high = points(concept["error_ci_low"]), points(concept["error_ci_high"])
    q_value = p_value(concept["error_q"])
    q = f"q {q_value if q_value.startswith('<') else '= ' + q_value}"
    if concept["error_q"] is None or concept["error_q"] > LEVEL:
        return (
            "Within labels it is not clear that the network errs more or less often where it is"
            f" present: the difference of {points(excess)} percentage points (by itself, 95 %"
            f" interval {low} to {high}) does not stand out among those of all concepts ({q})."
        )
    return (
        f"Within labels, the network errs {fixed(100 * abs(excess), 0)} percentage points"
        f" {'more' if excess > 0 else 'less'} often where it is present than where it is not (95 %"
        f" interval {low} to {high}, {q})."
    )


def _points(effect: float | None, sign: int) -> str:
    """Write a change of probability in percentage points."""
    return NOTHING if effect is None else f"{points(sign * effect)} points"


def _galleries(book: Catalogue, concept_id: int) -> list[dict[str, Any]]:
    examples = book.examples[concept_id]
    column = book.presence.column(concept_id)
    made = []
    for kind, title, hint in _KINDS:
        ids: tuple[int, ...] = getattr(examples, kind)
        shots = [
            {
                "image": book.images[image_id],
                "caption": book.captions[image_id],
                "max": float(book.presence.peak[book.presence.row(image_id), column]),
                "area": float(book.presence.area[book.presence.row(image_id), column]),
            }
            for image_id in ids
        ]
        made.append({"kind": kind, "title": title, "hint": hint, "shots": shots})
    return made


def _class_bars(book: Catalogue, concept_id: int, source: str) -> dict[str, Any] | None:
    """Bars of the best classes: z where it is known, else probability."""
    found = book.classes.get(concept_id, [])
    best = [each for each in found if each["source"] == source][:_N_CLASSES]
    if not best:
        return None
    scored = all(each["z"] is not None for each in best)
    values = [float((each["z"] if scored else each["prob"]) or 0.0) for each in best]
    made, zero = bars(values, least=NULL_BAND if scored else 1.0) if scored else bars(values)
    per_unit = made[0].width / abs(values[0]) if values[0] else 0.0
    return {
        "rows": list(zip(best, made, strict=True)),
        "zero": zero,
        # z of probabilities, most of them near 0, are not spread as a normal distribution.
        "band": round(NULL_BAND * per_unit, 2) if scored and not book.data.is_multi_label else None,
        "scored": scored,
    }


def _labels(book: Catalogue, concept_id: int) -> list[Row]:
    """The dataset's labels that the concept tells most about."""
    held = [each for each in book.labels.get(concept_id, []) if each["n"]]

    def told(each: Row) -> float:
        return (each["precision"] or 0.0) * (each["recall"] or 0.0)

    best = sorted(held, key=lambda each: (-told(each), str(each["label"])))[:_N_LABELS]
    return [{**each, "name": book.label_name(str(each["label"]))} for each in best]


def _others(book: Catalogue, concept_id: int, measure: str) -> list[dict[str, Any]]:
    """The concepts that go best with this one, by a column of concept_pairs."""
    known = [
        each
        for each in book.pairs.get(concept_id, [])
        if each[measure] is not None and each[measure] > 0 and each["other"] in book.concepts
    ]
    best = sorted(known, key=lambda each: (-each[measure], each["other"]))[:_N_NEAR]
    return [
        {
            "id": each["other"],
            "name": book.name(each["other"]),
            "value": fixed(each[measure]),
            "has_crops": bool(book.examples[each["other"]].strongest),
        }
        for each in best
    ]


def _curves(found: list[Row]) -> list[tuple[str, Chart]]:
    """Measures of the concept by level, such as the effect of deleting more and more of it."""
    made = []
    for metric in sorted({str(each["metric"]) for each in found}):
        at = [each for each in found if each["metric"] == metric and each["class_id"] is None]
        lines = [Series("this concept", [(each["level"], each["value"]) for each in at])]
        known = [each for each in at if each["baseline"] is not None]
        if known:
            lines.append(Series("baseline", [(each["level"], each["baseline"]) for each in known]))
        chart = line_chart(lines)
        if chart:
            made.append((metric, chart))
    return made
