"""Do verdicts of what concepts are taken for mean what they say? What is nothing must not pass.

Notation: as in `pipeline.classify.verdict`. Null concepts are of five kinds:

moved       strong maps of one concept, each moved to another image in which it is not
places      single real positions of like norm
directions  random directions, non-negative as W, put in the place of concepts
means       means of real positions, as concepts
shuffled    concepts of the same activations, each channel's values shuffled over positions
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import kstest

from benchmarks.harness import Report, Target, assets, show
from pipeline import Run, nmf
from pipeline.analysis.claims import N_STRONGEST, Evidence, Found
from pipeline.analysis.objects import read_objects
from pipeline.analysis.samples import RunSamples
from pipeline.analysis.strongest import N_ELSEWHERE, Places, move
from pipeline.classify import benjamini_hochberg, score_vectors
from pipeline.classify.kinds import LEVEL, holds
from pipeline.classify.verdict import N_NEAREST, permuted
from pipeline.jobs.discover import discover
from pipeline.store import Claims

KS = Target("concepts.null.ks", "at-least", 18)
PASS_RATE = Target("concepts.null.pass_rate", "at-most", 0.02)
FDR = Target("concepts.null.fdr", "at-most", 0.10)
POWER = Target("concepts.null.power", "at-least", 0.9)
TARGETS = (KS, PASS_RATE, FDR, POWER)

K, N_DRAWS, N_SETS, N_PLANTED, N_SEEDS = 32, 20, 8, 16, 1_000
PLANTED = (0.5, 1.0, 2.0)
"""Deviations of the noise by which planted masses are larger."""

N_OWN = N_STRONGEST
SHARE_PRESENT = 0.02
"""Share of positions where a null direction counts as present."""


Null = tuple[Places, NDArray[np.bool_]]
"""Places of K null concepts, and which images elsewhere hold them, (n, K)."""


@dataclass(frozen=True)
class Case:
    """A network on a dataset."""

    network: str
    dataset: str


CASES = tuple(
    Case(network, dataset)
    for network in ("mobilenet_v2", "squeezenet1_1")
    for dataset in ("imagenet600", "imagenette224")
)


def measure(report: Report, *, quick: bool) -> None:
    """Measure the targets of the verdicts; `quick`: one network on one dataset."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for case in CASES[:1] if quick else CASES:
            measured = Bench.of(RunSamples(run_of(case, Path(name)).workspace)).measure()
            rows.append({"case": f"{case.network}, {case.dataset}"} | measured)
    found = pd.DataFrame(rows).set_index("case")
    table = found.T.reset_index()
    show("verdicts: what passes", ["", *found.index], table.to_numpy().tolist())
    report.measured(KS.name, float(found["draws calibrated of 20"].min()))
    report.measured(PASS_RATE.name, float(found[list(Bench.NULLS)].to_numpy().max()))
    report.measured(FDR.name, float(found["fdr"].max()))
    report.measured(POWER.name, float(found["power 1"].min()))


def run_of(case: Case, folder: Path) -> Run:
    """Discover K concepts of a dataset by a network."""
    weights = str(assets("weights", f"{case.network}.safetensors"))
    given: dict[str, Any] = {"model": case.network, "weights": weights, "k": str(K), "keep": "all"}
    if case.dataset == "imagenette224":
        given["classes"] = str(assets("images", "imagenette224_classes.csv"))
        given["dataset"] = str(assets("images", case.dataset))
    else:
        given["dataset"] = str(_photographs(folder))
    return discover(**given, run=str(folder / f"{case.network}-{case.dataset}"))


def _photographs(folder: Path) -> Path:
    """Write a list of 600 photographs of as many classes."""
    names = ("imagenet_samples", "imagenet_more")
    tables = [pd.read_csv(assets("images", f"{name}.csv")) for name in names]
    for table in tables:
        table["path"] = [str(assets("images") / each) for each in table["path"]]
    path = folder / "photographs.csv"
    pd.concat(tables)[["path", "label"]].to_csv(path, index=False)
    return path


@dataclass(frozen=True)
class Bench:
    """A run whose null concepts are judged as its own are.

    Attributes
    ----------
    sample : RunSamples
    evidence : Evidence
        Of the run's own concepts.
    """

    NULLS: ClassVar = ("moved", "places", "directions", "means", "shuffled")

    sample: RunSamples
    evidence: Evidence

    @staticmethod
    def of(sample: RunSamples) -> Bench:
        """Gather the evidence of a run."""
        foreground = read_objects(sample.workspace).coarse
        score = partial(score_vectors, sample.workspace.cut)
        return Bench(sample, Evidence.of(sample, foreground, score))

    def measure(self) -> dict[str, object]:
        """Return what passes by kind of null, false discoveries, calibration and power."""
        own = self.evidence.claims()
        found: dict[str, object] = {"concepts": _passed([own])}
        moved = [self._judged(self._moved(seed)) for seed in range(N_DRAWS)]
        claims = [each.claims() for each in moved]
        found["moved"] = _passed(claims)
        for name in self.NULLS[1:]:
            make = getattr(self, f"_{name}")
            found[name] = _passed([self._judged(make(seed)).claims() for seed in range(N_SETS)])
        found["draws calibrated of 20"] = sum(
            kstest(_ps(each), "uniform", alternative="greater").pvalue > 0.05 for each in moved
        )
        found["fdr"] = float(np.mean([_false(own.group, each.group) for each in claims]))
        return found | {f"power {size:g}": self._power(size) for size in PLANTED}

    def _judged(self, null: Null) -> Evidence:
        """Put null concepts in the place of the run's, before maps moved to other images."""
        places, holds = null
        own = self.evidence.score(places.vectors)
        elsewhere = replace(self.evidence.elsewhere, holds=holds)
        return replace(self.evidence, places=places, own=own, elsewhere=elsewhere)

    def _moved(self, seed: int) -> Null:
        """Move maps to half of the images; the other half, another one for each concept, is left to
        compare with."""
        elsewhere, random = self.evidence.elsewhere, np.random.default_rng(seed)
        n = len(elsewhere.image)
        is_taken = np.stack([random.permutation(n) < n // 2 for _ in range(K)], axis=1)
        others = np.ones_like(elsewhere.holds)
        for j, free in enumerate((~elsewhere.holds & is_taken).T):
            others[random.permutation(np.flatnonzero(free))[:N_OWN], j] = False
        theirs = replace(elsewhere, holds=others)
        moved = list(move(self.evidence.places, theirs, range(K), N_SEEDS + seed))
        chosen = [random.permutation(len(image)) for image, _ in moved]
        null = _places(
            [image[rows] for (image, _), rows in zip(moved, chosen, strict=True)],
            [vectors[rows] for (_, vectors), rows in zip(moved, chosen, strict=True)],
            [self.evidence.places.maps[self.evidence.places.concept == j] for j in range(K)],
        )
        return null, elsewhere.holds | is_taken

    def _places(self, seed: int) -> Null:
        """Draw single positions, of norms as the run's concepts have them."""
        sample, random = self.sample, np.random.default_rng(seed)
        norms = self.evidence.places.vectors.norm(dim=1).numpy()
        positions = sample.positions.norm(dim=1).numpy()
        images, vectors = [], []
        for _ in range(K):
            wanted = random.choice(norms, N_OWN)
            near = np.abs(positions - wanted[:, None]).argsort(axis=1)[:, :N_OWN]
            rows = near[np.arange(N_OWN), random.integers(0, N_OWN, N_OWN)]
            images.append(sample.owners.numpy()[rows])
            vectors.append(sample.positions[rows])
        nowhere = np.zeros_like(self.evidence.elsewhere.holds)
        return _places(images, vectors, [self.evidence.places.maps] * K), nowhere

    def _directions(self, seed: int) -> Null:
        """Draw directions that are not negative."""
        generator = torch.Generator().manual_seed(seed)
        return self._along(
            torch.randn(self.sample.positions.shape[1], K, generator=generator).abs()
        )

    def _means(self, seed: int) -> Null:
        """Take means of 30 positions each."""
        random = np.random.default_rng(seed)
        rows = random.integers(0, len(self.sample.positions), (K, N_OWN))
        return self._along(self.sample.positions[rows].mean(1).T.contiguous())

    def _shuffled(self, seed: int) -> Null:
        """Fit concepts to positions whose channels are shuffled, each by itself."""
        random = np.random.default_rng(seed)
        V = self.sample.positions[: 10 * K * N_OWN].numpy()
        shuffled = torch.from_numpy(random.permuted(V, axis=0))
        return self._along(nmf.fit_sample(shuffled, K, seed=seed).W)

    def _along(self, W: torch.Tensor) -> Null:
        """Take directions, (channels, K), for concepts: their strongest images among the sample."""
        W = W / W.norm(dim=0)
        images, maps, V = [], [], []
        for batch in self.sample.read(self.sample.image_ids(N_ELSEWHERE)):
            flat = batch.V.flatten(1, 2)
            images.append(batch.image_id)
            maps.append(flat @ W)
            V.append(flat.half())
        image, H, activations = np.concatenate(images), torch.cat(maps), torch.cat(V)
        least = torch.quantile(H.flatten(0, 1)[:: max(1, len(H) // 256)], 1 - SHARE_PRESENT, dim=0)
        best = H.amax(1).argsort(0, descending=True)[:N_OWN]
        kept = torch.where(least <= H, H, 0)
        shares = kept / kept.sum(1, keepdim=True).clamp_min(1e-12)
        owners, vectors, maps = [], [], []
        for j in range(K):
            rows = best[:, j][kept[best[:, j], :, j].sum(1) > 0]
            owners.append(image[rows.numpy()])
            maps.append(shares[rows, :, j])
            vectors.append(torch.einsum("np,npc->nc", maps[-1], activations[rows].float()))
        present = pd.DataFrame((kept.amax(1) > 0).numpy(), index=image)
        return _places(owners, vectors, maps), present.loc[self.evidence.elsewhere.image].to_numpy()

    def _power(self, size: float, n: int = N_STRONGEST // 2) -> float:
        """Return how often masses that are larger by so many deviations of the noise are found."""
        random, found = np.random.default_rng(0), []
        for _, vectors in move(self.evidence.places, self.evidence.elsewhere, range(K), N_SEEDS):
            masses = self.evidence.tree.masses(self.evidence.score(vectors)).double().numpy()
            for group in random.permutation(masses.shape[1])[:N_PLANTED]:
                rows = random.integers(0, len(masses), (n, 1 + N_NEAREST))
                own = masses[rows[:, 0], group] + size * masses[:, group].std()
                others = masses[np.unique(rows[:, 1:]), group]
                found.append(permuted(own, others) <= LEVEL)
        return float(np.mean(found))


def _places(
    images: list[NDArray[np.int64]], vectors: list[torch.Tensor], maps: list[torch.Tensor]
) -> Places:
    """Put places of null concepts together, by concept; their maps are drawn from those given."""
    n = [len(each) for each in images]
    random = np.random.default_rng(0)
    drawn = [
        each[random.integers(0, len(each), m)] if m else each[:0]
        for each, m in zip(maps, n, strict=True)
    ]
    return Places(
        concept=np.repeat(np.arange(len(n)), n),
        rank=np.concatenate([np.arange(each) for each in n]),
        image=np.concatenate(images),
        maps=torch.cat(drawn),
        vectors=torch.cat(vectors),
        inside=torch.full((sum(n),), torch.nan),
    )


def _passed(found: list[Found]) -> float:
    return float(np.mean([holds(each.group) | holds(each.single) for each in found]))


def _ps(evidence: Evidence) -> NDArray[np.float64]:
    """Return p of whatever group each concept's first half says most of, however little."""
    sizes = evidence.tree.sizes
    taken = [evidence.take(concept, (sizes,), least=0.0)[0] for concept in range(K)]
    return np.array([each.p for each in taken if each.group >= 0])


def _false(own: Claims, null: Claims) -> float:
    """Return the share of null claims among those found at 0.10, the run's own beside them."""
    p = [np.maximum(each.p, each.agreed_p) for each in (own, null)]
    found = benjamini_hochberg(np.concatenate(p)) <= FDR.bound
    n_false = int(found[len(p[0]) :].sum())
    return n_false / max(1, int(found.sum()))
