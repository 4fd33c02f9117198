"""Scores with their intervals, drawn small: a line from low to high with a dot at the value."""

from math import isfinite
from typing import NamedTuple

from viq.evaluation.document import Cell, Score, Table

WIDTH, HEIGHT, MARGIN = 88, 12, 5  # pixels
MOST_COLUMNS = 7  # of a table in which there is room for drawings


class Interval(NamedTuple):
    """A score and both ends, all finite."""

    low: float
    value: float
    high: float

    @classmethod
    def of(cls, cell: Cell) -> "Interval | None":
        """The interval of a cell, if it has one that can be drawn."""
        if not isinstance(cell, Score) or cell.interval is None:
            return None
        low, high = cell.interval
        found = cls(low, cell.value, high)
        return found if all(map(isfinite, found)) else None


class Scale(NamedTuple):
    """What the intervals of a column span."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        """Where a value lies, in pixels from the left."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)


def scales(table: Table) -> dict[int, Scale]:
    """A scale for each column that has intervals to compare, in a table that has room for them.

    Zero lies on it where an end is negative.
    """
    found: dict[int, Scale] = {}
    if len(table.columns) > MOST_COLUMNS:
        return found
    for i in range(len(table.columns)):
        intervals = [interval for row in table.rows if (interval := Interval.of(row[i]))]
        if len(intervals) > 1:
            ends = [end for interval in intervals for end in interval]
            ends += [0.0] if min(ends) < 0 else []
            found[i] = Scale(min(ends), max(ends))
    return found


def drawing(interval: Interval, scale: Scale) -> str:
    """SVG, for the eye alone: the same numbers stand beside it."""
    low, value, high = (scale(end) for end in interval)
    y = HEIGHT // 2
    zero = ""
    if scale.low < 0:
        zero = f'<line class="zero" x1="{scale(0)}" x2="{scale(0)}" y1="0" y2="{HEIGHT}"/>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" aria-hidden="true">'
        f'<line class="span" x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y}" y2="{y}"/>{zero}'
        f'<line class="range" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        f'<circle cx="{value}" cy="{y}" r="3.5"/></svg>'
    )
