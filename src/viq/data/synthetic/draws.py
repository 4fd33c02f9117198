"""Small draws from a generator, each one call for one value."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """One of the values."""
    return values[int(rng.integers(len(values)))]


def several(rng: np.random.Generator, values: Sequence[T], count: int) -> list[T]:
    """So many different places' values, in random order; all of them if there are no more."""
    order = rng.permutation(len(values))[:count]
    return [values[int(index)] for index in order]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


def between(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``, both included."""
    return int(rng.integers(low, high + 1))


def scaled(rng: np.random.Generator, low: int, high: int) -> int:
    """An integer from ``low`` to ``high``, small ones as likely as in a logarithmic scale."""
    return min(high, int(low * ((high + 1) / low) ** rng.random()))
