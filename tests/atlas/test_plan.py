"""What a site shows, before a page is drawn: selection, map, charts, numbers as text."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.atlas import formats
from pipeline.atlas.catalogue import catalogue
from pipeline.atlas.charts import Series, bars, histogram, line_chart, waterfall
from pipeline.atlas.class_facts import class_facts
from pipeline.atlas.layout import concept_map, label_places
from pipeline.atlas.media import square_around
from pipeline.atlas.selection import POOL, Examples, choose
from pipeline.atlas.views.classes import class_view
from pipeline.atlas.views.image import image_view
from pipeline.atlas.views.overview import overview
from tests.atlas.fixture import NOTHING, ask, synthetic

Tables = dict[str, pd.DataFrame]
Floats = npt.NDArray[np.float32]
LEVEL = 0.4


def strengths(n: int, k: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.random((n, k)) * (rng.random((n, k)) < 0.5)).astype(np.float32)


def table_of(peak: Floats, mean: Floats | None = None) -> pd.DataFrame:
    """The rows of image_concepts where these are the largest strengths, (images, concepts)."""
    image, concept = np.nonzero(peak)
    ids = np.sort(np.random.default_rng(1).choice(2**62, len(peak), replace=False))
    strong = peak[image, concept]
    return pd.DataFrame(
        {
            "image_id": ids[image],
            "concept_id": concept,
            "mean": (peak if mean is None else mean)[image, concept],
            "max": strong,
            "area": np.where(strong >= LEVEL, strong / 3, 0),
            "peak_x": 0,
            "peak_y": 0,
            "contribution": None,
        }
    )


def choose_from(table: pd.DataFrame, k: int, n: int, seed: int) -> dict[int, Examples]:
    holders = {
        each: int((table.query(f"concept_id == {each}").area > 0).sum()) for each in range(k)
    }
    return choose(ask(with_images(table)), holders, n, seed)[0]


def with_images(table: pd.DataFrame, copies: frozenset[int] = frozenset()) -> Tables:
    """The tables that examples are chosen from; some of the images are copies of others."""
    ids = np.unique(table["image_id"])
    split = ["copy" if each in copies else "fit" for each in ids.tolist()]
    return {"image_concepts": table, "images": pd.DataFrame({"image_id": ids, "split": split})}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.integers(1, 4), st.integers(1, 12), st.integers(0, 5))
def test_examples_hold_the_concept_and_their_number_is_bounded(
    n: int, k: int, n_examples: int, seed: int
) -> None:
    table = table_of(strengths(n, k, seed))
    chosen = choose_from(table, k, n_examples, seed)
    assert list(chosen) == list(range(k))
    for concept, examples in chosen.items():
        mine = table[table.concept_id == concept]
        peak = dict(zip(mine.image_id.tolist(), mine["max"].tolist(), strict=True))
        holders = {each for each, value in peak.items() if value >= LEVEL}
        assert examples.all() <= holders
        best = sorted(holders, key=lambda each: -peak[each])
        few = max(1, n_examples // 2)
        assert set(examples.strongest) == set(best[:n_examples])
        assert set(examples.borderline) == set(best[::-1][:few])
        assert len(examples.random) == min(few, len(holders))
        assert not set(examples.diverse) & set(examples.strongest)
        for part in (examples.diverse, examples.borderline, examples.random):
            assert len(part) == len(set(part)) <= few


def test_the_choice_follows_the_seed_and_nothing_else() -> None:
    table = table_of(strengths(80, 3, 0))
    shuffled = table.sample(frac=1, random_state=3)
    first, other = choose_from(table, 3, 8, 1), choose_from(table, 3, 8, 2)
    assert first == choose_from(shuffled, 3, 8, 1)
    pairs = list(zip(first.values(), other.values(), strict=True))
    assert all(a.strongest == b.strongest for a, b in pairs)
    assert all(set(a.random) != set(b.random) for a, b in pairs)


def test_random_images_are_drawn_from_all_that_hold_it() -> None:
    """Over many seeds every image that holds the concept comes, the weak as often as the strong."""
    table = table_of(np.linspace(0.5, 3, 40, dtype=np.float32)[:, None])
    drawn = [choose_from(table, 1, 8, seed)[0].random for seed in range(60)]
    counts = pd.Series([each for ids in drawn for each in ids]).value_counts()
    assert len(counts) == 40
    strong = table.nlargest(20, "max").image_id
    assert 0.4 < counts[counts.index.isin(strong)].sum() / counts.sum() < 0.6


def test_diverse_images_differ_from_the_strongest() -> None:
    """Ten strong images share one companion concept; the diverse ones must have the other."""
    peak = np.zeros((30, 3), np.float32)
    peak[:, 0] = np.linspace(2.0, 1.0, 30)
    peak[:, 1] = 1.0
    peak[[12, 13], 1:] = (0.0, 1.0)
    table = table_of(peak)
    ids = np.sort(table.image_id.unique())
    assert choose_from(table, 3, 10, 0)[0].diverse[0] in ids[[12, 13]]


def test_a_long_table_is_asked_for_few_rows() -> None:
    """What is read back does not grow with the images."""
    n_rows = []
    for n in (2000, 8000):
        table = table_of(np.random.default_rng(0).random((n, 3)).astype(np.float32) + 0.5)
        asked = ask(with_images(table))
        read: list[int] = []

        def counting(
            query: str,
            asked: Callable[[str], pd.DataFrame] = asked,
            read: list[int] = read,
        ) -> pd.DataFrame:
            found = asked(query)
            read.append(len(found))
            return found

        choose(counting, dict.fromkeys(range(3), n), 12, 0)
        n_rows.append(sum(read))
    most = 3 * (12 + POOL + 6 + 6)
    assert max(n_rows) <= most + most * 3  # ids, and a row a concept of each
    assert n_rows[1] == pytest.approx(n_rows[0], rel=0.1)


def test_copies_are_no_examples() -> None:
    table = table_of(strengths(40, 2, 0))
    copies = frozenset(map(int, table["image_id"].unique()[::2]))
    holders = dict.fromkeys(range(2), 20)
    chosen = choose(ask(with_images(table, copies)), holders, 12, 0)[0]
    found = set().union(*(examples.all() for examples in chosen.values()))
    assert found and not found & copies


def test_crops_are_wanted_of_the_strongest_region() -> None:
    data = synthetic(20, 4)
    book = catalogue(data, 6, 0)
    assert len(book.jobs()) == len(book.images) <= 20
    boxes = {(job.image_id, each): box for job in book.jobs() for each, box in job.cells.items()}
    regions = data.sql("from regions").sort_values("score", ascending=False)
    first = regions.drop_duplicates(["image_id", "concept_id"]).set_index(
        ["image_id", "concept_id"]
    )
    assert len(boxes) > 10
    for key, box in boxes.items():
        assert box == tuple(first.loc[key, ["x0", "y0", "x1", "y1"]])


@given(
    st.tuples(st.floats(0, 90), st.floats(0, 50), st.floats(1, 10), st.floats(1, 10)),
)
def test_a_crop_is_a_square_inside_the_image(box: tuple[float, float, float, float]) -> None:
    x, y, w, h = box
    x0, y0, x1, y1 = square_around((x, y, x + w, y + h), 100, 60)
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert 0 <= x0 <= x1 <= 100.0001
    assert 0 <= y0 <= y1 <= 60.0001
    assert x1 - x0 >= 29.999


@pytest.mark.parametrize("k", [1, 2, 3, 12, 60])
def test_the_map_keeps_concepts_inside_and_apart(k: int) -> None:
    vectors = np.random.default_rng(k).random((k, 40))
    points = concept_map(vectors, aspect=1.6)
    assert points.shape == (k, 2)
    assert np.array_equal(points, concept_map(vectors, aspect=1.6))
    assert (points >= -1e-9).all()
    assert (points <= np.array([1.6, 1.0]) + 1e-9).all()
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(k, 1)]
    assert k < 3 or apart.min() > 0.45 * np.sqrt(1.6 / k)


def test_the_map_puts_like_concepts_near_each_other() -> None:
    rng = np.random.default_rng(0)
    centres = rng.random((3, 50)) ** 6
    vectors = np.concatenate([centre + 0.02 * rng.random((5, 50)) for centre in centres])
    points = concept_map(vectors)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    same = np.kron(np.eye(3), np.ones((5, 5))).astype(bool)
    assert apart[same].sum() / (same.sum() - 15) < 0.6 * apart[~same].mean()


def test_the_map_takes_equal_and_empty_vectors() -> None:
    points = concept_map(np.zeros((9, 4)))
    assert np.isfinite(points).all()
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(9, 1)]
    assert apart.min() > 0.05


def test_bars_share_a_zero() -> None:
    made, zero = bars([2.0, -1.0, 0.0])
    assert zero == pytest.approx(33.33, abs=0.01)
    assert (made[0].x, made[0].width, made[0].negative) == (zero, 66.67, False)
    assert made[1].x == 0
    assert made[1].negative
    assert made[2].width == 0
    assert bars([])[0] == []
    assert bars([0.0])[0][0].width == 0


def test_waterfall_steps_start_where_the_last_ended() -> None:
    steps, total, zero = waterfall([3.0, -1.0, 2.0])
    assert [(each.x, each.x + each.width) for each in steps] == [
        (0, 75), (50, 75), (50, 100),
    ]  # fmt: skip
    assert (total.x, total.width, zero) == (0, 100, 0)
    falling, below, origin = waterfall([-2.0, -2.0])
    assert origin == 100
    assert below.negative
    assert falling[1].x == 0


def test_line_chart_stays_in_its_frame() -> None:
    chart = line_chart(
        [
            Series(
                "a", [(5, 0.71), (10, 0.66), (80, 0.64)], [(0.7, 0.73), (0.65, 0.66), (0.6, 0.64)]
            )
        ],
        log_x=True,
        mark=10,
    )
    assert chart is not None
    dots = chart.lines[0].dots
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)
    assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in dots)
    assert dots[0][1] < dots[2][1]  # a larger value stands higher
    assert chart.mark == dots[1][0]
    assert [text for _, text in chart.x_ticks] == ["5", "10", "80"]
    assert line_chart([Series("one point", [(1, 1)])]) is None
    assert line_chart([Series("flat", [(0, 1), (1, 1)])]) is not None


@pytest.mark.parametrize(
    ("make", "value", "text"),
    [
        (formats.number, None, "–"),
        (formats.number, float("inf"), "∞"),
        (formats.number, 0.0, "0"),
        (formats.number, 0.01234, "0.0123"),
        (formats.number, 1234.5, "1,234"),
        (formats.number, -1.5, "−1.50"),
        (formats.number, 1.2e-9, "1.20e−09"),
        (formats.fixed, 0.999, "1.00"),
        (formats.fixed, -0.001, "0.00"),
        (formats.signed, 0.5, "+0.50"),
        (formats.signed, -0.5, "−0.50"),
        (formats.signed, -0.0001, "0.00"),
        (formats.percent, 0.0, "0 %"),
        (formats.percent, 0.00001, "< 0.01 %"),
        (formats.percent, 0.0004, "0.04 %"),
        (formats.percent, 0.0342, "3.4 %"),
        (formats.percent, 0.5, "50 %"),
        (formats.percent, None, "–"),
        (formats.count, 12345.0, "12,345"),
        (formats.count, None, "–"),
        (formats.p_value, 0.0, "< 0.001"),
        (formats.p_value, 0.0131, "0.013"),
        (formats.p_value, 0.41, "0.41"),
        (formats.p_value, None, "–"),
    ],
)
def test_numbers_as_text(
    make: Callable[[float | None], str], value: float | None, text: str
) -> None:
    assert make(value) == text


def test_rows_turn_every_null_into_none() -> None:
    table = pd.DataFrame(
        {
            "a": [1.0, float("nan")],
            "b": ["x", None],
            "c": pd.array([True, None], "boolean"),
            "d": pd.array([3, None], "Int64"),
            "e": [[1], None],
        }
    )
    assert list(formats.rows(table)) == [
        {"a": 1.0, "b": "x", "c": True, "d": 3, "e": [1]},
        dict.fromkeys("abcde"),
    ]


def test_a_class_sums_up_its_images() -> None:
    data = synthetic(40, 5)
    book = catalogue(data, 6, 0)
    facts = class_facts(book)
    images, strengths = data.sql("from images"), data.sql("from image_concepts")
    class_id = int(images.pred_class.mode()[0])
    of_class = images[images.pred_class == class_id]
    assert facts.n_images[class_id] == len(of_class)
    means = (
        strengths[strengths.image_id.isin(of_class.image_id)]
        .groupby("concept_id")
        .contribution.mean()
    )
    assert np.allclose(facts.contribution[class_id], means.to_numpy(), atol=1e-6)
    view = class_view(book, facts, class_id)
    shown = [value for _, value, _ in view["makers"]["rows"]]
    assert shown == sorted(shown, reverse=True)
    assert view["labels"][0][1] <= view["labels"][0][2]


def test_a_waterfall_goes_from_nothing_to_the_logit_of_the_class() -> None:
    data = synthetic(20, 5)
    book = catalogue(data, 6, 0)
    assert data.logits is not None
    for image_id in book.images:
        fall = image_view(book, image_id, None, data.logits(image_id))["waterfall"]
        steps = [step for step, _ in fall["rows"]]
        assert steps[0][1:] == ("without any concept", NOTHING)
        assert fall["sum"] == pytest.approx(data.logits(image_id)[1])
        mine = data.sql(f"from image_concepts where image_id = {image_id}").contribution.sum()
        assert sum(each[2] for each in steps[1:-1]) == pytest.approx(mine, abs=1e-5)


def test_images_that_are_taken_for_another_class_are_marked() -> None:
    data = synthetic(40, 5)
    book = catalogue(data, 8, 0)
    wrong = 0
    for image in book.images.values():
        caption = book.captions[image["image_id"]]
        if image["pred_label"] == image["label"]:
            assert caption["taken"] is None
        else:
            assert caption["taken"] == image["pred_label"]
            wrong += 1
        assert caption["text"] == image["label"]
    assert wrong > 2
    facts = class_facts(book)
    shown = dict.fromkeys(("missed", "wrong", "right"), 0)
    for class_id, name in book.class_names.items():
        for gallery in class_view(book, facts, class_id)["galleries"]:
            shown[gallery["kind"]] += len(gallery["shots"])
            for shot in gallery["shots"]:
                image = shot["image"]
                assert (image["label"] == name) == (gallery["kind"] != "wrong")
                assert (image["pred_label"] == name) == (gallery["kind"] != "missed")
    assert min(shown.values()) > 0


def test_a_histogram_counts_every_image_that_has_the_concept() -> None:
    data = synthetic(60, 4)
    book = catalogue(data, 6, 0)
    rows = data.sql("from image_concepts where max > 0")
    for concept_id, found in book.strengths.items():
        counts, mine = found.counts, rows[rows.concept_id == concept_id]["max"]
        assert found.top == pytest.approx(mine.max())
        expected, _ = np.histogram(mine, bins=len(counts), range=(0, found.top))
        assert np.abs(np.array(counts) - expected).sum() <= 2  # on the edge of a bin, by rounding
        assert sum(counts) == len(mine)
        drawn = histogram(counts, found.top, 0.35)
        assert drawn is not None
        assert drawn.most == max(counts)
        assert max(height for _, _, height, _ in drawn.columns) == 100
        assert all(x >= 0 and x + width <= 100 for x, width, _, _ in drawn.columns)
        assert drawn.mark == pytest.approx(100 * 0.35 / found.top, abs=0.01)
    assert histogram([0, 0], 1.0, 0.5) is None


def test_the_overview_sets_the_concepts_beside_what_might_stand_in_for_them() -> None:
    said = overview(catalogue(synthetic(12, 3), 4, 0))
    assert said["headline"]["value"] == "81 %"
    agreement = said["fidelity"][0]
    assert [line["text"] for line in agreement["lines"]] == ["81 %", "11 %"]
    assert [line["own"] for line in agreement["lines"]] == [True, False]
    assert agreement["lines"][0]["bar"].width == pytest.approx(81)
    assert len(said["k_charts"]) == 2
    assert dict(said["k_facts"])["relative error"]
    assert said["settings"]["MODEL"] == "blobs"
    assert overview(catalogue(synthetic(12, 3, bare=True), 4, 0))["headline"] is None


def test_names_on_the_map_make_way_for_each_other() -> None:
    discs = [(100, 100, 20), (150, 100, 20), (400, 100, 20)]
    below, above, alone = label_places(discs, [90, 90, 90], 10, 500).tolist()
    assert sorted([below[1], above[1]]) == [100 - 20 - 5, 100 + 20 + 12.5]
    assert alone == [400, 100 + 20 + 12.5]
    row = [(100, 100, 15), (140, 100, 15), (180, 100, 15), (220, 100, 15)]
    places = label_places(row, [90] * 4, 10, 500)
    assert (places[:, 0] != [100, 140, 180, 220]).any()  # below and above alone have no room
    for a, b in itertools.combinations(places, 2):
        assert abs(a[0] - b[0]) >= 90 or abs(a[1] - b[1]) >= 10  # no name on another
    (inside,) = label_places([(30, 100, 20)], [90], 10, 500).tolist()
    assert inside == [30 + 22.5, 100 + 20 + 12.5]
    assert label_places([], [], 10, 500).shape == (0, 2)
