"""What reads files of others ends in a right value or a sentence, in little time and memory.

`make fuzz MINUTES=60` searches for so long; without it the same examples are tried each time.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import runs, seeds
from tests.fuzz.harness import EDITS, PLACES, Edits, Reader, damage, search
from tests.fuzz.reader import QUESTIONS

REGRESSIONS = Path(__file__).parent / "regressions"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    """One process for all; it is started again where a file ends it."""
    made = Reader()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def report(reader: Reader, request: pytest.FixtureRequest) -> Iterator[None]:
    """Count for each test, and say so."""
    reader.counts.clear()
    yield
    print(f"{request.node.name}: {dict(reader.counts)}")


def test_whole_files_are_read(reader: Reader, tmp_path: Path) -> None:
    for target, files in (
        ("image", seeds.images()),
        ("table", seeds.tables()),
        ("weights", seeds.weights()),
        ("program", seeds.programs()),
        ("archive", seeds.archives()),
        ("truth", seeds.truths()),
        ("spooled", seeds.spooled()),
    ):
        for name, data in files.items():
            path = tmp_path / target / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            assert "value" in reader.ask(target, path), name
    said = reader.ask("run", runs.lay_out(tmp_path))
    assert said["value"] == ", ".join(QUESTIONS)


def test_images(reader: Reader, tmp_path: Path) -> None:
    files = seeds.images()

    def try_one(given: tuple[str, Edits]) -> None:
        path = tmp_path / given[0]
        path.write_bytes(damage(files[given[0]], given[1]))
        reader.ask("image", path)

    search(try_one, st.tuples(st.sampled_from(sorted(files)), EDITS), 800, 0.2)
    assert reader.counts["value"] > 50
    assert reader.counts["refused"] > 50


def test_tables(reader: Reader, tmp_path: Path) -> None:
    files = seeds.tables()
    text = st.text().map(lambda each: each.encode("utf-8", "surrogatepass"))
    headed = st.tuples(st.sampled_from([b"path\n", b"path,label\n", b"path\tlabel\n"]), text)

    def try_one(given: tuple[str, Edits | bytes]) -> None:
        name, how = given
        path = tmp_path / name
        path.write_bytes(how if isinstance(how, bytes) else damage(files[name], how))
        reader.ask("table", path)

    contents = st.one_of(EDITS, st.binary(), text, headed.map(b"".join))
    search(try_one, st.tuples(st.sampled_from(sorted(files)), contents), 600, 0.15)
    assert reader.counts["value"] > 50
    assert reader.counts["refused"] > 50


@pytest.mark.parametrize(
    "target", [pytest.param("archive", marks=pytest.mark.slow), "truth", "spooled"]
)
def test_archives_ground_truth_and_rows(reader: Reader, tmp_path: Path, target: str) -> None:
    makers = {"archive": seeds.archives, "truth": seeds.truths, "spooled": seeds.spooled}
    files = makers[target]()

    def try_one(given: tuple[str, Edits]) -> None:
        path = tmp_path / target / given[0]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(damage(files[given[0]], given[1]))
        reader.ask(target, path)
        path.unlink()

    search(try_one, st.tuples(st.sampled_from(sorted(files)), EDITS), 300, 0.1)
    assert reader.counts["value"] > 20
    assert reader.counts["refused"] > 20


def test_weights(reader: Reader, tmp_path: Path) -> None:
    files = seeds.weights()

    def try_one(given: tuple[str, Edits, int | None]) -> None:
        name, edits, entry = given
        data = files[name]
        if entry is not None and data.startswith(b"PK"):
            inside, contents = seeds.entry_of(data, entry)
            data = seeds.with_entry(data, inside, damage(contents, edits))
        else:
            data = damage(data, edits)
        path = tmp_path / name
        path.write_bytes(data)
        reader.ask("weights", path)

    examples = st.tuples(
        st.sampled_from(sorted(files)), EDITS, st.one_of(st.none(), st.just(0), PLACES)
    )
    search(try_one, examples, 800, 0.2)
    assert reader.counts["value"] > 20
    assert reader.counts["refused"] > 50


def test_programs(reader: Reader, tmp_path: Path) -> None:
    ((name, whole),) = seeds.programs().items()
    path = tmp_path / name

    def try_one(given: tuple[Edits, int | None]) -> None:
        edits, entry = given
        data = damage(whole, edits)
        if entry is not None:
            inside, contents = seeds.entry_of(whole, entry)
            data = seeds.with_entry(whole, inside, damage(contents, edits))
        path.write_bytes(data)
        reader.ask("program", path)

    search(try_one, st.tuples(EDITS, st.one_of(st.none(), PLACES, PLACES)), 120, 0.15)
    assert reader.counts["value"] > 5
    assert reader.counts["refused"] > 20


@pytest.mark.slow
def test_runs(reader: Reader, tmp_path: Path) -> None:
    answered: list[object] = []

    def try_one(given: tuple[str, Edits | runs.Says, bool]) -> None:
        name, how, agreeing = given
        run = runs.lay_out(tmp_path / str(next(NUMBERS)))
        runs.change(run, name, how, agreeing=agreeing)
        # What was made to agree may be so wrong that only Python says it; it ends all the same.
        answered.append(reader.ask("run", run, strict=not agreeing).get("value"))
        shutil.rmtree(run.parent)

    search(try_one, runs.CHANGES, 40, 0.3)
    everything = ", ".join(QUESTIONS)
    assert answered.count(everything) > 5  # what was damaged is not asked for, or was noticed
    assert len(answered) - answered.count(everything) > 5


@pytest.mark.parametrize("path", sorted(REGRESSIONS.glob("*-*")), ids=lambda path: path.name)
def test_what_was_once_wrong(reader: Reader, tmp_path: Path, path: Path) -> None:
    """Files of images, tables, weights and ground truth, as `target-name`."""
    target = path.name.partition("-")[0]
    if target == "truth":  # which is found by its name
        path = Path(shutil.copy(path, tmp_path / f"a{path.suffix}"))
    reader.ask(target, path)


RUNS = json.loads((REGRESSIONS / "runs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("given", RUNS, ids=lambda given: given["why"])
def test_runs_that_were_once_wrongly_read(
    reader: Reader, tmp_path: Path, given: dict[str, object]
) -> None:
    run = runs.lay_out(tmp_path)
    how = [tuple(each) for each in given["how"]]  # type: ignore[attr-defined]
    runs.change(run, str(given["file"]), how, agreeing=bool(given["agreeing"]))
    reader.ask("run", run)
