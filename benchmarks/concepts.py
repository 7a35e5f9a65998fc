"""Benchmark of the concepts: where they are, and what they mean, against ground truth."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import faithful, localization, meaning, names, reappear, shortcut, verdicts
from benchmarks.harness import MissingAssetsError, Report, introduce

PARTS = {
    "localization": localization,
    "faithful": faithful,
    "meaning": meaning,
    "verdicts": verdicts,
    "names": names,
    "shortcut": shortcut,
    "reappear": reappear,
}
CUE = "cue"
TARGETS = tuple(target for part in PARTS.values() for target in part.TARGETS)

N_QUICK = 4
"""Parts of a quick run, the first ones."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where a target was missed."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--quick", action="store_true", help="a smaller case, without the cue")
    parser.add_argument("--only", action="append", choices=(*PARTS, CUE), help="a part; repeatable")
    given = parser.parse_args(argv)
    introduce(given.quick)
    asked = given.only or ([*PARTS][:N_QUICK] if given.quick else [*PARTS, CUE])
    report = Report(TARGETS)
    for name, part in PARTS.items():
        if name in asked:
            try:
                part.measure(report, quick=given.quick)
            except MissingAssetsError as error:
                report.skip_rest(str(error), part.TARGETS)
    if CUE in asked:
        meaning.show_cue()
    report.skip_rest("not asked for")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
