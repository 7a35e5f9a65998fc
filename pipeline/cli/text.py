"""Terminal tables of what the library answers."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, option
from ..escape import fitted, visible, visible_lines

if TYPE_CHECKING:
    import pandas as pd

    from ..analysis.compare import Comparison
    from ..analysis.evaluation import Evaluation
    from ..runs.status import RunStatus
    from ..system.doctor import Finding


SOME = 5
"""Images without usable truth that are named; the others are counted."""


def show(text: object, *, on_stderr: bool = False) -> None:
    """Print a text of one line or several; the only place that writes to the terminal.

    Raises
    ------
    BrokenPipeError
        Nobody reads any more.
    UserError
        It cannot be written, as on a full disk.
    """
    try:
        print(visible_lines(str(text)), file=sys.stderr if on_stderr else sys.stdout, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"what was found cannot be written to stdout: {error.strerror}") from error


def layers(table: pd.DataFrame) -> str:
    """Write the layers of a network, with the disk that 1,000 images take there at most."""
    lines = [f"{'layer':<40} {'kind':<18} {'channels':>8} {'grid':>9} {'MB/1,000':>9}  values"]
    sizes = 2e-3 * table["channels"] * table["height"] * table["width"]  # float16, not compressed
    for row, size in zip(table.itertuples(), sizes, strict=True):
        values = "signed" if row.signed else "non-negative"
        note = f" ({option('layer', 'auto')})" if row.auto else ""
        note = note if row.usable else f"; cannot be used: {row.reason}"
        grid = f"{row.height}×{row.width}"
        start = f"{row.layer:<40} {row.kind:<18} {row.channels:>8} {grid:>9} {size:>9,.0f}"
        lines.append(f"{start}  {values}{note}")
    return "\n".join([*lines, "", f"{option('layer', 'auto')} is {table.attrs['why']}"])


def evaluation(found: Evaluation) -> str:
    """Write how the truth was read, scores by label, and what concepts come to by themselves."""
    lines = [*map(visible, found.said)]
    lines += [f"not used: {visible(what)}: {visible(why)}" for what, why in found.unused[:SOME]]
    if len(found.unused) > SOME:
        lines.append(f"not used: {len(found.unused) - SOME:,} more")
    lines += [""] if lines else []
    lines.append(f"{'label':<28} {'images':>6} {'J':>6} {'precision':>9} {'CorLoc':>7} {'MAE':>6}")
    lines += [
        f"{fitted(row.label, 28):<28} {row.images:>6} {row.j:6.3f} {row.precision:9.3f}"
        f" {row.corloc:7.3f} {row.mae:6.3f}"
        for row in found.by_label().itertuples()
    ]
    if not math.isnan(found.max_f):
        lines.append(f"\nobjects at the best of all thresholds: F {found.max_f:.3f} (β² = 0.3)")
    if found.parts:
        lines.append(f"\nconcepts as parts: {_listed(found.parts)}")
    lines += [
        f"\nthe best concept of each {of}: {_listed(scores)}"
        for of, scores in found.alignment().items()
    ]
    return "\n".join(lines)


def _listed(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


def comparison(found: Comparison, a: Path, b: Path) -> str:
    """Write the pairs of concepts."""
    lines = [f"{visible(a.name):>36}   {visible(b.name):<36} cosine of {found.by}"]
    lines += [
        f"{fitted(row.label_a, 30):>30} {row.concept_a:>5}   {row.concept_b:<5}"
        f" {fitted(row.label_b, 30):<30} {row.cosine:.3f}"
        for row in found.pairs.itertuples()
    ]
    return "\n".join(lines)


def status(found: RunStatus) -> str:
    """Write how far a run is."""
    lines = [f"{visible(str(found.folder))}: {visible(found.model)} {visible(found.layer)}"]
    rows = found.stages.to_dict("records")
    lines += [f"  {row['stage']:<10} {row['state']:<12} {row['facts']}" for row in rows]
    for row in rows:
        parts = f"{row['n_there']} of {row['n_parts']} {'shards' if row['sharded'] else 'written'}"
        kept = "" if row["kept"] else ", not kept when all is done"
        lines.append(f"  {row['product']:<12} {parts}, {row['n_bytes'] / 1e6:.1f} MB{kept}")
    lines.append(f"  {found.n_bytes / 1e6:.1f} MB on disk in all")
    return "\n".join([*lines, *(f"  {line}" for line in found.history)])


def finding(found: Finding) -> str:
    """Write what was found of one thing, and what to do about it."""
    advice = "" if found.ok or not found.advice else f" → {visible(found.advice)}"
    return f"{'ok' if found.ok else 'missing':8} {found.name:9} {visible(found.found)}{advice}"


def names(found: tuple[Mapping[int, tuple[str, str]], Sequence[str]]) -> str:
    """Write the names that people gave, and those that no concept has."""
    named, lost = found
    lines = [f"{concept:>5}  {name}  ({said})" for concept, (name, said) in named.items()]
    lines += [f"  none {each}" for each in lost]
    return "\n".join(map(visible, lines)) or "no concept was named by hand"
