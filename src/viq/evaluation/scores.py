"""Means with 95 % confidence intervals, by the bootstrap over items; the same in every run."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from viq.evaluation.document import Score

RESAMPLES = 10_000
CONFIDENCE = 0.95
NORMAL = 1.959964  # standard deviations to either side that hold so much of a normal distribution
_AT_ONCE = 500  # resamples in memory

Span = tuple[float, float]  # the least and the most that a value can be
SHARE: Span = (0.0, 1.0)


def mean_score(values: Sequence[float], *, scale: float = 1.0, span: Span | None = None) -> Score:
    """The mean of one value an item, times ``scale``, with its interval; one item has none.

    Args:
        values: of the items.
        scale: of the mean.
        span: of the values, where it is known. Of equal values the bootstrap is certain, however
            few they are; inside a span they get an interval: Wilson's, of right and wrong answers.

    Raises:
        ValueError: there are no values.
    """
    return _score(np.asarray(values, np.float64), scale, span)


def paired_difference(
    values: Sequence[float],
    reference: Sequence[float],
    *,
    scale: float = 1.0,
    span: Span | None = None,
) -> Score:
    """The mean of ``values`` minus ``reference``, item by item; arguments as of ``mean_score``.

    Raises:
        ValueError: they are not equally many, or none.
    """
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} values against {len(reference)}; pairs are needed.")
    differences = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    return _score(differences, scale, span and (span[0] - span[1], span[1] - span[0]))


def mean_over_tasks(scores: Sequence[Score]) -> Score:
    """The mean of the tasks' means, whose items are independent; none counts more than another.

    Each end is as far from the mean as the tasks' ends are from theirs, in the root of the sum of
    squares (https://doi.org/10.1002/sim.3095). Without an interval of each task there is none.

    Raises:
        ValueError: there are no tasks.
    """
    if not scores:
        raise ValueError("there are no tasks.")
    value = sum(score.value for score in scores) / len(scores)
    low: float | None = None
    high: float | None = None
    ends = [(s.value, s.low, s.high) for s in scores if s.low is not None and s.high is not None]
    if len(ends) == len(scores):
        low = value - math.hypot(*(middle - end for middle, end, _ in ends)) / len(ends)
        high = value + math.hypot(*(end - middle for middle, _, end in ends)) / len(ends)
    count = sum(score.count or 0 for score in scores)
    return Score(value=value, low=low, high=high, count=count)


def _score(values: NDArray[np.float64], scale: float, span: Span | None) -> Score:
    if not len(values):
        raise ValueError("there are no values.")
    value, count = float(values.mean()), len(values)
    if count == 1:
        return Score(value=value * scale, count=1)
    if span is not None and (values == values[0]).all():
        # So large a share of other values may have been missed, of which each is in the span.
        missed = NORMAL**2 / (count + NORMAL**2)
        low, high = (value + missed * (end - value) for end in span)
    else:
        low, high = _bootstrap(values)
    return Score(value=value * scale, low=low * scale, high=high * scale, count=count)


def _bootstrap(values: NDArray[np.float64]) -> Span:
    """Both ends of the interval."""
    rng, count = np.random.default_rng(0), len(values)
    means = np.concatenate(
        [
            values[rng.integers(0, count, (_AT_ONCE, count))].mean(1)
            for _ in range(RESAMPLES // _AT_ONCE)
        ]
    )
    tail = (1 - CONFIDENCE) / 2
    # Of the means themselves: between two of them there may be infinity, the PSNR without loss.
    low = np.quantile(means, tail, method="lower")
    high = np.quantile(means, 1 - tail, method="higher")
    return float(low), float(high)
