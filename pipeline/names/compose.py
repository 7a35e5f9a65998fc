"""Our own namer: composes a name from labels, place in the object, looks and companions.

No other network is asked. Labels that a concept goes with one by one (q ≤ `LEVEL`) are ordered by
the share of their images that hold it (recall); of the sets of the first 1, 2, … of these the one
is named whose φ with the concept is largest:

    φ(S) = (N n − |S| m) / √(|S| (N − |S|) m (N − m))

N images, m that hold the concept, |S| that have a label of the set S, n that do both. Where images
have several labels, |S| and n count an image once for each: φ is then an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .apart import told_apart
from .known import MOST_NAMES, Described, Label, Name, Named

LEVEL = 0.05
"""False discovery rate at which a label goes with a concept."""

LEAST_PHI, LEAST_PRECISION = 0.4, 1 / 3
"""φ of the labels that are named, at least, and how many of a concept's images have one of them:
what goes with labels more weakly, or is in other images more often, is not named after them."""

TOGETHER = 0.5
"""Jaccard index from which on another concept is named beside this one."""

LENGTH, LABEL_LENGTH = 60, 24
"""Characters of a name, and of a label in it, about."""

BETWEEN = " · "


@dataclass(frozen=True)
class LabelSet:
    """Labels a concept goes with together: names, φ, precision and recall of the set."""

    labels: tuple[str, ...]
    phi: float
    precision: float
    recall: float


def compose(concepts: Sequence[Described]) -> list[Named | None]:
    """Name concepts by what is known of them; `pipeline.names.Namer`.

    None is for those of which nothing is known that would tell them from others: neither labels nor
    a class or group that they go with, nor a place in the object, nor a look of two words. That
    something is background is its kind, and no name by itself.
    """
    groups = {
        each.concept_id: each.group
        for each in concepts
        if each.group and each.kind in ("class", "group") and not _is_background(each)
    }
    named = [_named(each, groups) for each in concepts]
    of_object = [
        not (each.kind == "place" or _is_background(each) or each.frame.is_fixed)
        for each in concepts
    ]
    return told_apart(concepts, named, of_object)


def label_sets(labels: Sequence[Label]) -> list[LabelSet]:
    """Return the sets of labels a concept may be named after, by falling φ."""
    telling = [each for each in labels if each.q <= LEVEL and each.phi > 0 and each.n]
    telling.sort(key=lambda each: (-each.recall, -each.phi, each.label))
    found = []
    n = size = 0.0
    for count, each in enumerate(telling, 1):
        of_label, held = each.n / each.recall, each.n / each.precision
        total = each.lift * of_label / each.precision
        n, size = n + each.n, size + of_label
        spread = size * (total - size) * held * (total - held)
        phi = (total * n - size * held) / math.sqrt(spread) if spread > 0 else 0.0
        names = tuple(one.label for one in telling[:count])
        found.append(LabelSet(names, phi, min(1.0, n / held), n / size))
    kept = [each for each in found if each.phi >= LEAST_PHI and each.precision >= LEAST_PRECISION]
    return sorted(kept, key=lambda each: (-each.phi, len(each.labels)))


def _named(concept: Described, groups: Mapping[int, str]) -> Named | None:
    room = LENGTH - len(_adjectives(concept)) - len(_where(concept)) - 9
    sets = label_sets(concept.labels)
    whose = [(_joined(each.labels, room), each.labels) for each in sets]
    if group := _group_of(concept, groups):
        whose.insert(0, (_short(group, max(LABEL_LENGTH, room)), ()))
    ranked = [Name(_text(concept, who, labels), labels) for who, labels in whose]
    if not ranked and (text := _unlabelled(concept)):
        ranked = [Name(text)]
    different = tuple({each.text: each for each in ranked}.values())[:MOST_NAMES]
    return Named(different, _evidence(concept, sets)) if different else None


def _group_of(concept: Described, groups: Mapping[int, str]) -> str | None:
    """Return the class or group a concept is taken for; of background, that of what it is behind:
    of the object that it shares the most images with."""
    if not _is_background(concept):
        return groups.get(concept.concept_id)
    near = [each for each in concept.companions if each.jaccard >= TOGETHER]
    return next((groups[each.concept_id] for each in near if each.concept_id in groups), None)


def _is_background(concept: Described) -> bool:
    return concept.kind == "background" or "background" in concept.place.words


def _adjectives(concept: Described) -> str:
    return ", ".join(each.word for each in concept.looks)


def _where(concept: Described) -> str:
    """Say where in the object it is; what is all of it needs no saying.

    What stands at one place of the picture is there, whatever the object.
    """
    if concept.frame.is_fixed:
        return _in_picture(concept)
    words = () if concept.place.words == ("all of it",) else concept.place.words
    return ", ".join(words)


def _text(concept: Described, who: str, labels: tuple[str, ...]) -> str:
    """Write the name of what goes with labels, or with a class or group."""
    look = _adjectives(concept)
    if concept.kind == "place":
        return _listed(_in_picture(concept), look, f"with {who}")
    if _is_background(concept):
        return _listed(look, f"behind {who}")
    if len(labels) <= 1:
        about = _listed(_where(concept), look)
        return f"{who}: {about}" if about else who
    return _listed(_where(concept), look, f"in {who}")


def _unlabelled(concept: Described) -> str:
    """Write the name of what goes with no label; empty where too little is known."""
    look = _adjectives(concept)
    if concept.kind == "place":
        return _listed(_in_picture(concept), look)
    if _is_background(concept):
        known = look or _in_picture(concept)
        return _listed(f"{look} background".strip(), _in_picture(concept)) if known else ""
    if concept.frame.is_fixed:
        return _listed(_in_picture(concept), look)
    if concept.place.words == ("all of it",):
        return _listed("all of the object", look)
    if where := _where(concept):
        return _listed(f"{where} {'in' if where == 'low' else 'of'} the object", look)
    return look if len(concept.looks) > 1 else ""


def _in_picture(concept: Described) -> str:
    return f"{concept.frame.word} of the picture" if concept.frame.word else ""


def _listed(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _joined(labels: Sequence[str], room: int) -> str:
    """Join labels within `room` characters; what does not fit is counted."""
    shown = [_short(each, LABEL_LENGTH) for each in labels]
    for count in range(len(shown), 1, -1):
        left = len(shown) - count
        text = BETWEEN.join(shown[:count]) + (f" +{left}" if left else "")
        if len(text) <= room:
            return text
    return shown[0] + (f" +{len(shown) - 1}" if len(shown) > 1 else "")


def _short(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def _evidence(concept: Described, sets: Sequence[LabelSet]) -> str:
    """Write what a name rests on, with its numbers, in one sentence."""
    parts = [f"the class or group is the network's: {concept.group}"] if concept.group else []
    parts += [_of_labels(sets[0])] if sets else []
    place, frame = concept.place, concept.frame
    if frame.is_fixed:
        at = f"{frame.x:.0%} from the left and {frame.y:.0%} from the top"
        parts.append(f"it stands at one place of the picture in {frame.n} images, {at}")
    elif place.words:
        held = ", ".join(
            f"{word} in {n} of the {place.n} strongest images with an object"
            for word, n in zip(place.words, place.agreeing, strict=True)
        )
        parts.append(f"{held} ({place.inside:.0%} of its strength is inside, {_numbers(concept)})")
    if frame.word and not frame.is_fixed and (concept.kind == "place" or _is_background(concept)):
        at = f"{frame.x:.0%} from the left and {frame.y:.0%} from the top of the picture"
        parts.append(f"its middle is {at} (medians over {frame.n} images)")
    parts += [
        f"{each.word} in {each.n} of {each.of} ({each.here:.0%} of the place, {each.elsewhere:.0%}"
        " of elsewhere)"
        for each in concept.looks
    ]
    near = [each for each in concept.companions if each.jaccard >= TOGETHER][:1]
    parts += [
        f"concept {each.concept_id} is in {each.jaccard:.0%} of the images that hold either"
        for each in near
    ]
    sentence = "; ".join(parts)
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _of_labels(best: LabelSet) -> str:
    return (
        f"{best.precision:.0%} of the images that hold it are of {', '.join(best.labels)}, and"
        f" {best.recall:.0%} of theirs hold it (φ {best.phi:.2f})"
    )


def _numbers(concept: Described) -> str:
    place = concept.place
    if _is_background(concept):
        return f"and {place.area:.0%} of the image is object"
    return f"{place.down:.0%} of the object above it, {place.right:.0%} left of it"
