"""Which caption a picture has, and which picture a caption: features mapped to sentence vectors.

Axes: B pictures and their captions, T numbers of a sentence's vector.
"""

from collections.abc import Sequence

import numpy as np

from viq.evaluation.understanding.linear import Matrix


def similarities(pictures: Matrix, captions: Matrix, centre: Matrix) -> Matrix:
    """Cosines (B, B) of pictures' vectors (B, T) with captions' (B, T).

    Both are seen from ``centre`` (T,), the mean of the captions that the map was fitted to: it
    draws every picture towards that, and captions near it would be the answer to all.
    """
    return _unit(pictures - centre) @ _unit(captions - centre).T


def ranks(cosines: Matrix) -> list[int]:
    """How many columns are at least as near to a row as its own, which is on the diagonal."""
    own = np.diagonal(cosines)[:, None]
    return [int(count) - 1 for count in (cosines >= own).sum(1)]


def firsts(values: Sequence[str]) -> list[int]:
    """The places where a value is for the first time."""
    places: dict[str, int] = {}
    for place, value in enumerate(values):
        places.setdefault(value, place)
    return [*places.values()]


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / np.maximum(lengths, 1e-12)
    return unit
