"""A run as text: what was found, what head and labels call each concept, where it misleads."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from typing import Any

import pandas as pd

from ..errors import spoken
from ..escape import fitted, shell_word, visible
from ..runs.growth import describe as describe_growth
from ..runs.probe import describe
from ..runs.workspace import Workspace
from . import sureness
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


NOT_TELLING = (
    "(in brackets: not better than chance, other places as strong tell as much; see top_p in the"
    " table concepts)"
)


def summary(run: Run) -> str:
    """Write what a run refused, concepts with labels and coverage, where to look, and a query."""
    config, folder = run.workspace.config, run.folder
    concepts = run.sql(
        "select concept_id, top_label, top_prob, top_significant, dataset_label,"
        " dataset_precision, coverage, energy, stability, n_images from concepts"
        " order by energy desc"
    )
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
        f"{len(concepts)} concepts of {config.model} {config.layer}, {n_images} images",
        *describe_growth(run.workspace.record),
    ]
    has_classes = bool(concepts["top_label"].notna().any())
    called = ("the head calls it", "prob") if has_classes else ("most of its images are", "share")
    header = f"{'concept':>7}  {called[0]:<28} {called[1]:>5} {'coverage':>9}"
    lines += ["", f"{header} {'energy':>7} {'stable':>7} {'images':>7}"]
    known = run.table("concepts").set_index("concept_id", drop=False)
    marks = {each: sureness.mark(row) for each, row in known.to_dict("index").items()}
    lines += [_summary_line(row, marks[row["concept_id"]]) for row in concepts.to_dict("records")]
    if not has_classes:
        lines.append("(the network has no classes)")
    elif not concepts["top_significant"].all():
        lines.append(NOT_TELLING)
    lines += [*sureness.footnote(known), ""]
    if config.head == "probe":
        lines.append(f"the head is a probe: {describe(run.workspace.probe)}")
    for row in fidelity.itertuples():
        lines.append(
            f"{row.metric} of the network on the concepts alone, {row.n} {row.split} images:"
            f" {row.value:.3f} (mean activation: {row.baseline:.3f})"
        )
    where = visible(str(folder))
    lines += ["", f"atlas   {where}/atlas/index.html", f"tables  {where}/tables"]
    return "\n".join([*lines, f"try     {_query(run)}"])


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
    has_classes = bool(run.table("concepts")["top_label"].notna().any())
    label = "top_label" if has_classes else "dataset_label"
    sql = f"select {label}, coverage from concepts order by energy desc"
    # In double quotes; what JSON and `visible` escape is what Python reads.
    where = visible(json.dumps(str(run.folder), ensure_ascii=False))
    code = f'from {package} import open_run; print(open_run({where}).sql("{sql}"))'
    return f"{python} -c {shell_word(code)}"


def _summary_line(row: Row, mark: str) -> str:
    if isinstance(row["top_label"], str):
        label, share = fitted(row["top_label"], 28), row["top_prob"]
        label = label if row["top_significant"] else f"({label[:26]})"
    else:
        known = isinstance(row["dataset_label"], str)
        label, share = fitted(row["dataset_label"], 28) if known else "–", row["dataset_precision"]
    stability = "–" if math.isnan(row["stability"]) else f"{row['stability']:.2f}"
    part: str = "    –" if pd.isna(share) else f"{share:5.2f}"
    return (
        f"{row['concept_id']:>7}  {label:<28} {part} {row['coverage']:9.1%}"
        f" {row['energy']:7.1%} {stability:>7}{mark}{row['n_images']:>7}"
    )


def list_concepts(run: Run) -> str:
    """Write a run's concepts by falling energy, and the labels whose images fail with them."""
    concepts = run.table("concepts").sort_values("energy", ascending=False)
    parts = [_title(run, len(concepts)), _table(run, concepts), _fidelity(run), _failures(run)]
    return "\n\n".join(part for part in parts if part)


def _title(run: Run, n_concepts: int) -> str:
    config = run.workspace.config
    n_images = len(run.table("images"))
    return f"{n_concepts} concepts of {config.model} {config.layer}, {n_images} images"


def _table(run: Run, concepts: pd.DataFrame) -> str:
    lines = [
        f"{'concept':>7}  {'the head calls it':<{WIDTH + 2}} {'prob':>5}  "
        f"{'most of its images are':<{WIDTH + 2}} {'share':>6} {'drop':>6} {'errors':>7}"
        f" {'coverage':>8} {'energy':>6} {'stable':>6} {'images':>6}"
    ]
    lines += [_line(row, _Names(run.workspace)) for row in concepts.to_dict("records")]
    lines += [
        "",
        "drop: of the predicted class's logit without it; errors: how much more often the network",
        "errs where it is, within labels (* better than chance)",
    ]
    known = concepts["top_label"].notna()
    if not concepts["top_significant"][known].all():
        lines.append(NOT_TELLING)
    if any(_differs(row) for row in concepts.to_dict("records")):
        lines.append("≠: head and labels disagree")
    return "\n".join([*lines, *sureness.footnote(concepts)])


class _Names:
    """Labels as they are shown: with the name of their class, where that is another."""

    def __init__(self, workspace: Workspace) -> None:
        self._classes, self._names = workspace.class_of_label, workspace.class_names

    def of(self, label: object) -> str:
        """Return a label with its name, ``–`` for none, in `WIDTH` characters or so."""
        if not isinstance(label, str):
            return "–"
        name = self._names[self._classes[label]] if label in self._classes else label
        return _short(label if name == label else f"{label} {name}")


def _line(row: Row, names: _Names) -> str:
    head, prob = "–", "    –"
    if isinstance(row["top_label"], str):
        head, prob = _short(row["top_label"]), f"{row['top_prob']:5.2f}"
        head = head if row["top_significant"] else f"({head})"
    drop: str = "     –" if pd.isna(row["importance"]) else f"{row['importance']:6.2f}"
    share: str = "–" if pd.isna(row["dataset_precision"]) else f"{row['dataset_precision']:.0%}"
    return (
        f"{row['concept_id']:>7}  {head:<{WIDTH + 2}} {prob}"
        f" {'≠' if _differs(row) else ' '}{names.of(row['dataset_label']):<{WIDTH + 2}}"
        f" {share:>6} {drop} {_excess(row):>7}"
        f" {row['coverage']:8.1%} {row['energy']:6.1%} {_number(row['stability'])}"
        f"{sureness.mark(row)}{row['n_images']:6}"
    )


def _differs(row: Row) -> bool:
    """Say whether the head names a class, better than chance, that is not that of the label."""
    agree = row["labels_agree"]
    if pd.isna(agree) or pd.isna(row["top_significant"]):
        return False
    return bool(row["top_significant"]) and not agree


def _short(text: object) -> str:
    return fitted(text, WIDTH)


def _excess(row: Row) -> str:
    if pd.isna(row["error_excess"]):
        return "–"
    return f"{row['error_excess']:+.0%}{'*' if row['error_q'] <= LEVEL else ' '}"


def _number(value: float) -> str:
    return f"{'–':>6}" if pd.isna(value) else f"{value:6.2f}"


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
    names = _Names(run.workspace)
    lines += [_failure(row, names) for row in found.to_dict("records")]
    return "\n".join(lines)


def _failure(row: Row, names: _Names) -> str:
    return (
        f"{row['concept_id']:>7}  {names.of(row['label']):<{WIDTH + 2}}"
        f" {row['error_rate_with']:4.0%} of {row['n']} images, without it"
        f" {row['error_rate_without']:.0%}; difference {row['ci_low']:+.0%} to"
        f" {row['ci_high']:+.0%}, q = {row['q_value']:.2g}"
    )
