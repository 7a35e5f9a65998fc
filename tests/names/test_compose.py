"""Names that are composed: which labels they name, what they say, and when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline.names import (
    Companion,
    Described,
    Frame,
    Label,
    Look,
    Name,
    Named,
    Place,
    compose,
    label_sets,
    resolve,
)
from pipeline.names.compose import LENGTH
from pipeline.tables import label_rows

NOWHERE = Place((), 24, (), 1.0, 0.3, 0.5, 0.5, 0.5, 0.3)
UNFRAMED = Frame("", 24, 0.5, 0.5)


def concept(
    labels: Sequence[Label] = (),
    words: tuple[str, ...] = (),
    looks: tuple[str, ...] = (),
    **others: object,
) -> Described:
    place = replace(NOWHERE, words=words, agreeing=(20,) * len(words))
    said = tuple(Look(each, 20, 24, 0.8, 0.1) for each in looks)
    return replace(Described(0, tuple(labels), place, UNFRAMED, said, ()), **others)  # type: ignore[arg-type]


def labels_of(holds: NDArray[np.bool_], labels: Sequence[str]) -> list[Label]:
    """The rows that a run would have of one concept."""
    frame = label_rows(holds[:, None], [(each,) for each in labels], np.full(len(labels), np.nan))
    columns = ("n", "phi", "association_q", "precision", "recall", "lift")
    return [
        Label(str(row["label"]), int(row["n"]), *(float(row[each]) for each in columns[1:]))
        for row in frame.to_dict("records")
    ]


def planted(shares: dict[str, float], n: int = 30) -> list[Label]:
    """Labels of n images each, of which these shares hold the concept."""
    labels = [label for label in shares for _ in range(n)]
    holds = np.concatenate([np.arange(n) < round(share * n) for share in shares.values()])
    return labels_of(holds, labels)


VEHICLES = {"car": 0.97, "truck": 0.9, "train": 0.93, "duck": 0.05, "fish": 0.1, "yacht": 0.04}


def text(described: Described) -> str | None:
    (found,) = compose([described])
    return None if found is None else found.ranked[0].text


def test_the_set_of_labels_is_the_one_of_the_largest_phi_of_all_sets() -> None:
    rng = np.random.default_rng(3)
    labels = [label for label in VEHICLES for _ in range(30)]
    holds = rng.random(len(labels)) < np.array([VEHICLES[each] for each in labels])
    best = label_sets(labels_of(holds, labels))[0]
    phis: dict[tuple[str, ...], float] = {
        names: pd.Series(holds).corr(pd.Series([each in names for each in labels]).astype(float))
        for n in range(1, 6)
        for names in combinations(VEHICLES, n)
    }
    assert set(best.labels) == set(max(phis.items(), key=itemgetter(1))[0])
    assert best.phi == pytest.approx(max(phis.values()))
    member = np.array([each in best.labels for each in labels])
    assert best.precision == pytest.approx(member[holds].mean())
    assert best.recall == pytest.approx(holds[member].mean())


def test_names_say_place_look_and_labels() -> None:
    several, one = planted(VEHICLES), planted({"tench": 0.95, "dog": 0.02, "car": 0.05})
    assert text(concept(several, ("low",))) == "low, in car · train · truck"
    assert text(concept(several, ("low",), ("black",))) == "low, black, in car · train · truck"
    assert text(concept(several)) == "in car · train · truck"
    assert text(concept(one, ("left side",))) == "tench: left side"
    assert text(concept(one, ("all of it",))) == "tench"
    assert text(concept(one, (), ("green", "smooth"))) == "tench: green, smooth"
    assert text(concept(one, ("background",), ("blue",))) == "blue, behind tench"
    assert text(concept(one, ("low", "both sides"))) == "tench: low, both sides"


def test_without_labels_names_say_place_and_look() -> None:
    assert text(concept(words=("top",))) == "top of the object"
    assert text(concept(words=("low",), looks=("black",))) == "low in the object, black"
    assert text(concept(words=("rim",))) == "rim of the object"
    assert text(concept(words=("all of it",), looks=("grey",))) == "all of the object, grey"
    assert text(concept(words=("background",), looks=("blue",))) == "blue background"
    framed = concept(words=("background",), frame=Frame("top left", 24, 0.1, 0.1))
    assert text(framed) == "background, top left of the picture"
    assert text(concept(looks=("green", "striped"))) == "green, striped"


def test_there_is_no_name_where_evidence_is_thin() -> None:
    assert text(concept()) is None
    assert text(concept(looks=("green",))) is None
    assert text(concept(planted({"a": 0.5, "b": 0.5, "c": 0.5}))) is None
    assert text(concept(kind="place")) is None
    assert text(concept(words=("background",))) is None


def test_random_labels_give_no_names() -> None:
    rng = np.random.default_rng(5)
    named = 0
    for _ in range(60):
        labels = rng.choice([*"abcdefghij"], 300).tolist()
        named += text(concept(labels_of(rng.random(300) < 0.3, labels))) is not None
    assert named == 0


def test_weak_labels_are_not_named_however_sure_they_are() -> None:
    weak = planted({"a": 0.6, "b": 0.4, "c": 0.4, "d": 0.4}, n=1000)
    assert min(each.q for each in weak) < 1e-6
    assert text(concept(weak)) is None


def test_the_networks_class_or_group_goes_first() -> None:
    cars = planted(VEHICLES)
    (found,) = compose([concept(cars, ("low",), kind="group", group="vehicles")])
    assert found is not None
    assert [each.text for each in found.ranked][:2] == [
        "vehicles: low", "low, in car · train · truck"
    ]  # fmt: skip
    assert "vehicles" in found.evidence
    assert text(concept(cars, ("low",), kind="shared", group="vehicles")) == text(
        concept(cars, ("low",))
    )


def test_background_is_behind_the_group_it_stands_with() -> None:
    thing = concept(kind="group", group="parachutes")
    near, far = Companion(0, 0.7, 0.3), Companion(0, 0.2, 0.3)
    for companion, expected in ((near, "blue, behind parachutes"), (far, "blue background")):
        behind = concept(
            words=("background",), looks=("blue",), concept_id=1, companions=(companion,)
        )
        found = compose([thing, behind])[1]
        assert found is not None
        assert found.ranked[0].text == expected


def test_places_of_the_picture_are_called_so() -> None:
    strip = concept(kind="place", frame=Frame("top", 24, 0.5, 0.05), words=("top",))
    assert text(strip) == "top of the picture"


def texts(*described: Described) -> list[str | None]:
    found = compose([replace(each, concept_id=at) for at, each in enumerate(described)])
    return [None if each is None else each.ranked[0].text for each in found]


def at(down: float = 0.5, right: float = 0.5, cover: float = 0.3) -> Described:
    low = concept(words=("low",), looks=("grey",))
    return replace(low, place=replace(low.place, down=down, right=right, cover=cover))


def test_like_names_are_told_apart_by_what_is_different() -> None:
    name = "low in the object, grey"
    assert texts(at(0.7), at(0.9)) == [f"{name} (higher)", f"{name} (lower)"]
    assert texts(at(right=0.7), at(right=0.2)) == [
        f"{name} (further right)", f"{name} (further left)"
    ]  # fmt: skip
    assert texts(at(0.7, cover=0.2), at(0.75, cover=0.5)) == [
        f"{name} (smaller)", f"{name} (larger)"
    ]  # fmt: skip
    assert texts(at(0.6), at(0.9, 0.3), at(0.9, 0.5)) == [
        f"{name} (higher)", f"{name} (lower, further left)", f"{name} (lower, further right)"
    ]  # fmt: skip


def test_what_is_the_same_keeps_one_name() -> None:
    name = "low in the object, grey"
    assert texts(at(0.7), at(0.75)) == [name, name]
    assert texts(at(np.nan), at(0.75)) == [name, name]
    assert texts(at(0.5), at(0.95), at(0.97)) == [
        f"{name} (higher)", f"{name} (lower)", f"{name} (lower)"
    ]  # fmt: skip
    assert texts(at(0.6)) == [name]


def test_background_is_told_apart_by_the_picture() -> None:
    behind = concept(words=("background",), looks=("blue",))
    above, below = (replace(behind, frame=Frame("", 24, 0.5, y)) for y in (0.2, 0.8))
    assert texts(above, below) == ["blue background (higher)", "blue background (lower)"]


def test_what_stands_at_one_place_of_the_picture_is_said_to_stand_there() -> None:
    stamp = Frame("bottom left", 24, 0.1, 0.9, is_fixed=True)
    assert text(concept(words=("all of it",), frame=stamp)) == "bottom left of the picture"
    horse = planted({"horse": 0.95, "dog": 0.02, "car": 0.05})
    name = text(concept(horse, ("low",), frame=stamp))
    assert name == "horse: bottom left of the picture"


def test_alternatives_are_other_sets_of_labels() -> None:
    (found,) = compose([concept(planted(VEHICLES), ("low",))])
    assert found is not None
    assert 1 < len(found.ranked) <= 3
    assert found.ranked[0].labels == ("car", "train", "truck")
    assert len({each.labels for each in found.ranked}) == len(found.ranked)


def test_long_and_hostile_labels_stay_short_and_in_one_line() -> None:
    names = {f"<b>{each}</b>\n\u202e" + "x" * 60: 0.95 for each in "abcdef"} | {
        f"other {each}": 0.02 for each in range(9)
    }
    (found,) = compose([concept(planted(names), ("low", "both sides"), ("fine texture",))])
    assert found is not None
    for each in found.ranked:
        assert len(each.text) <= LENGTH + 10
        assert "\n" not in each.text
    assert "+" in found.ranked[0].text
    assert len(found.ranked[0].labels) == 6


def test_no_name_is_without_evidence() -> None:
    frame, near = Frame("top", 20, 0.5, 0.125), Companion(0, 0.7, 0.3)
    thing = concept(kind="group", group="parachutes")
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"kind": "background", "frame": frame}, "12% from the top of the picture"),
        ({"kind": "place", "frame": frame}, "medians over 20 images"),
        ({"frame": replace(frame, is_fixed=True)}, "one place of the picture in 20 images"),
        ({"kind": "background", "companions": (near,), "concept_id": 1}, "in 70% of the images"),
    )
    for given, said in cases:
        found = compose([thing, concept(**given)])[1]
        assert found is not None
        assert said in found.evidence


def test_evidence_has_the_numbers() -> None:
    (found,) = compose([concept(planted(VEHICLES), ("low",), ("black",))])
    assert found is not None
    for each in ("low in 20 of the 24", "black in 20 of 24 (80% of the place, 10% of", "φ 0."):
        assert each in found.evidence
    assert found.evidence.endswith(".")


def test_what_people_say_goes_before_what_a_namer_says() -> None:
    by_namer = {0: Named((Name("low"),), ""), 1: Named((Name("top"),), "")}
    human = {1: Named((Name("wheel"),), "")}
    found = resolve({"namer": by_namer, "human": human}, 3)
    assert [each and each.ranked[0].text for each in found] == ["low", "wheel", None]
    with pytest.raises(ValueError, match="names from oracle, which is none of human, namer"):
        resolve({"oracle": human}, 3)
