"""Intervals, drawn."""

import math
import re
from xml.etree import ElementTree

import pytest

from viq.evaluation.document import Column, Score, Table
from viq.evaluation.report.intervals import MARGIN, WIDTH, Interval, Scale, drawing, scales


def table(*cells, more=0):
    columns = tuple(Column(name=str(i)) for i in range(2 + more))
    return Table(title="", columns=columns, rows=tuple(("x", c, *[0] * more) for c in cells))


def test_a_scale_spans_all_intervals_of_its_column():
    first, second = Score(value=2, low=1, high=4), Score(value=3, low=2, high=3.5)
    assert scales(table(first, second, Score(value=9), 100, None, "text")) == {1: Scale(1, 4)}


def test_one_interval_alone_is_not_drawn():
    assert scales(table(Score(value=2, low=1, high=4), 3)) == {}


def test_zero_is_on_a_scale_with_negative_values():
    below, above = Score(value=-3, low=-4, high=-2), Score(value=1, low=-1, high=2)
    assert scales(table(below, below)) == {1: Scale(-4, 0)}
    assert scales(table(below, above)) == {1: Scale(-4, 2)}


def test_infinite_intervals_are_not_drawn():
    score = Score(value=math.inf, low=1, high=math.inf)
    assert Interval.of(score) is None
    assert scales(table(score, score, Score(value=math.nan, low=1, high=2))) == {}


def test_a_single_number_has_no_interval_to_draw():
    assert Interval.of(Score(value=2, low=2, high=2)) is None
    assert Interval.of(Score(value=2, low=2, high=2, count=5)) == (2, 2, 2)


def test_a_wide_table_has_no_drawings():
    score = Score(value=2, low=1, high=4)
    assert scales(table(score, score, more=5))
    assert not scales(table(score, score, more=6))


def test_ends_and_value_are_where_the_scale_has_them():
    scale = Scale(-10, 10)
    root = ElementTree.fromstring(drawing(Interval(-10, 0, 10), scale))
    parts = {part.get("class", part.tag): part for part in root}
    middle = str(WIDTH / 2)
    assert root.get("aria-hidden") == "true"
    assert (parts["range"].get("x1"), parts["range"].get("x2")) == (
        str(float(MARGIN)),
        str(float(WIDTH - MARGIN)),
    )
    assert parts["circle"].get("cx") == parts["zero"].get("x1") == middle


def test_without_negative_values_there_is_no_line_at_zero():
    assert "zero" not in drawing(Interval(1, 2, 3), Scale(1, 3))


@pytest.mark.parametrize("interval", [Interval(5, 5, 5), Interval(0, 0, 0)])
def test_one_value_alone_is_in_the_middle(interval):
    (cx,) = re.findall('cx="([^"]+)"', drawing(interval, Scale(interval.low, interval.high)))
    assert float(cx) == WIDTH / 2
