"""Benchmark of the concepts: where they are, and what they mean, against ground truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import faithful, localization, meaning, names, reappear, shortcut, verdicts
from benchmarks.harness import Report, introduce

TARGETS = (
    *localization.TARGETS,
    *faithful.TARGETS,
    *meaning.TARGETS,
    *verdicts.TARGETS,
    *names.TARGETS,
    *shortcut.TARGETS,
    *reappear.TARGETS,
)
PARTS = ("localization", "faithful", "meaning", "verdicts", "names", "shortcut", "reappear", "cue")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a smaller case, without the cue")
    parser.add_argument("--only", action="append", choices=PARTS, help="a part; repeatable")
    given = parser.parse_args(argv)
    introduce(given.quick)
    asked = given.only or (PARTS[:4] if given.quick else PARTS)
    report = Report(TARGETS)
    if "localization" in asked:
        localization.measure(report, quick=given.quick)
    if "faithful" in asked:
        faithful.measure(report, quick=given.quick)
    if "meaning" in asked:
        meaning.measure(report, quick=given.quick)
    if "verdicts" in asked:
        verdicts.measure(report, quick=given.quick)
    if "names" in asked:
        names.measure(report, quick=given.quick)
    if "reappear" in asked:
        reappear.measure(report, quick=given.quick)
    if "shortcut" in asked:
        shortcut.measure(report, quick=given.quick)
    if "cue" in asked:
        meaning.show_cue()
    report.skip_rest("not asked for")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
