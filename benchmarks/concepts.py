"""Benchmark of the concepts: where they are, and what they mean, against ground truth."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import localization, meaning
from benchmarks.harness import Report, wants_quick

TARGETS = (*localization.TARGETS, *meaning.TARGETS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where a target was missed."""
    quick = wants_quick(__doc__ or "", argv)
    report = Report(TARGETS)
    localization.measure(report, quick=quick)
    meaning.measure(report, quick=quick)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
