"""Benchmarks speak as agreed: one line a target, with its outcome or the reason for none."""

from __future__ import annotations

import importlib
import math
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from benchmarks import (
    atlas,
    comparison,
    concepts,
    contenders,
    extract,
    factorize,
    from_store,
    harness,
    peers,
    scale,
    thousands,
    whole,
)
from benchmarks.harness import Report, Target
from pipeline.nmf import encode
from pipeline.store import ACTIVATIONS, ShardStore

BAR = re.compile(
    r"BAR (?P<name>[a-z0-9_.]+) (?P<value>-|nan|inf|-?\d+\.\d{4}) (?P<sense>at-least|at-most)"
    r" (?P<bound>[\d.]+) (?P<outcome>met|short|skipped \S.*)"
)
AGREED = (
    {
        "extract.resnet50.of_limit": ("at-least", 0.85),
        "extract.mobilenet_v2.of_limit": ("at-least", 0.7),
        "extract.squeezenet1_1.of_limit": ("at-least", 0.7),
        "extract.resnet50.over_plain": ("at-least", 5),
        "extract.discover_over_extract": ("at-most", 1.25),
        "extract.layers_over_one": ("at-most", 1.15),
        "extract.peak_memory_gb": ("at-most", 1.5),
        "extract.memory_growth": ("at-most", 1.05),
        "factorize.encode.k20": ("at-most", 3),
        "factorize.encode.k50": ("at-most", 6),
        "factorize.memory_growth": ("at-most", 1.05),
        "concepts.horses.j": ("at-least", 0.72),
        "concepts.salient.j": ("at-least", 0.657),
        "concepts.salient.maxf": ("at-least", 0.78),
        "concepts.salient.control_gap": ("at-least", 0.1),
        "concepts.faithful.mobilenet_v2.imagenette224.k100_over_svd": ("at-least", 0.94),
        "concepts.faithful.mobilenet_v2.imagenette224.permuted_over_ours": ("at-most", 0.33),
        "concepts.faithful.mobilenet_v2.imagenet600.k100_over_plain": ("at-least", 1.8),
        "concepts.faithful.mobilenet_v2.imagenet600.k200_over_plain": ("at-least", 1.8),
        "concepts.faithful.mobilenet_v2.imagenet600.permuted_over_ours": ("at-most", 0.33),
        "concepts.map.over_best": ("at-least", 1.0),
        "concepts.map.over_sae": ("at-least", 1.0),
        "concepts.map.auto_over_best_k": ("at-least", 0.95),
        "concepts.cars.fg_nmi": ("at-least", 0.38),
        "concepts.cars.fg_ari": ("at-least", 0.26),
        "concepts.sample.objects_j": ("at-least", 0.75),
        "concepts.sample.parts_over_gradcam": ("at-least", 1.15),
        "concepts.refinement_control_gap": ("at-least", 0.15),
        "concepts.fidelity.k50.agreement_over_svd": ("at-least", 0.95),
        "concepts.null.false_rate": ("at-most", 0.07),
        "concepts.null.ks": ("at-least", 18),
        "concepts.null.pass_rate": ("at-most", 0.02),
        "concepts.null.fdr": ("at-most", 0.10),
        "concepts.null.power": ("at-least", 0.9),
        "concepts.names.top3": ("at-least", 0.7),
        "concepts.names.place": ("at-least", 0.7),
        "concepts.shortcut.auc": ("at-least", 0.95),
        "concepts.shortcut.rank": ("at-most", 5),
        "concepts.shortcut.restored": ("at-least", 0.5),
        "concepts.reappear.coverage": ("at-least", 0.87),
        "concepts.reappear.coverage_not_over": ("at-most", 0.93),
        "concepts.reappear.imagenette224.k100_by_energy": ("at-least", 0.8),
        "concepts.reappear.imagenet600.k100_by_energy": ("at-least", 0.8),
        "scale.two_workers_over_one": ("at-most", 1.15),
        "atlas.share_of_job": ("at-most", 0.1),
    }
    | {
        f"factorize.{network}.k{k}.{name}": bound
        for network in ("squeezenet1_1", "mobilenet_v2")
        for k in (10, 20, 50)
        for name, bound in {
            "speedup": ("at-least", 25),
            "error_ratio": ("at-most", 1.001),
            "explained_ratio": ("at-least", 0.995),
        }.items()
    }
    | {
        f"thousands.{network}.{name}": bound
        for network, own in (
            ("mobilenet_v2", {"over_sae.l0_8": ("at-least", 1), "over_sae.l0_32": ("at-least", 1)}),
            ("squeezenet1_1", {}),
        )
        for name, bound in {
            "encode.k1024_l16": ("at-most", 1.4),
            "encode.k1024_l32": ("at-most", 2.0),
            "encode.k4096_l16": ("at-most", 1.6),
            "encode.behind_matching_pursuit": ("at-most", 0.001),
            "fit.k1024": ("at-most", 8),
            "fit.growth": ("at-most", 4),
            "fit.dead": ("at-most", 0),
            "fit.most_alike": ("at-most", 0.95),
            "over_sae.l0_16": ("at-least", 1),
            "time_over_sae": ("at-most", 0.2),
            "stability_over_sae": ("at-least", 1.5),
            "tree.over_free": ("at-least", 0.99),
            "tree.beside_parents": ("at-least", 0.9),
            "tree.time_over_fit": ("at-most", 1.3),
        }.items()
        | own.items()
    }
)


@pytest.mark.parametrize(
    ("sense", "value", "outcome"),
    [
        ("at-least", 5.0, "met"),
        ("at-least", 4.9, "short"),
        ("at-most", 5.0, "met"),
        ("at-most", 5.1, "short"),
        ("at-least", math.nan, "short"),
        ("at-most", math.nan, "short"),
        ("at-most", math.inf, "short"),
        ("at-most", "no images\nhere", "skipped no images here"),
    ],
)
def test_a_target_is_one_line(sense: str, value: float | str, outcome: str) -> None:
    line = Target("extract.some_name2", sense, 5).line(value)  # type: ignore[arg-type]
    found = BAR.fullmatch(line)
    assert found is not None, line
    assert found["outcome"] == outcome
    assert (found["value"] == "-") == isinstance(value, str)


def test_a_report_says_what_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    targets = [Target("a", "at-least", 2), Target("b", "at-most", 2), Target("c", "at-most", 1)]
    report = Report(targets)
    report.measured("a", 3)
    with pytest.raises(ValueError, match="neither measured nor skipped: b, c"):
        report.finish()
    with pytest.raises(KeyError):
        report.measured("d", 1)
    report.skip_rest("too small")
    assert report.finish() == 0
    report.measured("b", 2.5)
    assert report.finish() == 1
    assert capsys.readouterr().out.split("\n")[-4:-1] == [
        "BAR a 3.0000 at-least 2 met",
        "BAR b 2.5000 at-most 2 short",
        "BAR c - at-most 1 skipped too small",
    ]


def test_targets_are_those_agreed_on() -> None:
    benchmarks = (extract, factorize, concepts, thousands, atlas, scale)
    targets = [target for each in benchmarks for target in each.TARGETS]
    assert {target.name: (target.sense, target.bound) for target in targets} == AGREED


@pytest.mark.parametrize("name", ["extract", "factorize", "thousands", "atlas", "scale"])
def test_without_assets_every_target_is_skipped(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CONCORDANCE_ASSETS", str(tmp_path))
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    benchmark = importlib.import_module(f"benchmarks.{name}")
    assert benchmark.main(["--quick"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAR")]
    found = [BAR.fullmatch(line) for line in lines]
    assert [each["name"] for each in found if each] == [each.name for each in benchmark.TARGETS]
    assert all(each and str(tmp_path) in each["outcome"] for each in found)


def test_contenders_take_turns() -> None:
    calls: list[str] = []
    contenders = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = harness.alternate(contenders, 3)
    assert "".join(calls) == "abbaab"
    assert {name: len(each) for name, each in times.items()} == {"a": 3, "b": 3}
    assert harness.seconds(lambda: time.sleep(0.02)) >= 0.02
    assert harness.ratio([2, 6, 4], [1, 2, 1]) == 3


def test_a_table_stands_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    harness.show("title", ["way", "images/s"], [["one", 12.34567], ["the other", None]])
    assert capsys.readouterr().out == (
        "\ntitle\n  way        images/s\n  one           12.35\n  the other         –\n"
    )


def test_plots_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(axes: Axes) -> None:
        axes.plot([1, 2], [3, 4])

    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    path = harness.plot("some", draw)
    assert path == tmp_path / "results" / "some.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_memory_is_that_of_the_whole_family() -> None:
    n_bytes = 100_000_000
    holds = f"x = bytearray(b'a') * {n_bytes}; import time; time.sleep(0.3); print(len(x))"
    below = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holds!r}])"
    bare = harness.watch(["-c", "import time; time.sleep(0.3)"])
    full = harness.watch(["-c", below])
    assert full.output == f"{n_bytes}\n"
    assert n_bytes < (full.peak - bare.peak) * 1e9 < 1.4 * n_bytes
    assert full.seconds > 0.3
    with pytest.raises(RuntimeError, match="ended with 3: some reason"):
        harness.watch(["-c", "import sys; print('some reason', file=sys.stderr); sys.exit(3)"])


def test_a_folder_of_repeated_images(tmp_path: Path) -> None:
    source = tmp_path / "source" / "label"
    source.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (source / name).write_bytes(name.encode())
    folder = whole.repeat_images(tmp_path / "source", tmp_path / "repeated", 5)
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(found) == 5
    assert {path.read_bytes() for path in found} == {b"a.jpg", b"b.jpg"}
    assert sys.platform != "linux" or all(path.parent.name == "label" for path in found)


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    """Shards of 20 images each, 5 × 5 positions × 24 channels made of 6 sparse concepts."""
    generator = np.random.default_rng(0)
    W = generator.random((24, 6)) * (generator.random((24, 6)) < 0.5)
    store = ShardStore(tmp_path / "store", ACTIVATIONS, 2)
    for index in range(2):
        H = generator.random((500, 6)) * (generator.random((500, 6)) < 0.4)
        V = (H @ W.T + 0.01 * generator.random((500, 24))).reshape(20, 5, 5, 24)
        image_ids = np.arange(20 * index, 20 * index + 20)
        store.write(index, {"V": V.astype(np.float16), "image_id": image_ids})
    return store


@pytest.fixture
def case(store: ShardStore, tmp_path: Path) -> contenders.Case:
    V = factorize._read(store)
    assert V.shape == (1000, 24)
    np.save(tmp_path / "V.npy", V)
    return contenders.Case("planted", V, tmp_path / "V.npy")


def bench(tmp_path: Path, report: Report) -> factorize.Bench:
    size = factorize.Size(None, ("squeezenet1_1",), (10,), 2, (1, 2), 0)
    return factorize.Bench(size, tmp_path, report, contenders.contenders(None), True, {}, {})


def test_factorizations_are_compared(
    case: contenders.Case,
    store: ShardStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = Report([each for each in factorize.TARGETS if "squeezenet1_1.k10" in each.name])
    shared = bench(tmp_path, report)
    factorize._compare(shared, "squeezenet1_1", 10, case, store)
    outcomes = shared.outcomes["squeezenet1_1 k=10"]
    assert all(len(each.seconds) == 2 for each in outcomes)
    assert all(0 < each.error < 0.2 for each in outcomes)
    assert 0.5 < (outcomes[0].cosine() or 0) <= 1.0001
    report.finish()
    ratio = factorize._encoding_over_product("planted", case.V, 6)
    assert 0 < ratio < math.inf
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    harness.plot("some", lambda axes: comparison.draw(shared.outcomes, axes))
    printed = capsys.readouterr().out
    assert printed.count("BAR factorize.squeezenet1_1.k10.") == 3
    assert "k10.speedup - at-least 25 skipped a small case costs" in printed
    assert all(each.contender.name in printed for each in outcomes)


def test_time_to_an_error_is_that_of_the_smallest_budget(
    case: contenders.Case, store: ShardStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = contenders.Outcome(contenders.contenders(None)[1], [8.0, 9.0, 7.0], [0.2, 0.3, 0.1])
    slow.points.extend([(1.0, 0.5), (4.0, 0.2)])
    assert slow.curve == [(1.0, 0.5), (4.0, 0.2), (8.0, 0.2)]
    assert slow.time_to(0.2) == 4
    assert slow.time_to(0.5) == 1
    assert slow.time_to(0.1) is None
    shared = bench(tmp_path, Report([]))
    shared.asked = shared.asked[:2]
    factorize._curves(shared, "squeezenet1_1", 6, case, store)
    ours, theirs = shared.outcomes["squeezenet1_1 k=6"]
    assert ours.points == []  # so few positions need no passes
    assert 1 <= len(theirs.points) <= 3
    assert "seconds to our error" in capsys.readouterr().out


def test_budgets_beyond_what_a_contender_uses_are_not_run_again(case: contenders.Case) -> None:
    budgets = []

    def run(case: contenders.Case, k: int, seed: int, budget: int) -> contenders.Timed:
        budgets.append(budget)
        used = min(budget, 60)
        return (
            float(used),
            np.full((case.V.shape[1], k), used, np.float32),
            np.empty((0, k), np.float32),
        )

    stops = contenders.Contender("stops at 60", run, (25, 50, 100, 200, 400))
    outcome = contenders.Outcome(stops, concepts=[run(case, 2, 0, 400)[1]])
    outcome.take_points(case, 2)
    assert budgets == [400, 25, 50, 100]
    assert [seconds for seconds, _ in outcome.points] == [25, 50]


def test_parts_can_be_asked_for(tmp_path: Path) -> None:
    shared = bench(tmp_path, Report([]))
    names = list(factorize._parts(shared, "squeezenet1_1"))
    assert names == ["squeezenet1_1.k10", "squeezenet1_1.encode", "squeezenet1_1.store", "memory"]
    shared.device = "cuda"
    assert list(factorize._parts(shared, "squeezenet1_1")) == ["squeezenet1_1.k10"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        factorize.main(["--quick", "--device", "cuda"])
    assert "--device cuda: torch finds no CUDA device here" in capsys.readouterr().err


def test_on_a_device_compete_those_that_can_compute_there(case: contenders.Case) -> None:
    on_device = contenders.contenders(case.file.parent, "meta")
    assert not any(each.is_reference for each in on_device)
    names = [each.name for each in on_device]
    ours, theirs = names[:2], names[2:]
    assert ours == [contenders.OURS, f"{contenders.OURS} on the processor"]
    assert theirs == ["torchnmf, MU", "Overcomplete, HALS"]
    _, W, H = on_device[1].run(case, 6, 0, 5)
    assert (W.shape, H.shape) == ((24, 6), (1000, 6))
    with pytest.raises(RuntimeError, match="meta"):  # it really is asked to compute there
        on_device[0].run(case, 6, 0, 5)


def test_peers_that_cannot_be_installed_are_left_out_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pinned.txt").write_text("-r missing.txt\n")
    monkeypatch.setattr(peers, "PINNED", tmp_path / "pinned.txt")
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    assert factorize._peers() is None
    said = capsys.readouterr().out
    assert said.startswith("without torchnmf and Overcomplete: the registry of packages cannot be")
    assert "missing.txt" in said
    assert not any((tmp_path / "build" / "peers").iterdir())
    names = [each.name for each in contenders.contenders(None)]
    assert not any("torchnmf" in name or "Overcomplete" in name for name in names)


def test_an_encoding_that_has_not_converged_is_seen(case: contenders.Case) -> None:
    V = case.V
    _, W, _ = contenders.contenders(None)[0].run(case, 6, 0, 5)
    H = encode(torch.from_numpy(V), torch.tensor(W), tol=contenders.EXACT).numpy()
    assert contenders.deviation(V, W, H) < factorize.ENCODE_TOL / 10
    assert contenders.deviation(V, W, np.float32(1.01) * H) == pytest.approx(0.01, rel=0.01)
    zero = contenders.true_error(V, np.zeros((24, 1), np.float32))
    assert zero == pytest.approx(1)


@pytest.mark.slow
def test_stores_are_repeated_and_factorized(store: ShardStore, tmp_path: Path) -> None:
    repeated = from_store.repeat_shards(store, tmp_path / "repeated", 3)
    watched = harness.watch(["-m", "benchmarks.from_store", str(repeated.folder), "6", "4"])
    n, passes, fit, encode, error = map(float, watched.output.split())
    assert n == 3 * 1000
    assert passes >= 1
    assert fit > 0
    assert encode > 0
    assert 0 < error < 0.8
