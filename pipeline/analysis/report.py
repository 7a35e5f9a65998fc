"""A run as text: what was found, what head and labels call each concept, where it misleads."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from typing import Any

from ..config import K_AUTO
from ..errors import command, spoken
from ..escape import fitted, shell_word, visible
from ..runs.growth import describe as describe_growth
from ..runs.probe import describe
from .concept_lines import ConceptLines, Names
from .run import Run

LEVEL = 0.05
"""False discovery rate at which errors are said to go with a concept."""

N_FAILURES = 10
"""Failures listed, the largest differences of the error rates first."""

N_REASONS = 5
"""Kinds of reason for refusing an input that the summary lists."""

WIDTH = 22

SOME = 4
"""Labels that are named where they are no classes."""

Row = dict[Hashable, Any]


def summary(run: Run) -> str:
    """Write what a run refused, concepts with labels and coverage, where to look, and a query."""
    config, folder = run.workspace.config, run.folder
    fidelity = run.sql(
        "select metric, value, baseline, n, split from fidelity where class_id is null"
        " and metric in ('agreement', 'kl')"
    )
    n_images = int(run.sql("select count(*) as n from images")["n"].iloc[0])
    lines = [
        *_refused(run, n_images),
        *_damaged(run),
        *_in_part(run),
        *_unmatched(run),
        "",
        _title(run, n_images),
        *describe_growth(run.workspace.record),
        "",
        *ConceptLines(run).short(),
        *([] if run.workspace.class_names else ["(the network has no classes)"]),
        "",
    ]
    if config.head == "probe":
        lines.append(f"the head is a probe: {describe(run.workspace.probe)}")
    lines += [
        f"{row.metric} of the network on the concepts alone, {row.n} {row.split} images:"
        f" {row.value:.3f} (mean activation: {row.baseline:.3f})"
        for row in fidelity.itertuples()
    ]
    where = visible(str(folder))
    lines += [*_numbers(run), "", f"atlas   {where}/atlas/index.html", f"tables  {where}/tables"]
    return "\n".join([*lines, f"try     {_query(run)}"])


def _numbers(run: Run) -> list[str]:
    """Say how much fewer of the concepts explain, and how to have them."""
    bank = run.workspace.bank
    tree = bank.tree
    taken = chosen(run) if run.workspace.config.k == "auto" else []
    if tree is None or len(tree.levels) < 2:
        return taken
    is_heldout = not math.isnan(tree.levels[0].heldout_error)
    said = []
    for level in reversed(tree.levels):
        error = level.heldout_error if is_heldout else level.error
        said.append(f"{level.n} explain {1 - error**2:.1%}")
    images = "held-out images" if is_heldout else "a sample"
    fewer = command("discover", from_run=run.folder, at=tree.levels[-1].n)
    return [*taken, "", f"concepts by number, of {images}: {', '.join(said)}; {fewer}"]


def chosen(run: Run) -> list[str]:
    """Say why ``K=auto`` took this number, and what to type for more."""
    bank, weighed = run.workspace.bank, run.table("k_metrics")["k"]
    more = command("discover", from_run=run.folder, k="tree")
    if len(weighed.unique()) < 2:
        return []
    said = "foretell channels of images unseen"
    if weighed.max() > K_AUTO[-1]:
        why = f"the fewest, from {K_AUTO[-1]} on, that {said} nearly as well as the best do"
    elif bank.k_is_stable:
        why = f"the most that {said} as well as the best do"
    else:
        why = f"they {said} best"
    sure = "and come back on halves of the images as shuffled data do not"
    sure = sure if bank.k_is_stable else "but none stood out as stable"
    why = f"of {weighed.min()} to {weighed.max()} {why}, {sure}"
    return ["", f"{bank.k} concepts: {why}; all numbers: {more}"]


def _refused(run: Run, n_images: int) -> list[str]:
    """Say how many inputs were refused and why, the most frequent kinds of reason first."""
    rejected = run.table("rejected")
    if rejected.empty:
        return []
    table = visible(str(run.workspace.table_path("rejected")))
    n_all = len(rejected) + n_images
    lines = [
        "",
        f"{len(rejected)} of {n_all} inputs were refused; {table} says which and why",
    ]
    kinds = rejected["reason"].str.partition(":")[0]
    counts = kinds.value_counts(sort=False).sort_values(ascending=False, kind="stable")
    for kind, n in counts.head(N_REASONS).items():
        first = rejected[kinds == kind].iloc[0]
        why = fitted(first["reason"], 90)
        lines.append(f"{n:>7}  {why}{', the first' if n > 1 else ''}: {visible(first['path'])}")
    if len(counts) > N_REASONS:
        n_left = int(counts.iloc[N_REASONS:].sum())
        lines.append(f"{n_left:>7}  for {len(counts) - N_REASONS} other reasons")
    return lines


def _damaged(run: Run) -> list[str]:
    """Say how many images were used though their files are damaged."""
    images = run.table("images")
    if "damage" not in images:  # tables of earlier versions
        return []
    damaged = images[images["damage"].notna()]
    if damaged.empty:
        return []
    first = damaged.iloc[0]
    words = visible(first["damage"])
    return [
        "",
        f"{len(damaged)} of {len(images)} images are damaged and used as far as they can be decoded"
        f" (damage in the table images); the first: {visible(first['path'])}: {words}",
    ]


def _in_part(run: Run) -> list[str]:
    """Say of how many images a part of the file was read."""
    images = run.table("images")
    if "note" not in images or images["note"].isna().all():
        return []
    noted = images[images["note"].notna()]
    first = noted.iloc[0]
    return [
        "",
        f"of {len(noted)} of {len(images)} images a part was read (note in the table images); the"
        f" first: {visible(first['path'])}: {visible(first['note'])}",
    ]


def _unmatched(run: Run) -> list[str]:
    """Say how many of the dataset's labels are no class of the network."""
    labels = {label for each in run.workspace.listing.labels for label in each}
    others = sorted(labels - run.workspace.class_of_label.keys())
    if not others or not run.workspace.class_names:
        return []
    some = ", ".join(visible(each) for each in others[:SOME]) + (
        ", …" if len(others) > SOME else ""
    )
    return ["", f"{len(others)} of {len(labels)} labels are no class of the network: {some}"]


def _query(run: Run) -> str:
    """Write a first query that can be pasted into a shell, whatever the folder is called."""
    python = ".venv/bin/python" if spoken() == "make" else "python"
    package = "pipeline" if spoken() in ("make", "stages") else "concordance"
    is_named = "name" in run.table("concepts")  # those of earlier versions' runs are not
    columns = "name, kind" if is_named else "top_label"
    sql = f"select {columns}, coverage from concepts order by energy desc"
    # In double quotes; what JSON and `visible` escape is what Python reads.
    where = visible(json.dumps(str(run.folder), ensure_ascii=False))
    code = f'from {package} import open_run; print(open_run({where}).sql("{sql}"))'
    return f"{python} -c {shell_word(code)}"


def list_concepts(run: Run) -> str:
    """Write a run's concepts by falling energy, and the labels whose images fail with them."""
    table = "\n".join(ConceptLines(run).long())
    parts = [_title(run, len(run.table("images"))), table, _fidelity(run), _failures(run)]
    return "\n\n".join(part for part in parts if part)


def _title(run: Run, n_images: int) -> str:
    config = run.workspace.config
    return f"{run.workspace.bank.k} concepts of {config.model} {config.layer}, {n_images} images"


def _fidelity(run: Run) -> str:
    rows = run.sql(
        "select metric, value, baseline, n, split from fidelity where class_id is null"
        " and level is null and metric in ('agreement', 'kl', 'agreement_svd', 'kl_svd')"
    ).set_index("metric")
    lines = []
    for metric in [each for each in ("agreement", "kl") if each in rows.index]:
        row, svd = rows.loc[metric], rows.loc[f"{metric}_svd"]
        lines.append(
            f"{metric} of the network on the concepts alone, {row['n']} {row['split']} images:"
            f" {row['value']:.3f} (SVD {svd['value']:.3f}, mean activation {row['baseline']:.3f})"
        )
    return "\n".join(lines)


def _failures(run: Run) -> str:
    found = run.sql(
        f"""select concept_id, label, n, error_rate_with, error_rate_without, ci_low, ci_high,
        q_value from concept_labels where q_value <= {LEVEL} and ci_low > 0
        order by error_rate_with - error_rate_without desc, concept_id, label limit {N_FAILURES}"""
    )
    if found.empty:
        return ""
    lines = ["where the network fails with a concept:"]
    names = Names(run.workspace)
    lines += [_failure(row, names) for row in found.to_dict("records")]
    return "\n".join(lines)


def _failure(row: Row, names: Names) -> str:
    return (
        f"{row['concept_id']:>7}  {fitted(names.of(row['label']), WIDTH):<{WIDTH + 2}}"
        f" {row['error_rate_with']:4.0%} of {row['n']} images, without it"
        f" {row['error_rate_without']:.0%}; difference {row['ci_low']:+.0%} to"
        f" {row['ci_high']:+.0%}, q = {row['q_value']:.2g}"
    )
