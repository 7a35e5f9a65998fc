"""The classify stage: each concept before the head, tested against chance, its effect measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .. import nmf
from ..analysis.claims import Evidence
from ..analysis.objects import fit_objects
from ..analysis.samples import RunSamples, Seen, true_classes
from ..analysis.suspects import find_suspects
from ..classify import (
    Answers,
    Null,
    Quantiles,
    compare,
    curves,
    effects,
    fidelity,
    quantiles,
    score_vectors,
    sobol_total,
    top_classes,
    unexplained,
)
from ..classify.kinds import holds
from ..localize import Foreground
from ..models.link import Link
from ..runs.workspace import Workspace
from ..store import Classification, write_classification, write_suspects
from ..system.progress import bar, say
from .places import find_places

N_IMAGES = {"pool_linear": 256, "linear_relu_pool": 128, "general": 64}
"""Images on which fidelity and effects are measured, by kind of head, held-out ones where there
are: the answers to concepts cost nothing, little, and a pass through the head."""

FEW = 512
"""Vectors that are through any head before a bar is worth a line."""

LONG = 90.0
"""Seconds from which on it is said beforehand that they will pass."""

N_USUAL = 1_024
"""Images from which it is learned how much is usually left unexplained."""


def classify(workspace: Workspace) -> dict[str, int | float]:
    """Score, test and ablate every concept; write ``bank/classes.h5``; find what is object.

    Returns
    -------
    dict
        Counts: concepts, significant.
    """
    sample = RunSamples(workspace)
    if not workspace.cut.n_classes:
        return _without_classes(sample)
    total = len(sample.image_ids(N_USUAL))
    total += len(sample.image_ids(N_IMAGES[workspace.cut.head_kind], sample.split))
    with bar("classify", total, "images") as shown:
        shown.set_postfix_str("objects")
        foreground = fit_objects(workspace).coarse
        found = _classify(sample, foreground, shown.update, shown.set_postfix_str)
        write_classification(workspace.classes_path, found)
        shown.set_postfix_str("suspects")
        write_suspects(workspace.suspects_path, find_suspects(sample, foreground))
    assert found.single is not None
    assert found.group is not None
    k, n_claimed = workspace.bank.k, int((holds(found.single) | holds(found.group)).sum())
    say(f"classify   {n_claimed} of {k} concepts are taken for a class or for related classes")
    return {"concepts": k, "significant": int(found.significant.sum()), "claimed": n_claimed}


def _without_classes(sample: RunSamples) -> dict[str, int | float]:
    """Write what is known where there is no head: what is usually left, and what is object."""
    workspace = sample.workspace
    k = workspace.bank.k
    with bar("classify", len(sample.image_ids(N_USUAL)), "images") as shown:
        usual = _usual(replace(sample, tick=shown.update))
        nothing, unknown = np.zeros((k, 0), np.float32), np.full(k, np.nan)
        found = Classification(
            context=nothing,
            direction=nothing,
            nothing=nothing.reshape(-1),
            z_context=nothing,
            z_direction=nothing,
            p=np.ones(k),
            significant=np.zeros(k, np.bool_),
            importance=unknown,
            sobol_total=unknown,
            deletion_effect=unknown,
            insertion_effect=unknown,
            **{f"usual_{name}": value for name, value in vars(usual).items()},
            fidelity=[],
            **_places(sample, shown.set_postfix_str),
        )
        write_classification(workspace.classes_path, found)
        shown.set_postfix_str("objects")
        foreground = fit_objects(workspace).coarse
        write_suspects(workspace.suspects_path, find_suspects(sample, foreground))
    say("classify   the network has no classes: what its concepts are called, labels tell")
    return {"concepts": k, "significant": 0}


def _classify(
    sample: RunSamples,
    foreground: Foreground,
    tick: Callable[[int], object],
    tell: Callable[[str], object],
) -> Classification:
    """Score, test and ablate every concept."""
    bank, cut = sample.workspace.bank, sample.workspace.cut
    prefix = None if bank.prefix is None else torch.from_numpy(bank.prefix)

    def score(vectors: torch.Tensor) -> torch.Tensor:
        with _shown(len(vectors), cut.linear is None) as each:
            return score_vectors(cut, bank.transform.decode(vectors), prefix, each)

    tell("labels against chance")
    real = bank.transform.forward(sample.positions)
    context, direction = torch.from_numpy(bank.context.T), torch.from_numpy(bank.W.T)
    present = nmf.encode(real, direction.T, active=bank.active) >= torch.from_numpy(bank.thresholds)
    null = Null.of(score, real, sample.owners, cut.link)
    tested = null.test(context, present)
    tell("what it is taken for")
    claims = Evidence.of(sample, foreground, lambda V: score_vectors(cut, V, prefix)).claims()
    found_places = _places(sample, tell)
    tell("effects")
    counted = replace(sample, tick=tick)
    return Classification(
        context=score(context).numpy(),
        direction=score(direction).numpy(),
        nothing=score(torch.zeros(1, real.shape[1])).numpy()[0],
        z_context=tested.z,
        z_direction=null.test(direction, present, is_tested=False).z,
        p=tested.p,
        significant=tested.significant,
        single=claims.single,
        group=claims.group,
        inside=claims.inside,
        **{f"usual_{name}": value for name, value in vars(_usual(counted)).items()},
        **_measure(counted),
        **found_places,
    )


def _places(sample: RunSamples, tell: Callable[[str], object]) -> dict[str, Any]:
    """Tell which concepts are places in the frame, for the classification."""
    tell("places")
    found = find_places(sample)
    if not found:
        say("classify   too few images could be moved to tell which concepts are places")
        k = sample.workspace.bank.k
        return {"place_share": np.full(k, np.nan), "place": ("",) * k}
    if n_places := sum(each.is_place for each in found):
        say(f"classify   {n_places} of {len(found)} concepts are places in the frame, not contents")
    return {
        "place_share": np.array([each.share for each in found]),
        "place": tuple(each.words if each.is_place else "" for each in found),
    }


@contextmanager
def _shown(n: int, is_slow: bool) -> Iterator[Callable[[int], object]]:
    """Show how many vectors have been through the head, and say beforehand if they take long."""
    if not is_slow or n <= FEW:
        yield lambda n: None
        return
    start, told = time.monotonic(), False
    with bar("null", n, "positions", leave=False) as shown:

        def tick(n_more: int) -> None:
            nonlocal told
            shown.update(n_more)
            left = (time.monotonic() - start) / shown.n * (n - shown.n)
            if not told and left > LONG:
                say(
                    f"classify   labels are compared with {n:,} real positions, each of which goes"
                    f" through the network from the layer on: about {left / 60:.0f} minutes"
                )
            told = True

        yield tick


def _measure(sample: RunSamples) -> dict[str, Any]:
    """Measure fidelity and effects on a bounded sample of images, held out where there are any."""
    workspace, bank = sample.workspace, sample.workspace.bank
    kind = workspace.cut.head_kind
    image_ids = sample.image_ids(N_IMAGES[kind], sample.split)
    by_number = sample.fewer(bank)
    seen = sample.see(image_ids, bank, sample.stand_ins(bank) | by_number)
    answers = Answers(workspace.cut, bank, seen.prefix)
    classes = true_classes(workspace, seen.image_id)
    own = {name: each for name, each in seen.answers.items() if name not in by_number}
    rows = fidelity(seen.truth, own, classes, link=answers.link)
    present = seen.H.flatten(1, 2).amax(1).numpy() >= bank.thresholds
    found = effects(answers, seen.H, present)
    sobol = np.full(bank.k, np.nan)
    if kind != "general":  # N (k + 2) passes per image through any other head: on demand only
        rows += curve_rows(seen, answers, workspace.config.seed)
        sobol = sobol_total(answers, seen.H, seen.top, seed=workspace.config.seed).mean(0)
    rows = [{"split": sample.split} | row for row in rows] + _of_the_probe(workspace)
    rows += [
        {"split": sample.split} | row
        for name in by_number
        for row in _of_number(int(name), seen, seen.answers[name], answers.link)
    ]
    return {
        "importance": found.importance,
        "sobol_total": sobol,
        "deletion_effect": found.deletion,
        "insertion_effect": found.insertion,
        "fidelity": [{"k": bank.k, "concept_id": None, "level": None} | row for row in rows],
    }


def _of_number(n: int, seen: Seen, answer: torch.Tensor, link: Link) -> list[dict[str, Any]]:
    """Return what n concepts keep of the network's answers as rows of ``fidelity``."""
    found, least = (compare(seen.truth, each, link) for each in (answer, seen.answers["mean"]))
    told = {"k": n, "class_id": None, "n": len(seen.truth)}
    return [
        told | {"metric": metric, "value": value, "baseline": least[metric]}
        for metric, value in found.items()
    ]


def _of_the_probe(workspace: Workspace) -> list[dict[str, Any]]:
    """Return how good a probe is as a row of the table ``fidelity``; its baseline is chance."""
    if workspace.config.head != "probe" or not workspace.probe.n_heldout:
        return []
    probe = workspace.probe
    said = {"value": probe.accuracy, "baseline": probe.chance, "n": probe.n_heldout}
    return [{"metric": "probe_accuracy", "split": "heldout", "class_id": None} | said]


def curve_rows(seen: Seen, answers: Answers, seed: int) -> list[dict[str, Any]]:
    """Return the insertion and deletion curves as rows of the table ``fidelity``."""
    found = curves(answers, seen.H, seen.top, seen.contributions, seed)
    return [
        {
            "metric": name,
            "class_id": None,
            "level": level,
            "value": value,
            "baseline": baseline,
            "n": len(seen.H),
        }
        for name in ("deletion", "insertion")
        for level, value, baseline in zip(
            found.levels.tolist(),
            getattr(found, name).mean(0).tolist(),
            found.random.mean(0).tolist(),
            strict=True,
        )
    ]


def _usual(sample: RunSamples) -> Quantiles:
    """Learn from the first images of the run, a random sample, how much is usually left."""
    bank = sample.workspace.bank
    residuals, peaks, classes = [], [], []
    for images in sample.read(sample.image_ids(N_USUAL)):
        residual, left = unexplained(images.V, bank.encode(images.V)[1])
        residuals.append(residual)
        peaks.append(left.amax(dim=(1, 2)))
        classes.append(top_classes(images.logits.numpy()))
    shares, tops = (torch.cat(each).numpy() for each in (residuals, peaks))
    return quantiles(shares, tops, np.concatenate(classes))
