"""A run's suspects as text: what nobody told the network to learn, worst first."""

from __future__ import annotations

import textwrap

from ..escape import visible
from .run import Run

WIDTH = 96


def list_suspects(run: Run) -> str:
    """Write a run's suspects with the evidence for each, or why there are none."""
    found = run.suspects()
    n = len(found)
    if not n:
        return f"no suspects: {found.attrs['reason']}"
    counted = "1 concept moves" if n == 1 else f"{n} concepts move"
    lines = [f"{counted} the network's answers away from the labels, the worst first", ""]
    for row in found.to_dict("records"):
        head = (
            f"{row['rank']:>3}  concept {row['concept_id']}, score {row['score']:.4f},"
            f" q {_q(row['q_value'])}"
        )
        said = textwrap.wrap(visible(row["sentence"]), WIDTH)
        lines += [head, *(f"     {line}" for line in said)]
    lines += [
        "",
        "score: share of all images that taking it out gives back at least, times how unlike",
    ]
    lines.append("the labels' object it is; their images: run.images_with(concept_id)")
    return "\n".join(lines)


def _q(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.2g}"
