"""Is a shortcut found that nobody told of? A fifth of a dataset with ImageNet-W's watermark.

Networks trained on ImageNet take the watermark of the package imagenet-w (Li et al., *A Whac-A-Mole
Dilemma*, CVPR 2023) for a carton and its neighbours. The run is not told which images have it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.harness import Report, Target, assets, introduce, show
from benchmarks.stamps import SIDE, Case, listed, write
from pipeline.analysis.run import Run, open_run
from pipeline.analysis.samples import RunSamples
from pipeline.classify import Answers
from pipeline.config import make_config
from pipeline.jobs.execute import execute
from pipeline.runs.prepare import prepare
from pipeline.system import files

AUC = Target("concepts.shortcut.auc", "at-least", 0.95)
RANK = Target("concepts.shortcut.rank", "at-most", 5)
RESTORED = Target("concepts.shortcut.restored", "at-least", 0.5)
TARGETS = (AUC, RANK, RESTORED)

NETWORKS = {
    "mobilenet_v2": "mobilenet_v2",
    "squeezenet1_1": "squeezenet1_1",
    "timm:tf_efficientnet_lite0": "tf_efficientnet_lite0",
}
DATASETS = ("imagenette224", "imagenet_samples")
STAGES = ("extract", "factorize", "localize", "classify", "export")

SHARE = 5
"""One image of so many is stamped."""

UNRANKED = 10_000
"""Rank of a concept that is no suspect."""


QUICK = (Case("mobilenet_v2", "imagenet_samples", 0, k="32"),)
FULL = tuple(
    Case(network, dataset, seed)
    for network in NETWORKS
    for dataset in DATASETS
    for seed in range(5)
)


@dataclass(frozen=True)
class Found:
    """What a run knows of the watermark.

    Attributes
    ----------
    concept_id, auc : int, float
        The concept whose largest or mean strength separates stamped images from others best.
    rank, score : int, float
        Of it among the suspects; `UNRANKED` and 0 where it is none.
    pushes_to : str
        Classes that it is said to push to.
    accuracy, clean, ablated : float
        Share right of the stamped images, of the same ones without the stamp, and with the concept
        and those that go with it taken out.
    known, known_auc : float
        Share right of them once what the stamp does on average is taken away, by one who knows
        which images are stamped and has them without the stamp as well, and how well the direction
        of that separates stamped images; see `_knowing`.
    score_of_clean : float
        Score of the first suspect of the same run without stamps; 0 without any.
    """

    concept_id: int
    auc: float
    rank: int
    score: float
    pushes_to: str
    accuracy: float
    clean: float
    ablated: float
    known: float
    known_auc: float
    score_of_clean: float

    @property
    def restored(self) -> float:
        """Share of the lost accuracy that is returned; NaN where none was lost."""
        return self._share(self.ablated)

    @property
    def restorable(self) -> float:
        """The same of one who knows the stamps."""
        return self._share(self.known)

    def _share(self, accuracy: float) -> float:
        lost = self.clean - self.accuracy
        return (accuracy - self.accuracy) / lost if lost > 0 else float("nan")


def measure(report: Report, *, quick: bool) -> None:
    """Stamp, discover, and look whether the stamp is among the suspects; print what was found.

    Parameters
    ----------
    report : Report
        Where the outcomes go: the worst over networks of the median over seeds and datasets.
    quick : bool
        One network, one dataset, one seed.
    """
    try:
        import imagenet_w  # type: ignore[import-not-found]

        mark = imagenet_w.AddWatermark(SIDE)
    except ImportError:
        report.skip_rest("the package imagenet-w is not installed", TARGETS)
        return
    with tempfile.TemporaryDirectory() as name:
        found = {case: _measure(case, mark, Path(name)) for case in (QUICK if quick else FULL)}
    _show(found)
    table = pd.DataFrame(
        [
            {"network": case.network, "auc": each.auc, "rank": each.rank, "restored": each.restored}
            for case, each in found.items()
        ]
    )
    medians = table.groupby("network").median()
    report.measured(AUC.name, float(medians["auc"].min()))
    report.measured(RANK.name, float(medians["rank"].max()))
    report.measured(RESTORED.name, float(medians["restored"].min()))


def _measure(case: Case, mark: Callable[[Any], Any], folder: Path) -> Found:
    place = folder / f"{NETWORKS[case.network]}-{case.dataset}-{case.seed}"
    paths = list(listed(case))
    drawn = np.random.default_rng(case.seed).permutation(len(paths))[: len(paths) // SHARE]
    stamped = {paths[index].name for index in drawn}
    runs = []
    for kind, chosen in (("stamped", stamped), ("clean", set())):
        write(paths, chosen, mark, place / kind, case)
        runs.append(_discover(case, place / kind, place / f"run-{kind}"))
    run, clean = runs
    return _judge(run, clean, stamped)


def _discover(case: Case, images: Path, folder: Path) -> Run:
    classes = images.parent / "classes.csv"
    table = (
        "imagenette224_classes.csv" if case.dataset == "imagenette224" else f"{case.dataset}.csv"
    )
    rows = pd.read_csv(assets("images", table))[["label", "class_id"]]
    files.write_text(classes, rows.to_csv(index=False))
    options = {
        "dataset": str(images),
        "model": case.network,
        "weights": str(assets("weights", f"{NETWORKS[case.network]}.safetensors")),
        "classes": str(classes),
        "labels": "top",
        "k": case.k,
        "seed": str(case.seed),
    }
    execute(prepare(make_config(options), folder), STAGES)
    return open_run(folder)


def _judge(run: Run, clean: Run, stamped: set[str]) -> Found:
    images = run.table("images")
    stems = {Path(name).stem for name in stamped}
    is_stamped = images["path"].map(lambda path: Path(path).stem in stems).to_numpy()
    concept, auc = _separating(run, images["image_id"], is_stamped)
    suspects = run.suspects().set_index("concept_id")
    is_suspect = concept in suspects.index
    row: Any = suspects.loc[concept] if is_suspect else None
    others = [] if row is None else list(row["with_concepts"])
    marked = images[is_stamped]
    after = run.meaning.ablate([concept, *others], marked["image_id"].tolist())
    own = marked["label"].map(run.workspace.class_of_label).to_numpy()
    twins = clean.table("images").set_index("path").loc[marked["path"]]
    best = clean.suspects()["score"]
    known, direction = _knowing(
        run, clean, marked["image_id"].tolist(), twins["image_id"].tolist(), own
    )
    return Found(
        concept_id=concept,
        auc=auc,
        rank=UNRANKED if row is None else int(row["rank"]),
        score=0.0 if row is None else float(row["score"]),
        pushes_to="-" if row is None else ", ".join(row["pushes_to"]),
        accuracy=float((marked["pred_class"].to_numpy() == own).mean()),
        clean=float((twins["pred_class"].to_numpy() == own).mean()),
        ablated=float((after["class_after"].to_numpy() == own).mean()),
        known=known,
        known_auc=_auc_along(run, direction, images["image_id"], is_stamped),
        score_of_clean=float(best.max()) if len(best) else 0.0,
    )


def _knowing(
    run: Run, clean: Run, stamped: list[int], unstamped: list[int], own: NDArray[Any]
) -> tuple[float, torch.Tensor]:
    """Return the share right of stamped images, less the mean of what the stamp did to others.

    The mean is by position, over one half of the images, of stamped less unstamped activations; it
    is taken from those of the other half. Its direction over all of them, (channels,), comes with
    it.
    """
    V, plain = (_activations(each, ids) for each, ids in ((run, stamped), (clean, unstamped)))
    even = torch.arange(len(V)) % 2 == 0
    did = V - plain
    less = torch.where(even[:, None, None, None], did[~even].mean(0), did[even].mean(0))
    answers = Answers(run.workspace.cut, run.workspace.bank)
    is_right = answers.head(V - less).argmax(1).numpy() == own
    return float(is_right.mean()), did.mean((0, 1, 2))


def _auc_along(
    run: Run, direction: torch.Tensor, image_ids: pd.Series, is_stamped: NDArray[np.bool_]
) -> float:
    """Return how well the mean or largest activation along a direction separates stamped images."""
    found = {
        image_id: (each.mean(), each.max())
        for images in RunSamples(run.workspace).read(image_ids.tolist())
        for image_id, each in zip(
            images.image_id.tolist(), (images.V @ direction).numpy(), strict=True
        )
    }
    values = np.array([found[each] for each in image_ids])
    return max(float(roc_auc_score(is_stamped, value)) for value in values.T)


def _activations(run: Run, image_ids: list[int]) -> torch.Tensor:
    """Read the layer's activations of images, float32 (n, h, w, channels)."""
    found = {
        image_id: V
        for images in RunSamples(run.workspace).read(image_ids)
        for image_id, V in zip(images.image_id.tolist(), images.V, strict=True)
    }
    return torch.stack([found[each] for each in image_ids])


def _separating(run: Run, image_ids: pd.Series, is_stamped: NDArray[np.bool_]) -> tuple[int, float]:
    """Return the concept that separates stamped images best, by its mean or largest strength."""
    rows = run.table("image_concepts")
    best = (0, 0.0)
    for value in ("mean", "max"):
        table = rows.pivot(index="image_id", columns="concept_id", values=value)
        table = table.reindex(image_ids).fillna(0.0)
        for concept in table.columns:
            auc = float(roc_auc_score(is_stamped, table[concept]))
            best = max(best, (int(concept), auc), key=lambda each: each[1])
    return best


def _show(found: dict[Case, Found]) -> None:
    header = [
        "network", "dataset", "seed", "concept", "AUC", "rank", "score", "first without stamps",
        "right", "unstamped", "taken out", "restored", "by one who knows",
        "AUC of one who knows", "pushes to",
    ]  # fmt: skip
    rows = [
        [
            case.network, case.dataset, case.seed, each.concept_id, each.auc, each.rank, each.score,
            each.score_of_clean, each.accuracy, each.clean, each.ablated, each.restored,
            each.restorable, each.known_auc, each.pushes_to,
        ]
        for case, each in found.items()
    ]  # fmt: skip
    show("a fifth of the images with ImageNet-W's watermark", header, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark by itself; return 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="one network, one dataset, one seed")
    quick = bool(parser.parse_args(argv).quick)
    introduce(quick)
    report = Report(TARGETS)
    measure(report, quick=quick)
    report.skip_rest("not asked for")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
