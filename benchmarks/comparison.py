"""Contenders side by side: their errors, their times, how they fall and how they spread.

Notation: V (positions × channels) activations, W (channels × k) concepts, H (positions × k)
strengths, all rows in memory; V ≈ H Wᵀ.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.contenders import OURS, Case, Outcome
from benchmarks.harness import Report, show
from pipeline import nmf

EQUAL = 1.0005
"""Errors within this factor count as equal: half of how far ends of different seeds are apart."""


def in_turns(outcomes: Sequence[Outcome], case: Case, k: int, n_seeds: int) -> None:
    """Run all contenders, seed by seed."""
    for seed in range(n_seeds):
        for outcome in outcomes:
            if seed < outcome.contender.n_seeds:
                outcome.take(case, k, seed)


def tabulate(title: str, case: Case, k: int, outcomes: Sequence[Outcome]) -> None:
    """Print what contenders came to, beside our own and the floor."""
    ours = outcomes[0]
    floor = nmf.svd_error(torch.from_numpy(case.V), k)
    rows: list[list[object]] = [
        [
            each.contender.name,
            len(each.errors),
            each.time,
            each.time / ours.time,
            f"{each.error:.5f}",
            f"{each.error / ours.error:.5f}",
            f"{max(each.errors) - min(each.errors):.5f}",
            each.cosine(),
        ]
        for each in outcomes
    ]
    below = f"{floor / ours.error:.5f}"
    rows.append(["truncated SVD (floor)", None, None, None, f"{floor:.5f}", below, "–", None])
    header = ["way", "seeds", "seconds", "× ours", "error", "× ours", "spread", "cosine of seeds"]
    show(title, header, rows)


def judge(name: str, outcomes: Sequence[Outcome], report: Report, small: bool = False) -> None:
    """Compare with scikit-learn's `NMF` from its better start: the one of the smaller error."""
    ours = next(each for each in outcomes if each.contender.name == OURS)
    references = [each for each in outcomes if each.contender.is_reference]
    reference = min(references, key=lambda each: each.error)
    if small:
        report.skipped(f"{name}.speedup", "a small case costs what its sample costs")
    else:
        report.measured(f"{name}.speedup", reference.time / ours.time)
    report.measured(f"{name}.error_ratio", ours.error / reference.error)
    explained = (1 - ours.error**2) / (1 - reference.error**2)
    report.measured(f"{name}.explained_ratio", explained)


def chase(case: Case, k: int, outcomes: Sequence[Outcome]) -> None:
    """Measure how errors fall with time, and print how long everyone takes to our error."""
    ours = outcomes[0]
    rows: list[list[object]] = []
    for each in outcomes:
        each.take_points(case, k)
        took = each.time_to(EQUAL * ours.error)
        longest = max(seconds for seconds, _ in each.curve)
        least = min(error for _, error in each.curve)
        quotient = (longest if took is None else took) / ours.time
        shown = f"> {quotient:.1f} (never reached)" if took is None else f"{quotient:.1f}"
        rows.append([each.contender.name, took, shown, f"{least / ours.error:.5f}"])
    header = ["way", "seconds to our error", "× ours", "least error, × ours"]
    show(f"{case.name}, k = {k}, time to an error within {EQUAL:g} of ours", header, rows)


def draw(outcomes: Mapping[str, list[Outcome]], axes: Axes) -> None:
    """Draw error above our own against seconds: a colour per contender, a mark per case."""
    marks = dict(zip(outcomes, itertools.cycle("osD^vP"), strict=False))
    names = list(
        dict.fromkeys(each.contender.name for every in outcomes.values() for each in every)
    )
    colours = {name: f"C{index}" for index, name in enumerate(names)}
    for case, results in outcomes.items():
        ours = results[0].error
        for each in results:
            colour = colours[each.contender.name]
            times, errors = zip(*each.curve, strict=True)
            relative = [error / ours for error in errors]
            axes.plot(times, relative, marker=marks[case], color=colour, linewidth=0.8)
    for name, colour in colours.items():
        axes.plot([], [], color=colour, label=name)
    for case, mark in marks.items():
        axes.scatter([], [], marker=mark, color="grey", label=case)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds from V to W and all of H")
    axes.set_ylabel("relative error / that of pipeline.nmf")
    axes.legend(fontsize="small")
