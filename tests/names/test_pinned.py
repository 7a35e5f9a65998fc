"""Names that people give: kept whole, and found again in another fit or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.names import pinned
from pipeline.names.pinned import LONGEST, carry, check_name, pin, read, read_plain, write

SPACE = pinned.space_of("net", "layer", "weights", "none")


def concepts(k: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((40, k)).astype(np.float32) ** 6


def words(found: pinned.Carried) -> dict[int, str]:
    return {concept: each.ranked[0].text for concept, each in found.named.items()}


def test_the_same_fit_keeps_its_names() -> None:
    W = concepts(5)
    found = carry([pin(3, "wheel", W, SPACE), pin(0, "sky", W, SPACE)], W, SPACE)
    assert words(found) == {3: "wheel", 0: "sky"}
    assert found.lost == ()
    assert {each.evidence for each in found.named.values()} == {"Named by hand."}


def test_another_fit_of_the_same_concepts_has_them_whatever_their_order_and_scale() -> None:
    W = concepts(6)
    order = np.array([4, 2, 0, 5, 1, 3])
    again = W[:, order] * np.linspace(0.5, 4, 6, dtype=np.float32) + 1e-3
    found = carry([pin(each, f"c{each}", W, SPACE) for each in range(6)], again, SPACE)
    assert words(found) == {at: f"c{each}" for at, each in enumerate(order)}
    assert all("of another fit, cosine " in each.evidence for each in found.named.values())


def test_a_concept_that_is_gone_gives_its_name_to_no_other() -> None:
    W, others = concepts(6), concepts(6, seed=1)
    found = carry([pin(2, "wheel", W, SPACE)], others, SPACE)
    assert not found.named
    (said,) = found.lost
    assert said.startswith("'wheel' is no concept here (nearest: ")


def test_two_names_do_not_go_to_one_concept() -> None:
    W = concepts(3)
    twin = np.stack([W[:, 0], W[:, 0] + 0.01, W[:, 1]], 1)
    pins = [pin(0, "first", twin, SPACE), pin(1, "second", twin, SPACE)]
    found = carry(pins, W, SPACE)
    assert len(found.named) == len(found.lost) == 1
    assert set(found.named) == {0}


def test_a_name_of_this_fit_goes_before_one_of_another() -> None:
    W = concepts(4)
    again = W[:, ::-1].copy()
    found = carry([pin(0, "old", W, SPACE), pin(3, "new", again, SPACE)], again, SPACE)
    assert words(found) == {3: "new"}
    assert found.lost == ("'old' would be concept 3, which is called 'new'",)


def test_other_networks_and_layers_have_nothing_to_do_with_it() -> None:
    W = concepts(4)
    other = pinned.space_of("net", "another layer", "weights", "none")
    for W_there, space in ((W * 2, other), (concepts(4)[:30], SPACE)):
        found = carry([pin(1, "wheel", W, SPACE)], W_there, space)
        assert not found.named
        assert found.lost == ("'wheel' names a concept of another network, layer or transform",)


@given(
    name=st.text(min_size=1, max_size=LONGEST),
    concept=st.integers(0, 4),
)
def test_what_is_written_is_read(name: str, concept: int) -> None:
    W = concepts(5)
    try:
        made = pin(concept, name, W, SPACE)
    except UserError:
        return
    (found,) = read(write([made]), "names.csv")
    assert (found.concept_id, found.name) == (concept, name.strip())
    assert (found.fit, found.space) == (made.fit, made.space)
    assert np.allclose(found.direction, made.direction, atol=1e-3)


def test_no_spreadsheet_takes_a_name_for_a_formula() -> None:
    made = pin(0, "=1+1", concepts(2), SPACE)
    assert "\n0,'=1+1," in write([made])
    assert read(write([made]), "names.csv")[0].name == "=1+1"


def test_names_that_people_write_down_are_of_this_run() -> None:
    W = concepts(5)
    found = read_plain("concept_id,name\n4,wheel\n1,sky\n", "mine.csv", W, SPACE)
    assert found is not None
    assert words(carry(found, W, SPACE)) == {4: "wheel", 1: "sky"}
    assert read_plain(write(found), "names.csv", W, SPACE) is None
    with pytest.raises(UserError, match=r"mine.csv, line 2: there is no concept 5; there are 5"):
        read_plain("concept_id,name\n5,wheel\n", "mine.csv", W, SPACE)


@pytest.mark.parametrize(("text", "said"), [
    ("concept_id,name\n0,a\n", "no column 'fit'"),
    ("", "no column 'concept_id'"),
    ("concept_id,name,fit,space,direction\nx,a,,,\n", "line 2: "),
    ("concept_id,name,fit,space,direction\n0,,,,AAAA\n", "line 2: "),
    ("concept_id,name,fit,space,direction\n0,a,f,s,***\n", "line 2: "),
    ("concept_id,name,fit,space,direction\n-1,a,f,s,ADw=\n", "line 2: "),
    ("concept_id,name,fit,space,direction\n0,a\n", "line 2: "),
])  # fmt: skip
def test_a_damaged_file_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=f"names.csv.*{said}"):
        read(text, "names.csv")


@pytest.mark.parametrize("name", ["", "  ", "a" * 81, "a\nb", "a\x1b[31m", "\u202eleft"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="a name"):
        check_name(name)


def test_a_name_is_changed_and_taken_away() -> None:
    W = concepts(3)
    pins = pinned.named_anew((), 1, "a", W, SPACE)
    pins = pinned.named_anew(pins, 0, "c", W, SPACE)
    pins = pinned.named_anew(pins, 1, "b", W, SPACE)
    assert [(each.concept_id, each.name) for each in pins] == [(0, "c"), (1, "b")]
    left = pinned.named_anew(pins, 1, "", W, SPACE)
    assert [each.name for each in left] == ["c"]


def test_no_earlier_name_comes_back() -> None:
    """A concept is named in one fit, then in the next; the third and fourth are refits."""
    fits = [concepts(6) + 1e-3 * np.random.default_rng(n).random((40, 6)) for n in range(4)]
    first, second, third, fourth = (each.astype(np.float32) for each in fits)
    pins = pinned.named_anew((), 2, "old", first, SPACE)
    pins = pinned.named_anew(pins, 4, "other", first, SPACE)
    assert words(carry(pins, second, SPACE)) == {2: "old", 4: "other"}
    pins = pinned.named_anew(pins, 2, "new", second, SPACE)
    for W in (third, fourth):
        assert carry(pins, W, SPACE).lost == ()
        assert words(carry(pins, W, SPACE)) == {2: "new", 4: "other"}
    pins = pinned.named_anew(pins, 2, "", third, SPACE)
    assert words(carry(pins, fourth, SPACE)) == {4: "other"}


def test_the_same_name_of_two_fits_is_not_lost() -> None:
    W = concepts(4)
    again = W[:, ::-1].copy()
    pins = [pin(0, "wheel", W, SPACE), pin(3, "wheel", again, SPACE)]
    assert carry(pins, again, SPACE).lost == ()
