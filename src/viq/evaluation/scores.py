"""Means with 95 % confidence intervals, by the bootstrap over items; the same in every run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from viq.evaluation.document import Score

RESAMPLES = 10_000
CONFIDENCE = 0.95
_AT_ONCE = 500  # resamples in memory


def mean_score(values: Sequence[float], *, scale: float = 1.0) -> Score:
    """The mean of one value an item, times ``scale``, with its interval.

    Raises:
        ValueError: there are no values.
    """
    return _score(np.asarray(values, np.float64) * scale)


def paired_difference(
    values: Sequence[float], reference: Sequence[float], *, scale: float = 1.0
) -> Score:
    """The mean of ``values`` minus ``reference``, item by item.

    Raises:
        ValueError: they are not equally many, or none.
    """
    if len(values) != len(reference):
        raise ValueError(f"{len(values)} values against {len(reference)}; pairs are needed.")
    return _score((np.asarray(values, np.float64) - np.asarray(reference, np.float64)) * scale)


def mean_over_tasks(values: Sequence[Sequence[float]], *, scale: float = 1.0) -> Score:
    """The mean of the tasks' means; items are drawn anew inside each task.

    Raises:
        ValueError: there are no tasks, or one has no values.
    """
    if not values:
        raise ValueError("there are no tasks.")
    tasks = [np.asarray(some, np.float64) * scale for some in values]
    means = np.mean([_resampled(some, seed) for seed, some in enumerate(tasks)], axis=0)
    return _with_interval(
        float(np.mean([some.mean() for some in tasks])), means, sum(map(len, tasks))
    )


def _score(values: NDArray[np.float64]) -> Score:
    means = _resampled(values, 0)  # refuses none, of which there is no mean either
    return _with_interval(float(values.mean()), means, len(values))


def _with_interval(value: float, means: NDArray[np.float64], count: int) -> Score:
    tail = (1 - CONFIDENCE) / 2
    # Of the means themselves: between two of them there may be infinity, the PSNR without loss.
    low = np.quantile(means, tail, method="lower")
    high = np.quantile(means, 1 - tail, method="higher")
    return Score(value=value, low=float(low), high=float(high), count=count)


def _resampled(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """The means of ``RESAMPLES`` draws with replacement."""
    if not len(values):
        raise ValueError("there are no values.")
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [
            values[rng.integers(0, len(values), (_AT_ONCE, len(values)))].mean(1)
            for _ in range(RESAMPLES // _AT_ONCE)
        ]
    )
