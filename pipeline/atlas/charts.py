"""Charts as plain numbers: what a template needs to draw lines and bars in SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

Tick = tuple[float, str]


@dataclass(frozen=True)
class Series:
    """One line: its name, points (x, y), and for each point the range (low, high) of replicates."""

    name: str
    points: Sequence[tuple[float, float]]
    ranges: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Line:
    """A series in drawing units."""

    name: str
    path: str
    dots: list[tuple[float, float]]
    ranges: list[tuple[float, float, float]]


@dataclass(frozen=True)
class Chart:
    """A line chart in drawing units: a box of `width` × `height` with its frame inside."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    mark: float | None


@dataclass(frozen=True)
class Bar:
    """A bar from x to x + width on a scale of 0..100; `negative` tells its sign."""

    x: float
    width: float
    negative: bool


def line_chart(
    series: Sequence[Series],
    *,
    log_x: bool = False,
    mark: float | None = None,
    size: tuple[int, int] = (420, 200),
) -> Chart | None:
    """Scale series into a box; None where there are fewer than two different x.

    Parameters
    ----------
    series : sequence of Series
    log_x : bool
        Logarithmic x, with a tick at every x of the data.
    mark : float or None
        An x to mark with an upright line.
    size : (int, int)
        Width and height of the drawing.
    """
    xs = sorted({x for each in series for x, _ in each.points})
    ys = [y for each in series for _, y in each.points]
    ys += [end for each in series for pair in each.ranges for end in pair]
    if len(xs) < 2:
        return None
    width, height = size
    left, right, top, bottom = 44.0, width - 14.0, 10.0, height - 26.0
    y_values = _nice_ticks(min(ys), max(ys))
    low, high = min(y_values[0], min(ys)), max(y_values[-1], max(ys))
    bend = math.log if log_x else float

    def at_x(x: float) -> float:
        return round(
            left + (right - left) * (bend(x) - bend(xs[0])) / (bend(xs[-1]) - bend(xs[0])), 1
        )

    def at_y(y: float) -> float:
        return round(bottom - (bottom - top) * (y - low) / (high - low), 1)

    lines = []
    for each in series:
        dots = [(at_x(x), at_y(y)) for x, y in each.points]
        path = " ".join(f"{x},{y}" for x, y in dots)
        spans = [
            (x, at_y(upper), at_y(lower))
            for (x, _), (lower, upper) in zip(dots, each.ranges, strict=False)
        ]
        lines.append(Line(each.name, path, dots, spans))
    x_values = xs if log_x else _nice_ticks(xs[0], xs[-1])
    x_ticks = _apart([(at_x(x), f"{x:g}") for x in x_values if xs[0] <= x <= xs[-1]])
    y_ticks = [(at_y(y), f"{y:g}") for y in y_values if low <= y <= high]
    spot = at_x(mark) if mark is not None and xs[0] <= mark <= xs[-1] else None
    return Chart(width, height, left, right, top, bottom, lines, x_ticks, y_ticks, spot)


@dataclass(frozen=True)
class Histogram:
    """Columns on a scale of 0..100 both ways, y upwards; heights grow with the counts' logarithm.

    Attributes
    ----------
    columns : list of (x, width, height, held)
        `held` tells whether the column lies beyond the mark.
    mark : float
        Where the mark is on the x scale.
    ticks : list of (x, text)
        Round values on the x scale.
    most : int
        The largest count.
    """

    columns: list[tuple[float, float, float, bool]]
    mark: float
    ticks: list[Tick]
    most: int


def histogram(counts: Sequence[int], widest: float, mark: float) -> Histogram | None:
    """Scale counts of equal bins from 0 to `widest`; None where all are zero."""
    most = max(counts, default=0)
    if most == 0:
        return None
    step = 100.0 / len(counts)
    columns = [
        (
            round(at * step, 2),
            round(0.86 * step, 2),
            round(100 * math.log1p(count) / math.log1p(most), 1),
            (at + 0.5) * widest / len(counts) >= mark,
        )
        for at, count in enumerate(counts)
        if count
    ]
    values = [each for each in _nice_ticks(0.0, widest) if each <= widest]
    ticks = [(round(100 * each / widest, 2), f"{each:g}") for each in values]
    return Histogram(columns, round(min(100.0, 100 * mark / widest), 2), ticks, most)


def bars(values: Sequence[float], *, least: float = 0.0) -> tuple[list[Bar], float]:
    """Bars from a common zero, each on a scale of 0..100 that holds all of them.

    Parameters
    ----------
    values : sequence of float
        What the bars show.
    least : float
        The scale reaches at least from −`least` (where a value is negative) to `least`.

    Returns
    -------
    (list of Bar, float)
        The bars, and where zero lies.
    """
    high = max([0.0, least, *values])
    low = min([0.0, *values])
    low = min(low, -least) if low < 0 or least > 0 else low
    span = (high - low) or 1.0
    zero = -100.0 * low / span
    made = []
    for value in values:
        length = 100.0 * abs(value) / span
        made.append(
            Bar(round(zero - length if value < 0 else zero, 2), round(length, 2), value < 0)
        )
    return made, round(zero, 2)


def waterfall(steps: Sequence[float]) -> tuple[list[Bar], Bar, float]:
    """Bars that start where the one before ended, and one from zero to the sum.

    Returns
    -------
    (list of Bar, Bar, float)
        The steps, their sum, and where zero lies, on a scale of 0..100.
    """
    ends = [0.0]
    for step in steps:
        ends.append(ends[-1] + step)
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def bar(start: float, end: float) -> Bar:
        x = 100.0 * (min(start, end) - low) / span
        return Bar(round(x, 2), round(100.0 * abs(end - start) / span, 2), end < start)

    made = [bar(start, end) for start, end in itertools.pairwise(ends)]
    return made, bar(0.0, ends[-1]), round(-100.0 * low / span, 2)


def _nice_ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `n` steps."""
    span = (high - low) or abs(high) or 1.0
    rough = span / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(
        each * power for each in (1.0, 2.0, 2.5, 5.0, 10.0) if each * power >= rough * 0.999
    )
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(at * step, 12) for at in range(first, max(last, first + 1) + 1)]


def _apart(ticks: list[Tick], least: float = 24.0) -> list[Tick]:
    """Drop ticks whose text would touch the one before."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick[0] - kept[-1][0] >= least:
            kept.append(tick)
    return kept
