"""The whole job: every stage in order, and a summary of what was found."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Hashable
from typing import Any

from pipeline.jobs.atlas import make_atlas
from pipeline.jobs.carry_out import Job, carry_out
from pipeline.jobs.classify import classify
from pipeline.jobs.export import export
from pipeline.jobs.extract import extract
from pipeline.jobs.factorize import factorize
from pipeline.jobs.localize import localize
from pipeline.jobs.workspace import Workspace
from pipeline.progress import say
from pipeline.run import open_run

JOBS: dict[str, Job] = {
    "extract": extract,
    "factorize": factorize,
    "localize": localize,
    "classify": classify,
    "export": export,
    "atlas": make_atlas,
}


NOT_TELLING = (
    "(in brackets: not better than chance, other places as strong tell as much; see top_p in the"
    " table concepts)"
)


def discover(workspace: Workspace) -> None:
    """Carry out all stages that have something to make and print the summary on stdout."""
    say(f"run        {workspace.folder}")
    if workspace.config.shard is None:
        carry_out(workspace, JOBS)
        print(summary(workspace))
        return
    carry_out(workspace, {"extract": extract})
    n_missing = len(workspace.activations.missing())
    print(f"part {workspace.config.shard} is extracted; {n_missing} shards are missing yet")


def summary(workspace: Workspace) -> str:
    """Write what a run found: concepts with labels and coverage, where things lie, a query."""
    run = open_run(workspace.folder)
    concepts = run.sql(
        "select concept_id, top_label, top_prob, top_significant, coverage, energy, stability,"
        " n_images from concepts order by energy desc"
    )
    fidelity = run.sql(
        "select metric, value, baseline, n, split from fidelity where class_id is null"
        " and metric in ('agreement', 'kl')"
    )
    lines = ["", f"{len(concepts)} concepts of {workspace.config.model} {workspace.config.layer}"]
    lines[-1] += f", {run.table('images').shape[0]} images"
    header = f"{'concept':>7}  {'the head calls it':<28} {'prob':>5} {'coverage':>9}"
    lines += ["", f"{header} {'energy':>7} {'stable':>7} {'images':>7}"]
    lines += [_concept_line(row) for row in concepts.to_dict("records")]
    if not concepts["top_significant"].all():
        lines.append(NOT_TELLING)
    lines.append("")
    for row in fidelity.itertuples():
        lines.append(
            f"{row.metric} of the network on the concepts alone, {row.n} {row.split} images:"
            f" {row.value:.3f} (mean activation: {row.baseline:.3f})"
        )
    folder = workspace.folder
    lines += [
        "",
        f"atlas   {folder / 'atlas' / 'index.html'}",
        f"tables  {folder / 'tables'}",
        'try     .venv/bin/python -c "from pipeline import open_run;'
        f" print(open_run('{folder}').sql('select top_label, coverage from concepts"
        " order by energy desc'))\"",
    ]
    return "\n".join(lines)


def _concept_line(row: dict[Hashable, Any]) -> str:
    label = textwrap.shorten(row["top_label"], 28, placeholder="…")
    label = label if row["top_significant"] else f"({label[:26]})"
    stability = "–" if math.isnan(row["stability"]) else f"{row['stability']:.2f}"
    return (
        f"{row['concept_id']:>7}  {label:<28} {row['top_prob']:5.2f} {row['coverage']:9.1%}"
        f" {row['energy']:7.1%} {stability:>7} {row['n_images']:>7}"
    )
